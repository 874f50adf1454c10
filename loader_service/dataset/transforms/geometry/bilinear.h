/* Lines of a picture of bytes -> lines of it in another size, mirrored or not: scaled bilinearly, as OpenCV does it.
 *
 * Reason: where photos are kept, or entered where they are needed, scaling is what takes longest, and OpenCV scales
 * pixels of three numbers one number at a time. Here a pixel is looked up at once, together with its neighbour, and
 * mirrored by where it is looked up; lines are taken as a decoder makes them, while they are in the cache.
 *
 * What is scaled down by more than two is halved first, as often as is asked for, down and across: means of two or four.
 * A last line or column that has no other is left out, and what is scaled then still counts it: it ends with a fraction.
 *
 * The arithmetic is OpenCV's, to the bit. Weights have 11 bits. Lines are scaled across first: of 19 bits, 15 are kept;
 * then down: 10 are kept of each of two lines, of whose sum the last two are rounded off. Who calls checks the sizes.
 */

#pragma once

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum {
    WEIGHT = 2048, /* all of it */
    LANES = 4,     /* numbers of a pixel that is scaled across, used or not */
    AT_ONCE = 8,   /* pixels that are mixed at once */
    MARGIN = 16,   /* bytes that may be read from where the last pixel of a line begins */
    MIXED = 32,    /* bytes that may be written at once */
    PAIRS = 2,     /* of pixels, that are halved at once */
    MOST_HALVINGS = 16,
    MIRRORED = 1,
    UPSIDE_DOWN = 2,
};

/* What is made: a part of the picture in its new size. */
typedef struct {
    int height, width; /* the new size */
    int top, left, part_height, part_width;
    int mirror; /* MIRRORED, UPSIDE_DOWN */
} Scaled;

/* A part of a picture, in pixels. */
typedef struct {
    int top, left, height, width;
} Window;

/* How often lines are made one of two, and columns: before all else, as long as either is to be done. */
typedef struct {
    int down, across;
} Halvings;

typedef struct {
    Scaled made;
    Halvings halvings;
    Window read; /* of the input: what is looked at */
    unsigned char *out;
    double in_height; /* once it is halved */
    int channels;
    int line_made; /* the next one that is halved */
    int width[MOST_HALVINGS + 1]; /* of a line before each halving, and after the last */
    unsigned char *held_back[MOST_HALVINGS], *halved[MOST_HALVINGS]; /* the upper line of two; what is made of them */
    int holds[MOST_HALVINGS];
    int columns; /* of the part, and some more, to be AT_ONCE many times */
    int next;    /* the line of the part that is mixed next: of two lines, by these weights */
    int line[2];
    int16_t weight[2];
    int held[2]; /* which lines are scaled across */
    int16_t *across[2];
    int32_t *places;  /* where each column lies in a line, in bytes */
    int32_t *weights; /* two in each, for all LANES; of columns 0, 2, 1, 3, since that is how they are packed */
} Scaler;

static inline int within(int place, double size) { return place < 0 ? 0 : place < (int)size ? place : (int)size - 1; }

/* Return the place in the input that comes before one of the output; write how much that and the next place weigh. */
static inline int look_up(int at, double in, int scaled, int16_t weight[2]) {
    double scale = 1.0 / (scaled / in);
    float exact = (float)((at + 0.5) * scale - 0.5), before = floorf(exact), behind = exact - before;
    weight[0] = (int16_t)lrintf((1.F - behind) * WEIGHT);
    weight[1] = (int16_t)lrintf(behind * WEIGHT);
    return (int)before;
}

static void look_up_line(Scaler *scaler) {
    const Scaled *made = &scaler->made;
    if (scaler->next == made->part_height)
        return;
    int place = look_up(made->top + scaler->next, scaler->in_height, made->height, scaler->weight);
    scaler->line[0] = within(place, scaler->in_height);
    scaler->line[1] = within(place + 1, scaler->in_height);
}

/* Return what is read of a picture of so many lines and columns. */
static Window window_of(const Scaled *made, double in_height, double in_width) {
    int16_t weight[2];
    int top = within(look_up(made->top, in_height, made->height, weight), in_height);
    int left = within(look_up(made->left, in_width, made->width, weight), in_width);
    int last = look_up(made->top + made->part_height - 1, in_height, made->height, weight) + 1;
    int rightmost = look_up(made->left + made->part_width - 1, in_width, made->width, weight) + 1;
    return (Window){top, left, within(last, in_height) - top + 1, within(rightmost, in_width) - left + 1};
}

/* in_left: the column that lines begin with. */
static void look_up_columns(Scaler *scaler, double in_width, int in_left) {
    static const int packed[LANES] = {0, 2, 1, 3};
    const Scaled *made = &scaler->made;
    for (int column = 0; column < scaler->columns; column++) {
        int16_t weight[2] = {0, 0};
        int place = in_left, from_left = made->mirror & MIRRORED ? made->part_width - 1 - column : column;
        if (column < made->part_width) {
            place = look_up(made->left + from_left, in_width, made->width, weight);
            if (place < 0 || place >= (int)in_width - 1) { /* only the edge: it has no neighbour */
                place = within(place, in_width);
                weight[0] = WEIGHT, weight[1] = 0;
            }
        }
        scaler->places[column] = (place - in_left) * scaler->channels;
        int32_t both = (uint16_t)weight[0] | (int32_t)weight[1] << 16;
        int32_t *weights = scaler->weights + column / LANES * LANES * LANES + packed[column % LANES] * LANES;
        for (int lane = 0; lane < LANES; lane++)
            weights[lane] = both;
    }
}

