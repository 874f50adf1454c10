/* Huffman codes of a JPEG -> coefficients, in place of libjpeg-turbo's own decoder, and faster.
 *
 * Reason: to parse the codes is more than half of the work of decoding a photo, and all of it where a part is not
 * wanted. Here one look into a table tells a code and how long the number behind it is, and eight bytes are taken in at
 * a time. What comes out is the same, to the bit; what is damaged is refused.
 *
 * Where the numbers are not wanted, several codes are taken at once: above a part and beside it; and behind the mean of a
 * block, where a picture is scaled down by eight. Above a part and beside it nothing is parsed, where it is known from
 * another time how to go on behind that: jpeg_points.h. Tables are kept from file to file: most have the same ones.
 *
 * It takes the place of `decode_mcu`, which libjpeg calls by a pointer: once for each group of blocks, with NULL for a
 * group whose coefficients nobody wants. Restart intervals are left to libjpeg. libjpeg's source is not advanced
 * until the end, so the data must lie in memory as a whole.
 */

#include <stdint.h>

#include "jpeg_points.h"

#ifdef __GNUC__
#define INLINE static inline __attribute__((always_inline)) /* what is in registers is to stay there */
#else
#define INLINE static inline
#endif
#define LOOK 10 /* bits that are looked at at once */
#define LEAP 11 /* where nobody wants the numbers */
enum { LEAPS = 5, CODES = 2 }; /* that 56 bits are enough for: 5 * 11; 16 and 15 for a number, and LOOK and 15 */
enum { LONGEST_CODE = 16, COEFFICIENTS = 64, FARTHEST = 1 << 24 };
#ifndef LARGE
#define LARGE (1 << 18) /* bytes of codes, from which on tables of leaps are made for one file alone */
#endif
enum { BEYOND = D_MAX_BLOCKS_IN_MCU * COEFFICIENTS * 4 + 8 }; /* bytes that a group may be taken to have, damaged */

#if JPEG_LIB_VERSION >= 70
#define SIDE(part) ((part)->DCT_h_scaled_size) /* pixels that a block is scaled to; always as many down as across */
#define LEAST_SIDE(jpeg) ((jpeg)->min_DCT_h_scaled_size)
#else
#define SIDE(part) ((part)->DCT_scaled_size)
#define LEAST_SIDE(jpeg) ((jpeg)->min_DCT_scaled_size)
#endif

/* Whoever includes this says where it is kept. */
typedef struct Huffman Huffman;
static Huffman *huffman_of(j_decompress_ptr jpeg);

/* What stands at the beginning of some bits: a code, and a number of so many bits behind it. In one word: bits of both;
 * bits of the code; zeros before the number; bits of the number. It is 0, if the code is longer than what is looked at. */
typedef uint32_t Found;
#define ALL(found) ((found) & 63) /* as processors do it anyway that shift a word of 64 bits */
#define CODE(found) ((found) >> 8 & 255)
#define RUN(found) ((found) >> 16 & 255)
#define SIZE(found) ((found) >> 24)

/* As many codes as lie in some bits, with the numbers behind them. In one word: bits of all; by how many coefficients they
 * lead on; whether the block ends with them. It is 0, if the first one is longer than what is looked at. */
typedef uint32_t Leap;
#define ENDS (1u << 16)

typedef struct {
    int made;
    JHUFF_TBL told; /* what it was made of */
    Found found[1 << LOOK];
    int32_t last[LONGEST_CODE + 1], offset[LONGEST_CODE + 1]; /* of each length: the last code; from code to symbol */
    int leaps;                                                /* whether there are any */
    Leap leap[1 << LEAP];
} Table;

typedef struct {
    const unsigned char *next; /* byte */
    uint64_t bits;             /* the next ones, from the highest on */
    int count;                 /* of those that are not among the bytes from `next` on */
} Bits;

/* How one block of a group is decoded. */
typedef struct {
    const Table *dc, *ac; /* of this thread, which takes long to find them */
    int *before;          /* the first number of the block before it */
    int flat;             /* nobody wants more than its first number */
} Block;

