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

enum { BLOCK = 16, CACHED = 64 }; /* bytes that one instruction turns round; that memory is read by */
enum { AHEAD = 8192, SOON = 4096, CHUNK = 1024 }; /* bytes that are asked for before they are read; before they are
                                                     written; that are copied at once, where lines follow each other */

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

/* What is to be copied, and a cursor in it. */
typedef struct {
    const unsigned char *pictures;
    size_t height, line, pixel; /* of a picture: lines, bytes of one, bytes of a pixel */
    const int64_t *ids;
    const Window *windows;
    size_t count, part_height, nbytes; /* pictures; lines of each that are shown, and bytes of one */

    size_t next, left;         /* the next picture; lines of this one that are not copied */
    const unsigned char *from; /* where its next line is */
    ptrdiff_t step;            /* bytes from there to the one after it */
    int is_turned;             /* whether its lines are mirrored */
} Parts;

/* Go on by some lines that are copied alike. Return how many bytes they have; 0 when all are copied. */
static inline size_t take_lines(Parts *parts, const unsigned char **from) {
    if (!parts->left) {
        if (parts->next == parts->count)
            return 0;
        const Window *window = &parts->windows[parts->next];
        size_t first = (size_t)window->top + (window->top_bottom ? parts->part_height - 1 : 0);
        parts->from = parts->pictures + ((size_t)parts->ids[parts->next] * parts->height + first) * parts->line +
                      (size_t)window->left * parts->pixel;
        parts->step = window->top_bottom ? -(ptrdiff_t)parts->line : (ptrdiff_t)parts->line;
        parts->is_turned = window->left_right != 0;
        parts->left = parts->part_height;
        parts->next++;
    }
    size_t lines = 1;
    if (!parts->is_turned && parts->step == (ptrdiff_t)parts->nbytes) { /* one line follows the other in memory */
        lines = CHUNK / parts->nbytes + 1;
        if (lines > parts->left)
            lines = parts->left;
    }
    *from = parts->from;
    parts->from += parts->step * (ptrdiff_t)lines;
    parts->left -= lines;
    return lines * parts->nbytes;
}

/* Copy the part of picture ids[k] that windows[k] says to the k-th place of `out`; sizes are in pixels.
 *
 * A second cursor runs ahead. Pictures are taken from anywhere, and mirrored from the end of a line: where that is, no
 * processor foresees, and waiting for memory would take a third of the time.
 */
void copy_windows(const unsigned char *pictures, size_t height, size_t width, size_t pixel, const int64_t *ids,
                  const Window *windows, size_t count, size_t part_height, size_t part_width, unsigned char *out) {
    if (!part_height || !part_width || !pixel)
        return;
    Order order;
    Turn *turned = choose_turn(pixel, &order);
    Parts now = {.pictures = pictures, .height = height, .line = width * pixel, .pixel = pixel, .ids = ids};
    now.windows = windows, now.count = count, now.part_height = part_height, now.nbytes = part_width * pixel;
    Parts soon = now;
    const unsigned char *from, *asked;
    for (size_t nbytes, more, ahead = 0; (nbytes = take_lines(&now, &from)); out += nbytes, ahead -= nbytes) {
        while (ahead < AHEAD + nbytes && (more = take_lines(&soon, &asked))) {
            fetch(asked, more);
            ahead += more;
        }
        fetch(out + SOON, nbytes);
        if (now.is_turned)
            turned(from + nbytes, out, nbytes, &order);
        else
            memcpy(out, from, nbytes);
    }
}
