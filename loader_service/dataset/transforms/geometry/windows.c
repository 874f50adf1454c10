/* What is shown of pictures of one size, each copied into a row, mirrored or not.
 *
 * Reason: a small picture is copied in less time than Python takes to say what of it, and mirrored with the copy it is
 * touched once. Where every part lies is checked by who calls. Pixels have any size; nothing is kept between calls.
 *
 * What is read only much later is written past the caches, where the caller says so: they would hold it no more; and to
 * write a line of memory in part, a processor first reads it, which is a third of all that is moved.
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

/* A block of mirrored pixels is made of two others, which overlap where they need not have all their bytes. */
typedef struct {
    size_t low, high;                            /* bytes from where those begin to the end of what is mirrored */
    unsigned char of_low[BLOCK], of_high[BLOCK]; /* which of their bytes goes where */
} Phase;

typedef struct {
    size_t pixel;       /* bytes of one */
    size_t phases;      /* blocks from where pixels and blocks begin together to where they do again; 0: no blocks */
    int streams;        /* past the caches; what is written begins with a block, and has whole runs of phases */
    Phase phase[BLOCK]; /* pixels of up to BLOCK bytes need no more */
} Order;

/* Write the pixels before `end` from the last one to the first. */
static inline void turn_by(const unsigned char *end, unsigned char *to, size_t nbytes, size_t pixel) {
    for (size_t at = 0; at < nbytes; at += pixel)
        memcpy(to + at, end - at - pixel, pixel);
}

static void turn_pixels(const unsigned char *end, unsigned char *to, size_t nbytes, const Order *order) {
    switch (order->pixel) { /* of known sizes, a copy is an instruction or two */
    case 1: turn_by(end, to, nbytes, 1); break;
    case 3: turn_by(end, to, nbytes, 3); break;
    case 4: turn_by(end, to, nbytes, 4); break;
    default: turn_by(end, to, nbytes, order->pixel);
    }
}

#ifdef HAS_SHUFFLES
/* Say of which bytes a block is made that is written `start` bytes after one with which a pixel begins.
 *
 * Return whether two blocks have all of them.
 */
static int look(Phase *phase, size_t start, size_t pixel) {
    size_t first = start / pixel * pixel, beyond = ((start + BLOCK - 1) / pixel + 1) * pixel; /* whole pixels */
    if (beyond - first > 2 * BLOCK)
        return 0;
    phase->low = beyond, phase->high = first + BLOCK;
    for (size_t at = start; at < start + BLOCK; at++) {
        size_t source = (at / pixel + 1) * pixel - at % pixel; /* bytes from there to the end */
        size_t of_low = phase->low - source, of_high = phase->high - source;
        phase->of_low[at - start] = (unsigned char)(of_low < BLOCK ? of_low : UINT8_MAX); /* that one writes nothing */
        phase->of_high[at - start] = (unsigned char)(of_low < BLOCK ? UINT8_MAX : of_high);
    }
    return 1;
}

__attribute__((always_inline, target("ssse3"))) static inline void
turn_runs(const unsigned char *end, unsigned char *to, size_t nbytes, const Order *order, size_t phases) {
    size_t low[BLOCK], high[BLOCK]; /* what is written might lie where `order` does, for all that C knows */
    __m128i of_low[BLOCK], of_high[BLOCK];
    for (size_t k = 0; k < phases; k++) {
        const Phase *phase = &order->phase[k];
        low[k] = phase->low, high[k] = phase->high;
        of_low[k] = _mm_loadu_si128((const __m128i *)phase->of_low);
        of_high[k] = _mm_loadu_si128((const __m128i *)phase->of_high);
    }
    const int streams = order->streams;
    size_t run = phases * BLOCK, whole = nbytes - nbytes % run;
    for (size_t done = 0; done < whole; done += run)
#pragma GCC unroll 3
        for (size_t k = 0; k < phases; k++) {
            __m128i some = _mm_loadu_si128((const __m128i *)(end - done - low[k]));
            __m128i others = _mm_loadu_si128((const __m128i *)(end - done - high[k]));
            __m128i block = _mm_or_si128(_mm_shuffle_epi8(some, of_low[k]), _mm_shuffle_epi8(others, of_high[k]));
            __m128i *place = (__m128i *)(to + done + k * BLOCK);
            if (streams)
                _mm_stream_si128(place, block);
            else
                _mm_storeu_si128(place, block);
        }
    if (whole < nbytes)
        turn_pixels(end - whole, to + whole, nbytes - whole, order);
}