struct Huffman {
    Bits bits;
    const unsigned char *codes, *end; /* of the copy; NULL, if libjpeg decodes */
    const unsigned char *behind;      /* what was copied */
    int dc[MAX_COMPS_IN_SCAN];
    Block blocks[D_MAX_BLOCKS_IN_MCU];
    uint32_t at, asked;             /* the group whose codes come next; the next one that libjpeg asks for */
    JDIMENSION column, first, last; /* of groups, in their row: the next one that is asked for; those that are wanted */
    Points points;
};

/* Of each thread, since nobody holds a lock. */
static __thread Table dc_tables[NUM_HUFF_TBLS], ac_tables[NUM_HUFF_TBLS];

/* As in jpegint.h, from libjpeg 6b to libjpeg-turbo 3.1. */
typedef struct {
    void (*start_pass)(j_decompress_ptr);
    boolean (*decode_mcu)(j_decompress_ptr, JBLOCKROW *);
    boolean insufficient_data;
} Entropy;

/* Where each coefficient belongs; what damaged data place beyond the last one goes there, as in libjpeg. */
static const unsigned char PLACES[COEFFICIENTS + 16] = {
    0,  1,  8,  16, 9,  2,  3,  10, 17, 24, 32, 25, 18, 11, 4,  5,  12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13,
    6,  7,  14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31,
    39, 46, 53, 60, 61, 54, 47, 55, 62, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63,
};

static Found found_of(uint32_t length, uint32_t symbol) {
    uint32_t size = symbol & 15;
    return size << 24 | symbol >> 4 << 16 | length << 8 | (length + size);
}

static int is_same(const JHUFF_TBL *one, const JHUFF_TBL *other) {
    return !memcmp(one->bits, other->bits, sizeof one->bits) && !memcmp(one->huffval, other->huffval, sizeof one->huffval);
}

/* Have the table of a code, which libjpeg has found to be one. Return whether it was there. */
static int make_table(const JHUFF_TBL *told, Table *table) {
    if (table->made && is_same(told, &table->told))
        return 1;
    int32_t code = 0, symbol = 0;
    table->made = table->leaps = 0;
    memset(table->found, 0, sizeof table->found);
    for (int length = 1; length <= LONGEST_CODE; length++, code <<= 1) {
        table->offset[length] = symbol - code;
        for (int k = 0; k < told->bits[length]; k++, code++, symbol++) {
            if (length > LOOK)
                continue;
            int first = code << (LOOK - length), end = (code + 1) << (LOOK - length);
            for (int at = first; at < end && at < 1 << LOOK; at++)
                table->found[at] = found_of((uint32_t)length, told->huffval[symbol & 255]);
        }
        table->last[length] = code - 1;
    }
    table->told = *told;
    table->made = 1;
    return 0;
}

static Leap leap_of(uint32_t bits, const Table *table) {
    Leap leap = 0;
    for (;;) {
        uint32_t rest = bits << ALL(leap) & ((1 << LEAP) - 1);
        Found found = table->found[rest >> (LEAP - LOOK)];
        if (!found || ALL(leap) + ALL(found) > LEAP)
            return leap;
        leap += ALL(found);
        if (!SIZE(found) && RUN(found) != 15)
            return leap | ENDS;
        leap += (RUN(found) + 1) << 8;
    }
}

static void make_leaps(Table *table) {
    if (table->leaps)
        return;
    for (uint32_t bits = 0; bits < 1 << LEAP; bits++)
        table->leap[bits] = leap_of(bits, table);
    table->leaps = 1;
}

/* Copy coded bytes without what stands for 0xFF among them, up to a marker, or the end. Return the end of the copy. */
static unsigned char *copy_codes(const unsigned char **source, const unsigned char *end, unsigned char *to) {
    const unsigned char *from = *source;
    while (from < end) {
        const unsigned char *mark = memchr(from, 0xFF, end - from);
        size_t plain = (mark ? mark : end) - from;
        memcpy(to, from, plain);
        to += plain;
        from += plain;
        if (!mark || end - mark < 2 || mark[1] != 0)
            break;
        *to++ = 0xFF;
        from += 2;
    }
    *source = from;
    return to;
}