/* Whether this processor can do what follows. */
static int can_scale(void) {
#if defined(__x86_64__) && defined(__GNUC__)
    return __builtin_cpu_supports("avx2");
#else
    return 0;
#endif
}

static inline int steps_of(const Halvings *halvings) {
    return halvings->down > halvings->across ? halvings->down : halvings->across;
}

static inline size_t line_nbytes(int width, int channels) {
    return ((size_t)width * channels + 2 * MARGIN - 1) / MARGIN * MARGIN;
}

/* Return how many bytes of memory `begin_scaling` wants. */
static size_t scaling_nbytes(const Scaled *made, Halvings halvings, int in_width, int channels) {
    size_t columns = ((size_t)made->part_width + AT_ONCE - 1) / AT_ONCE * AT_ONCE;
    size_t nbytes = columns * (2 * LANES * sizeof(int16_t) + (LANES + 1) * sizeof(int32_t));
    return nbytes + 2 * steps_of(&halvings) * line_nbytes(in_width, channels);
}

/* Begin to scale a picture of pixels of 3 or 4 bytes; of a side that is halved, something is left. */
static void begin_scaling(Scaler *scaler, const Scaled *made, Halvings halvings, int height, int width, int channels,
                          void *memory, unsigned char *out) {
    const int columns = (made->part_width + AT_ONCE - 1) / AT_ONCE * AT_ONCE, steps = steps_of(&halvings);
    const double in_height = ldexp(height, -halvings.down), in_width = ldexp(width, -halvings.across);
    const Window window = window_of(made, in_height, in_width);
    *scaler = (Scaler){.made = *made, .halvings = halvings, .out = out, .in_height = in_height, .channels = channels,
                       .columns = columns, .line_made = window.top};
    scaler->read = (Window){window.top << halvings.down, window.left << halvings.across, window.height << halvings.down,
                            window.width << halvings.across};
    scaler->held[0] = scaler->held[1] = -1;
    scaler->across[0] = memory;
    scaler->across[1] = scaler->across[0] + columns * LANES;
    scaler->weights = (int32_t *)(scaler->across[1] + columns * LANES);
    scaler->places = scaler->weights + columns * LANES;
    unsigned char *line = (unsigned char *)(scaler->places + columns);
    for (int step = 0; step <= steps; step++) {
        scaler->width[step] = step < halvings.across ? window.width << (halvings.across - step) : window.width;
        if (step == steps)
            break;
        scaler->held_back[step] = line, line += line_nbytes(scaler->width[step], channels);
        scaler->halved[step] = line, line += line_nbytes(scaler->width[step], channels);
    }
    look_up_columns(scaler, in_width, window.left);
    look_up_line(scaler);
}

/* Return which line is wanted next; -1, if all is made. Lines that are wanted only ever follow one another. */
static inline int wanted(const Scaler *scaler) {
    if (scaler->next == scaler->made.part_height)
        return -1;
    int first = scaler->line[0];
    return first == scaler->held[0] || first == scaler->held[1] ? scaler->line[1] : first;
}

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

__attribute__((always_inline, target("avx2"))) static inline __m256i
two_pixels(const unsigned char *one, const unsigned char *other, const int32_t *weights, __m256i pairs) {
    __m256i both = _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)one)),
                                           _mm_loadu_si128((const __m128i *)other), 1);
    __m256i weighed = _mm256_madd_epi16(_mm256_shuffle_epi8(both, pairs), _mm256_loadu_si256((const __m256i *)weights));
    return _mm256_srai_epi32(weighed, 4);
}

__attribute__((target("avx2"))) static void scale_across(const Scaler *scaler, const unsigned char *line,
                                                         int16_t *out) {
    const __m256i pairs = _mm256_broadcastsi128_si256(
        scaler->channels == 3 ? _mm_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1)
                              : _mm_setr_epi8(0, -1, 4, -1, 1, -1, 5, -1, 2, -1, 6, -1, 3, -1, 7, -1));
    const int32_t *weights = scaler->weights, *place = scaler->places;
    for (int column = 0; column < scaler->columns; column += LANES) {
        __m256i some = two_pixels(line + place[0], line + place[2], weights, pairs);
        __m256i others = two_pixels(line + place[1], line + place[3], weights + 2 * LANES, pairs);
        _mm256_storeu_si256((__m256i *)out, _mm256_packs_epi32(some, others));
        place += LANES, weights += LANES * LANES, out += LANES * LANES;
    }
}

