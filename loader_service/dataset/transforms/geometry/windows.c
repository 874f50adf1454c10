/* What is shown of pictures of one size, each copied into a row, mirrored or not.
 *
 * Reason: a small picture is copied in less time than Python takes to say what of it, and mirrored with the copy it is
 * touched once. Where every part lies is checked by who calls. Pixels have any size; nothing is kept between calls.
 */

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__)
#include <tmmintrin.h>
#define HAS_SHUFFLES
#endif

enum { BLOCK = 16, CACHED = 64 }; /* bytes that one instruction turns round; that are read at once */
enum { BEGINNING = 1024 };        /* bytes of a picture that are asked for before its turn */

typedef struct {
    int64_t top, left, left_right, top_bottom; /* where the part begins, in pixels; whether it is mirrored */
} Window;

typedef struct {
    size_t pixel, counted;       /* bytes of a pixel, and of those in a block that are whole ones */
    unsigned char places[BLOCK]; /* of a block, where each of its bytes comes from */
} Order;

typedef void Turn(const unsigned char *end, unsigned char *to, size_t nbytes, const Order *order);

/* Write the pixels before `end` from the last one to the first. */
static inline void turn_by(const unsigned char *end, unsigned char *to, size_t nbytes, size_t pixel) {
    for (size_t at = 0; at < nbytes; at += pixel)
        memcpy(to + at, end - at - pixel, pixel);
}

static void turn(const unsigned char *end, unsigned char *to, size_t nbytes, const Order *order) {
    switch (order->pixel) { /* of known sizes, a copy is an instruction or two */
    case 1: turn_by(end, to, nbytes, 1); break;
    case 3: turn_by(end, to, nbytes, 3); break;
    case 4: turn_by(end, to, nbytes, 4); break;
    default: turn_by(end, to, nbytes, order->pixel);
    }
}

#ifdef HAS_SHUFFLES
/* The same, block by block. What is written beyond the whole pixels of one is written again. */
__attribute__((target("ssse3"))) static void turn_blocks(const unsigned char *end, unsigned char *to, size_t nbytes,
                                                         const Order *order) {
    size_t done = 0;
    const size_t counted = order->counted; /* what is written might lie where this does, for all that C knows */
    const __m128i places = _mm_loadu_si128((const __m128i *)order->places);
    for (; done + BLOCK <= nbytes; done += counted) {
        __m128i block = _mm_loadu_si128((const __m128i *)(end - done - BLOCK));
        _mm_storeu_si128((__m128i *)(to + done), _mm_shuffle_epi8(block, places));
    }
    turn(end - done, to + done, nbytes - done, order);
}
#endif

/* Have the cache ask for what is wanted next. */
static inline void fetch(const unsigned char *from, size_t nbytes) {
#ifdef __GNUC__
    for (size_t at = 0; at < nbytes; at += CACHED)
        __builtin_prefetch(from + at);
#endif
}

static Turn *choose_turn(size_t pixel, Order *order) {
    *order = (Order){.pixel = pixel};
#ifdef HAS_SHUFFLES
    if (pixel <= BLOCK && __builtin_cpu_supports("ssse3")) {
        order->counted = BLOCK - BLOCK % pixel;
        for (size_t at = 0; at < order->counted; at++)
            order->places[at] = (unsigned char)(BLOCK - (at / pixel + 1) * pixel + at % pixel);
        return turn_blocks;
    }
#endif
    return turn;
}

/* Copy the part of picture ids[k] that windows[k] says to the k-th place of `out`; sizes are in pixels. */
void copy_windows(const unsigned char *pictures, size_t height, size_t width, size_t pixel, const int64_t *ids,
                  const Window *windows, size_t count, size_t part_height, size_t part_width, unsigned char *out) {
    Order order;
    Turn *turned = choose_turn(pixel, &order);
    const size_t line = width * pixel, nbytes = part_width * pixel;
    for (size_t k = 0; k < count; k++) {
        const Window *window = &windows[k];
        if (k + 1 < count) /* a picture from anywhere: what comes behind its beginning is foreseen by the processor */
            fetch(pictures + ((size_t)ids[k + 1] * height + (size_t)windows[k + 1].top) * line, BEGINNING);
        const unsigned char *from = pictures + ((size_t)ids[k] * height + (size_t)window->top) * line;
        from += (size_t)window->left * pixel;
        if (part_width == width && !window->left_right && !window->top_bottom) {
            memcpy(out, from, part_height * line);
            out += part_height * line;
            continue;
        }
        for (size_t row = 0; row < part_height; row++, out += nbytes) {
            const unsigned char *begin = from + (window->top_bottom ? part_height - 1 - row : row) * line;
            if (window->left_right) { /* a line that is read from its end is waited for, five times as long */
                fetch(window->top_bottom ? begin - line : begin + line, nbytes);
                turned(begin + nbytes, out, nbytes, &order);
            } else
                memcpy(out, begin, nbytes);
        }
    }
}