/* Have 56 bits or more. */
INLINE void refill(Bits *from) {
    uint64_t bytes = 0;
#if defined(__GNUC__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    memcpy(&bytes, from->next, 8);
    bytes = __builtin_bswap64(bytes);
#else
    for (int k = 0; k < 8; k++)
        bytes = bytes << 8 | from->next[k];
#endif
    from->bits |= bytes >> from->count;
    from->next += (63 - from->count) >> 3;
    from->count |= 56;
}

static Found find_longer(j_decompress_ptr jpeg, uint64_t bits, const Table *table) {
    for (int length = LOOK + 1; length <= LONGEST_CODE; length++) {
        int32_t code = (int32_t)(bits >> (64 - length));
        if (code <= table->last[length])
            return found_of((uint32_t)length, table->told.huffval[(code + table->offset[length]) & 255]);
    }
    jpeg->err->error_exit((j_common_ptr)jpeg); /* no code */
    return 0;
}

/* Look at a code. There must be bits enough for one that is not longer than what is looked at, and for its number. */
INLINE Found look(j_decompress_ptr jpeg, Bits *from, const Table *table) {
    Found found = table->found[from->bits >> (64 - LOOK)];
    if (!found) {
        refill(from);
        found = find_longer(jpeg, from->bits, table);
    }
    return found;
}

INLINE void go_past(Bits *from, uint32_t bits) {
    from->bits <<= bits;
    from->count -= bits;
}

/* Return the number that was taken with its code: one that begins with 0 is negative. */
INLINE int number_of(Found found, uint64_t before) {
    const int64_t bits = (int64_t)(before << CODE(found));
    const int size = SIZE(found), sign = (int)(~bits >> 63); /* -1, if it begins with 0 */
    return (int)((uint64_t)bits >> (64 - size)) + (sign & (int)(1 - (1u << size)));
}

/* Go past the numbers of a block behind its first one. */
INLINE void skip_block(j_decompress_ptr jpeg, Bits *from, const Table *ac) {
    for (int k = 1; k < COEFFICIENTS;) {
        refill(from);
        int leaps = 0;
        for (; leaps < LEAPS; leaps++) { /* for which there are bits enough */
            Leap leap = ac->leap[from->bits >> (64 - LEAP)];
            int behind = k + (leap >> 8 & 255), ends = leap >> 16;
            if (!leap || behind + ends > COEFFICIENTS) /* the last codes are those of the next block */
                break;
            go_past(from, ALL(leap));
            k = behind;
            if (ends)
                return;
        }
        if (leaps == LEAPS || k >= COEFFICIENTS)
            continue;
        refill(from);
        Found found = look(jpeg, from, ac);
        go_past(from, ALL(found));
        if (!SIZE(found) && RUN(found) != 15)
            return;
        k += RUN(found) + 1;
    }
}

/* Decode one block; `block` is NULL, or zeros. */
INLINE void decode_block(j_decompress_ptr jpeg, Bits *from, const Block *of, JCOEF *block) {
    const Table *ac = of->ac;
    int *before = of->before;
    refill(from);
    Found found = look(jpeg, from, of->dc);
    if (SIZE(found))
        *before += number_of(found, from->bits);
    go_past(from, ALL(found));
    if (*before > FARTHEST || *before < -FARTHEST)
        jpeg->err->error_exit((j_common_ptr)jpeg);
    if (block)
        block[0] = (JCOEF)*before;
    if ((!block || of->flat) && ac->leaps) {
        skip_block(jpeg, from, ac);
        return;
    }
    for (int k = 1; k < COEFFICIENTS;) {
        refill(from);
        for (int codes = 0; codes < CODES && k < COEFFICIENTS; codes++, k++) {
            found = look(jpeg, from, ac);
            k += RUN(found);
            if (block && SIZE(found))
                block[PLACES[k]] = (JCOEF)number_of(found, from->bits);
            go_past(from, ALL(found));
            if (!SIZE(found) && RUN(found) != 15)
                return;
        }
    }
}