__attribute__((target("ssse3"))) static void turn_blocks(const unsigned char *end, unsigned char *to, size_t nbytes,
                                                         const Order *order) {
    switch (order->phases) { /* of a known number, all stay in registers */
    case 1: turn_runs(end, to, nbytes, order, 1); break; /* pixels of 1, 2, 4, 8, 16 bytes */
    case 3: turn_runs(end, to, nbytes, order, 3); break; /* of 3, 6, 12 */
    default: turn_runs(end, to, nbytes, order, order->phases);
    }
}

static void stream(const unsigned char *from, unsigned char *to, size_t nbytes) {
    for (size_t at = 0; at < nbytes; at += BLOCK)
        _mm_stream_si128((__m128i *)(to + at), _mm_loadu_si128((const __m128i *)(from + at)));
}
#endif

static Order order_of(size_t pixel, const unsigned char *out, size_t line, int past_caches) {
    Order order = {.pixel = pixel};
#ifdef HAS_SHUFFLES
    if (pixel > BLOCK || !__builtin_cpu_supports("ssse3"))
        return order;
    do {
        if (!look(&order.phase[order.phases], order.phases * BLOCK, pixel)) {
            order.phases = 0;
            return order;
        }
    } while (++order.phases * BLOCK % pixel);
    order.streams = past_caches && (uintptr_t)out % BLOCK == 0 && line % (order.phases * BLOCK) == 0;
#endif
    return order;
}

static inline void turn(const unsigned char *end, unsigned char *to, size_t nbytes, const Order *order) {
#ifdef HAS_SHUFFLES
    if (order->phases) {
        turn_blocks(end, to, nbytes, order);
        return;
    }
#endif
    turn_pixels(end, to, nbytes, order);
}

static inline void copy(const unsigned char *from, unsigned char *to, size_t nbytes, const Order *order) {
#ifdef HAS_SHUFFLES
    if (order->streams) {
        stream(from, to, nbytes);
        return;
    }
#endif
    memcpy(to, from, nbytes);
}

/* Have the cache ask for what is wanted next. */
static inline void fetch(const unsigned char *from, size_t nbytes) {
#ifdef __GNUC__
    for (size_t at = 0; at < nbytes; at += CACHED)
        __builtin_prefetch(from + at);
#endif
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
                  const Window *windows, size_t count, size_t part_height, size_t part_width, unsigned char *out,
                  int past_caches) {
    if (!part_height || !part_width || !pixel)
        return;
    const size_t line = part_width * pixel;
    const Order order = order_of(pixel, out, line, past_caches);
    Parts now = {.pictures = pictures, .height = height, .line = width * pixel, .pixel = pixel, .ids = ids};
    now.windows = windows, now.count = count, now.part_height = part_height, now.nbytes = line;
    Parts soon = now;
    const unsigned char *from, *asked;
    for (size_t nbytes, more, ahead = 0; (nbytes = take_lines(&now, &from)); out += nbytes, ahead -= nbytes) {
        while (ahead < AHEAD + nbytes && (more = take_lines(&soon, &asked))) {
            fetch(asked, more);
            ahead += more;
        }
        if (!order.streams)
            fetch(out + SOON, nbytes);
        if (now.is_turned)
            turn(from + nbytes, out, nbytes, &order);
        else
            copy(from, out, nbytes, &order);
    }
#ifdef HAS_SHUFFLES
    if (order.streams)
        _mm_sfence(); /* whoever is told of it now finds it there */
#endif
}