__attribute__((target("avx2"))) static void mix(const Scaler *scaler, const int16_t *first, const int16_t *second,
                                                unsigned char *out) {
    const __m256i of_first = _mm256_set1_epi16(scaler->weight[0]), of_second = _mm256_set1_epi16(scaler->weight[1]);
    const __m256i half = _mm256_set1_epi16(2);
    const __m128i used = _mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1);
    const size_t nbytes = AT_ONCE * scaler->channels;
    size_t left = (size_t)scaler->made.part_width * scaler->channels;
    for (; left; out += nbytes) {
        __m256i mixed[2];
        for (int k = 0; k < 2; k++, first += 2 * AT_ONCE, second += 2 * AT_ONCE) {
            __m256i one = _mm256_mulhi_epi16(_mm256_loadu_si256((const __m256i *)first), of_first);
            __m256i two = _mm256_mulhi_epi16(_mm256_loadu_si256((const __m256i *)second), of_second);
            mixed[k] = _mm256_srai_epi16(_mm256_add_epi16(_mm256_add_epi16(one, two), half), 2);
        }
        __m256i pixels = _mm256_permute4x64_epi64(_mm256_packus_epi16(mixed[0], mixed[1]), 0xD8);
        unsigned char made[MIXED], *to = left < MIXED ? made : out;
        if (scaler->channels == LANES) {
            _mm256_storeu_si256((__m256i *)to, pixels);
        } else {
            _mm_storeu_si128((__m128i *)to, _mm_shuffle_epi8(_mm256_castsi256_si128(pixels), used));
            _mm_storeu_si128((__m128i *)(to + nbytes / 2),
                             _mm_shuffle_epi8(_mm256_extracti128_si256(pixels, 1), used));
        }
        if (to == made)
            memcpy(out, made, left < nbytes ? left : nbytes);
        left -= left < nbytes ? left : nbytes;
    }
}

/* Make means of pixels that lie side by side; with another line, of four. */
__attribute__((target("avx2"))) static void halve_across(const unsigned char *line, const unsigned char *other,
                                                         int made, int channels, unsigned char *out) {
    const __m128i pairs = channels == 3 ? _mm_setr_epi8(0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11, -1, -1, -1, -1)
                                        : _mm_setr_epi8(0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15);
    const __m128i ones = _mm_set1_epi8(1), half = _mm_set1_epi16(other ? 2 : 1);
    const int read = 2 * PAIRS * channels, written = PAIRS * channels;
    for (int column = 0; column < made; column += PAIRS, line += read, out += written) {
        __m128i sum = _mm_maddubs_epi16(_mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)line), pairs), ones);
        if (other) {
            __m128i below = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)other), pairs);
            sum = _mm_add_epi16(sum, _mm_maddubs_epi16(below, ones));
            other += read;
        }
        sum = _mm_add_epi16(sum, half);
        sum = other ? _mm_srli_epi16(sum, 2) : _mm_srli_epi16(sum, 1);
        _mm_storel_epi64((__m128i *)out, _mm_packus_epi16(sum, sum));
    }
}
#else
static void halve_across(const unsigned char *line, const unsigned char *other, int made, int channels,
                         unsigned char *out) {}
static void scale_across(const Scaler *scaler, const unsigned char *line, int16_t *out) {}
static void mix(const Scaler *scaler, const int16_t *first, const int16_t *second, unsigned char *out) {}
#endif

/* Take the line that is wanted, and make all lines that can then be made. */
static void scale_line(Scaler *scaler, int number, const unsigned char *line) {
    int kept = scaler->held[1] == (number == scaler->line[0] ? scaler->line[1] : scaler->line[0]);
    scale_across(scaler, line, scaler->across[!kept]);
    scaler->held[!kept] = number;
    const size_t nbytes = (size_t)scaler->made.part_width * scaler->channels;
    for (const int *held = scaler->held; scaler->next < scaler->made.part_height; look_up_line(scaler)) {
        int first = held[1] == scaler->line[0], second = held[1] == scaler->line[1];
        if (held[first] != scaler->line[0] || held[second] != scaler->line[1])
            return;
        int at = scaler->made.mirror & UPSIDE_DOWN ? scaler->made.part_height - 1 - scaler->next : scaler->next;
        mix(scaler, scaler->across[first], scaler->across[second], scaler->out + at * nbytes);
        scaler->next++;
    }
}

/* Take a line that was halved so often; lines come in turn, those that are read. */
static void halve_line(Scaler *scaler, int step, const unsigned char *line) {
    if (step == steps_of(&scaler->halvings)) {
        int number = scaler->line_made++;
        if (wanted(scaler) == number)
            scale_line(scaler, number, line);
        return;
    }
    const size_t nbytes = (size_t)scaler->width[step] * scaler->channels;
    const int down = step < scaler->halvings.down, across = step < scaler->halvings.across;
    unsigned char *other = scaler->held_back[step], *out = scaler->halved[step];
    if (down && (scaler->holds[step] = !scaler->holds[step])) {
        memcpy(other, line, nbytes);
        return;
    }
    if (across)
        halve_across(line, down ? other : NULL, scaler->width[step + 1], scaler->channels, out);
    else
        for (size_t at = 0; at < nbytes; at++)
            out[at] = (unsigned char)((line[at] + other[at] + 1) >> 1);
    halve_line(scaler, step + 1, out);
}