/* Remember how to go on at the group that comes next. */
static void remember_here(Huffman *huffman) {
    const Bits *bits = &huffman->bits;
    const uint32_t bit = (uint32_t)((bits->next - huffman->codes) * 8 - bits->count);
    remember(&huffman->points, &(Point){huffman->at, bit, {huffman->dc[0], huffman->dc[1], huffman->dc[2]}});
}

/* Decode the blocks of the group that comes next; nobody wants them, if `blocks` is NULL. */
INLINE void decode_group(j_decompress_ptr jpeg, Huffman *huffman, JBLOCKROW *blocks) {
    if (huffman->at % APART == 0 && huffman->points.file)
        remember_here(huffman);
    Bits bits = huffman->bits;
    for (int k = 0; k < jpeg->blocks_in_MCU; k++)
        decode_block(jpeg, &bits, &huffman->blocks[k], blocks ? blocks[k][0] : NULL);
    huffman->bits = bits;
    huffman->at++;
    if (bits.next - bits.count / 8 > huffman->end) /* it ran into what follows the copy */
        jpeg->err->error_exit((j_common_ptr)jpeg);
}

/* Go on at the last point that is known of a group's stretch, and not behind the group. Return whether that leads on. */
static int enter(Huffman *huffman, uint32_t group) {
    Point point;
    if (!find_point(&huffman->points, group, &point) || point.group <= huffman->at ||
        point.bit / 8 > (size_t)(huffman->end - huffman->codes))
        return 0;
    huffman->bits = (Bits){huffman->codes + point.bit / 8, 0, 0};
    refill(&huffman->bits);
    go_past(&huffman->bits, point.bit % 8);
    for (int part = 0; part < PARTS; part++)
        huffman->dc[part] = point.dc[part];
    huffman->at = point.group;
    return 1;
}

/* Parse nothing of what comes before a group, as far as is known how; or before the next stretch. */
static void come_near(Huffman *huffman, uint32_t group) {
    const uint32_t last = huffman->at | (STRETCH - 1);
    if (huffman->points.file && !enter(huffman, group) && last < group)
        enter(huffman, last);
}

/* Come to a group; nobody wants those before it. */
INLINE void come_to(j_decompress_ptr jpeg, Huffman *huffman, uint32_t group) {
    come_near(huffman, group);
    while (huffman->at < group) {
        decode_group(jpeg, huffman, NULL);
        if (huffman->at % STRETCH == 0)
            come_near(huffman, group);
    }
}

/* Decode a group that libjpeg asks for; one that nobody wants is left until one behind it is wanted. */
INLINE void decode_asked(j_decompress_ptr jpeg, Huffman *huffman, JBLOCKROW *blocks) {
    const uint32_t group = huffman->asked++;
    const JDIMENSION column = huffman->column;
    huffman->column = column + 1 == jpeg->MCUs_per_row ? 0 : column + 1;
    if (!blocks || column < huffman->first || column > huffman->last)
        return; /* libjpeg does not look at them: see decompress_onepass */
    if (huffman->at < group)
        come_to(jpeg, huffman, group);
    decode_group(jpeg, huffman, blocks);
}

static boolean decode_mcu(j_decompress_ptr jpeg, JBLOCKROW *blocks) {
    decode_asked(jpeg, huffman_of(jpeg), blocks);
    return TRUE;
}

#if defined(__x86_64__) && defined(__GNUC__)
/* The same: this processor shifts by any number of bits in one instruction, which is a tenth of the time. */
__attribute__((target("bmi2"))) static boolean decode_mcu_bmi2(j_decompress_ptr jpeg, JBLOCKROW *blocks) {
    decode_asked(jpeg, huffman_of(jpeg), blocks);
    return TRUE;
}
#define HAS_BMI2 __builtin_cpu_supports("bmi2")
#else
#define decode_mcu_bmi2 decode_mcu
#define HAS_BMI2 0
#endif

/* Decode what follows the header here, where that can be; `file` is the hash of the file, or 0. */
static void begin_huffman(j_decompress_ptr jpeg, uint64_t file) {
    Huffman *huffman = huffman_of(jpeg);
    huffman->end = NULL;
    huffman->at = huffman->asked = huffman->column = 0;
    if (jpeg->restart_interval || LIBJPEG_TURBO_VERSION_NUMBER >= 3002000)
        return;
    size_t nbytes = jpeg->src->bytes_in_buffer;
    unsigned char *codes = jpeg->mem->alloc_large((j_common_ptr)jpeg, JPOOL_IMAGE, nbytes + BEYOND);
    huffman->behind = jpeg->src->next_input_byte;
    unsigned char *end = copy_codes(&huffman->behind, jpeg->src->next_input_byte + nbytes, codes);
    memset(end, 0, BEYOND);
    huffman->bits = (Bits){codes, 0, 0};
    huffman->codes = codes;
    huffman->end = end;
    huffman->points.file = places && nbytes < UINT32_MAX / 8 ? file : 0;
    huffman->points.stretch.name = 0;
    huffman->points.has_more = 0;
    memset(huffman->dc, 0, sizeof huffman->dc);
    for (int k = 0; k < jpeg->comps_in_scan; k++) {
        const jpeg_component_info *part = jpeg->cur_comp_info[k];
        Table *ac = &ac_tables[part->ac_tbl_no];
        make_table(jpeg->dc_huff_tbl_ptrs[part->dc_tbl_no], &dc_tables[part->dc_tbl_no]);
        if (k && part->ac_tbl_no == jpeg->cur_comp_info[k - 1]->ac_tbl_no)
            continue;
        if (make_table(jpeg->ac_huff_tbl_ptrs[part->ac_tbl_no], ac) || nbytes > LARGE)
            make_leaps(ac);
    }
    for (int k = 0; k < jpeg->blocks_in_MCU; k++) {
        int number = jpeg->MCU_membership[k];
        const jpeg_component_info *part = jpeg->cur_comp_info[number];
        huffman->blocks[k] =
            (Block){&dc_tables[part->dc_tbl_no], &ac_tables[part->ac_tbl_no], &huffman->dc[number], SIDE(part) == 1};
    }
    ((Entropy *)jpeg->entropy)->decode_mcu = HAS_BMI2 ? decode_mcu_bmi2 : decode_mcu;
}

/* Only these columns are wanted, from a group's first one on: as many as jpeg_crop_scanline leaves. */
static void want_columns(j_decompress_ptr jpeg, JDIMENSION first, JDIMENSION columns) {
    Huffman *huffman = huffman_of(jpeg);
    JDIMENSION width = LEAST_SIDE(jpeg) * (jpeg->num_components == 1 ? 1 : jpeg->max_h_samp_factor);
    huffman->first = first / width;
    huffman->last = (first + columns - 1) / width;
}

/* All rows were decoded: go past what nobody wanted of the last ones, and let libjpeg read on behind them. Return
 * whether there was nothing else among the codes. */
static int end_huffman(j_decompress_ptr jpeg) {
    Huffman *huffman = huffman_of(jpeg);
    if (!huffman->end)
        return 1;
    come_to(jpeg, huffman, huffman->asked);
    jpeg->src->bytes_in_buffer -= huffman->behind - jpeg->src->next_input_byte;
    jpeg->src->next_input_byte = huffman->behind;
    return huffman->bits.next - huffman->bits.count / 8 >= huffman->end;
}

/* Nothing more is read: let others know where this file can be entered. */
static void share_points(j_decompress_ptr jpeg) {
    Huffman *huffman = huffman_of(jpeg);
    if (huffman->end)
        share(&huffman->points);
}
