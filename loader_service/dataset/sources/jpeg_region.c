/* A part of a JPEG, decoded into the caller's buffer with the pixels that decoding all of it would give there.
 *
 * Reason: a random crop shows half of a photo, and no Python package decodes only that. Rows above the part are merely
 * parsed, columns beside it are not transformed, and what lies below is not touched.
 *
 * Only the common kinds are taken: baseline, one scan, 8 bits, grey or YCbCr of the usual subsamplings, ended by an end
 * of image. All else, and whatever libjpeg warns of while it reads, is refused: the caller then decodes the whole
 * picture, and is told what is wrong with it. Nothing is printed.
 */

#include <setjmp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <jpeglib.h>

#if !defined(LIBJPEG_TURBO_VERSION_NUMBER) || LIBJPEG_TURBO_VERSION_NUMBER < 2001000
#error "libjpeg-turbo 2.1 or later is needed: jpeg_crop_scanline, jpeg_skip_scanlines"
#endif

#include "../transforms/geometry/bilinear.h"
#include "jpeg_huffman.h"

enum { DONE = 0, REFUSED = 1 };

typedef struct {
    struct jpeg_decompress_struct jpeg; /* first: libjpeg hands out its address */
    struct jpeg_error_mgr errors;
    jmp_buf refuse;
    Huffman huffman;
} Decoder;

static Huffman *huffman_of(j_decompress_ptr jpeg) { return &((Decoder *)jpeg)->huffman; }

static void on_error(j_common_ptr jpeg) { longjmp(((Decoder *)jpeg)->refuse, 1); }

static void on_message(j_common_ptr jpeg, int level) {
    if (level < 0) /* a warning: the data are damaged; all else are traces */
        on_error(jpeg);
}

/* Whether an end of image follows. Among coded pixels, 0xFF is never followed by 0xD9: a file without it is cut off. */
static int ends(const struct jpeg_source_mgr *source) {
    const unsigned char *first = source->next_input_byte;
    for (size_t at = source->bytes_in_buffer; at >= 2; at--)
        if (first[at - 2] == 0xFF && first[at - 1] == 0xD9)
            return 1;
    return 0;
}

static int is_common(j_decompress_ptr jpeg) {
    const jpeg_component_info *part = jpeg->comp_info;
    if (jpeg->data_precision != 8 || jpeg->progressive_mode || jpeg->arith_code || jpeg_has_multiple_scans(jpeg))
        return 0;
    if (jpeg->jpeg_color_space == JCS_GRAYSCALE)
        return jpeg->num_components == 1;
    if (jpeg->jpeg_color_space != JCS_YCbCr || jpeg->num_components != 3)
        return 0;
    if (part[1].h_samp_factor * part[1].v_samp_factor * part[2].h_samp_factor * part[2].v_samp_factor != 1)
        return 0;
    switch (part[0].h_samp_factor * 10 + part[0].v_samp_factor) {
    case 11: case 12: case 21: case 22: case 41: /* 4:4:4, 4:4:0, 4:2:2, 4:2:0, 4:1:1 */
        return 1;
    default:
        return 0;
    }
}

static int begin(Decoder *decoder, const unsigned char *data, size_t nbytes) {
    j_decompress_ptr jpeg = &decoder->jpeg;
    jpeg_create_decompress(jpeg);
    jpeg_mem_src(jpeg, data, nbytes);
    jpeg_read_header(jpeg, TRUE);
    return is_common(jpeg) && ends(jpeg->src) ? DONE : REFUSED;
}

/* Fancy upsampling mixes neighbours, and takes the edges of what is decoded for those of the picture: decode one more
 * pixel on each side, and so many columns that it does not resort to plain upsampling, as it does in tiny pictures. */
static void widen(j_decompress_ptr jpeg, JDIMENSION *left, JDIMENSION *width) {
    JDIMENSION right = *left + *width, least = 8 * jpeg->max_h_samp_factor, all = jpeg->output_width;
    JDIMENSION first = *left > 0 ? *left - 1 : 0, end = right < all ? right + 1 : all;
    if (end - first < least)
        end = first + least < all ? first + least : all;
    if (end - first < least)
        first = end > least ? end - least : 0;
    *left = first;
    *width = end - first;
}

/* Decode a part, and write it to `out`; or what is made of it, if that is anything: line by line, as they come. */
static int decode(j_decompress_ptr jpeg, uint64_t file, int top, int left, int height, int width, const Scaled *made,
                  Halvings halvings, unsigned char *out) {
    jpeg_start_decompress(jpeg);
    if (top < 0 || left < 0 || height < 1 || width < 1 || (JDIMENSION)top > jpeg->output_height ||
        (JDIMENSION)height > jpeg->output_height - top || (JDIMENSION)left > jpeg->output_width ||
        (JDIMENSION)width > jpeg->output_width - left)
        return REFUSED;
    begin_huffman(jpeg, file);
    size_t pixel = jpeg->output_components, nbytes = width * pixel;
    j_common_ptr common = (j_common_ptr)jpeg;
    Window read = {0, 0, height, width};
    Scaler scaler;
    if (made) {
        size_t scaling = scaling_nbytes(made, halvings, width, (int)pixel);
        void *memory = jpeg->mem->alloc_large(common, JPOOL_IMAGE, scaling);
        begin_scaling(&scaler, made, halvings, height, width, (int)pixel, memory, out);
        read = scaler.read;
    }
    JDIMENSION above = top + read.top, first = left + read.left, columns = read.width;
    widen(jpeg, &first, &columns);
    jpeg_crop_scanline(jpeg, &first, &columns); /* which begins further left, where blocks do */
    want_columns(jpeg, first, columns);
    /* Not aligned: to where it is, libjpeg-turbo writes past the caches, and copying what it wrote took a tenth of all. */
    JSAMPROW row = *jpeg->mem->alloc_sarray(common, JPOOL_IMAGE, columns * pixel + 1 + MARGIN, 1) + 1;
    const unsigned char *line = row + (left + read.left - first) * pixel;
    if (above > 0 && jpeg_skip_scanlines(jpeg, above) != above)
        return REFUSED;
    for (int done = 0; done < read.height; done++) {
        if (jpeg_read_scanlines(jpeg, &row, 1) != 1)
            return REFUSED;
        if (!made)
            memcpy(out + done * nbytes, line, nbytes);
        else
            halve_line(&scaler, 0, line);
    }
    int is_last = jpeg->output_scanline == jpeg->output_height; /* row: what follows is read */
    int done = !is_last || (end_huffman(jpeg) && jpeg_finish_decompress(jpeg)) ? DONE : REFUSED;
    share_points(jpeg);
    return done;
}

static void prepare(Decoder *decoder) {
    decoder->jpeg.err = jpeg_std_error(&decoder->errors);
    decoder->errors.error_exit = on_error;
    decoder->errors.emit_message = on_message;
    decoder->jpeg.mem = NULL; /* so that it can be destroyed, if it could not be created */
}

static int two_bytes(const unsigned char *at) { return at[0] << 8 | at[1]; }

/* Write height and width of a JPEG, in pixels, if parts of it might be decoded: `jpeg_region` says for sure. Return DONE
 * or REFUSED. Only its frame header is looked for, since to read all headers takes libjpeg 3 percent of a photo's time. */
int jpeg_size(const unsigned char *data, size_t nbytes, int size[2]) {
    enum { SOF0 = 0xC0, SOF1, SOF15 = 0xCF, DHT = 0xC4, RST0 = 0xD0, SOS = 0xDA, FRAME = 10 };
    const unsigned char *at = data, *end = data + nbytes;
    if (nbytes < 2 || *at++ != 0xFF || *at++ != 0xD8)
        return REFUSED;
    while (end - at >= FRAME && *at++ == 0xFF) {
        int marker = *at++, length = two_bytes(at);
        if (marker == SOF0 || marker == SOF1) {
            size[0] = two_bytes(at + 3), size[1] = two_bytes(at + 5);
            return at[2] == 8 && size[0] && size[1] && (at[7] == 1 || at[7] == 3) ? DONE : REFUSED;
        }
        if (marker < SOF0 || (marker <= SOF15 && marker != DHT) || (marker >= RST0 && marker <= SOS) || length < 2 ||
            marker == 0xFF || length > end - at)
            return REFUSED;
        at += length;
    }
    return REFUSED;
}

/* Remember here where JPEGs can be entered: in zeros, or in what others remember there. */
void jpeg_remember(void *memory, size_t nbytes) {
    stretches = memory;
    places = nbytes / sizeof(Stretch);
}

static int decode_part(const unsigned char *data, size_t nbytes, uint64_t file, int channels, int shrink, int top,
                       int left, int height, int width, const Scaled *made, Halvings halvings, unsigned char *out) {
    Decoder decoder;
    volatile int done = REFUSED; /* libjpeg may jump back here */
    prepare(&decoder);
    if (!setjmp(decoder.refuse) && begin(&decoder, data, nbytes) == DONE) {
        decoder.jpeg.scale_denom = shrink; /* of 1, as the header left it */
        decoder.jpeg.out_color_space = channels == 1 ? JCS_GRAYSCALE : channels == 3 ? JCS_EXT_RGB : JCS_EXT_RGBA;
        done = decode(&decoder.jpeg, file, top, left, height, width, made, halvings, out);
    }
    jpeg_destroy_decompress(&decoder.jpeg);
    return done;
}

/* Decode rows and columns of a JPEG that is scaled down by `shrink`, 1, 2, 4 or 8; in pixels of what it is then.
 *
 * file: a hash of the data, by which it is remembered; 0, if it is not to be. channels: 1 grey, 3 RGB, 4 RGB and 255.
 * out: height x width x channels bytes; undefined, if REFUSED is returned. */
int jpeg_region(const unsigned char *data, size_t nbytes, uint64_t file, int channels, int shrink, int top, int left,
                int height, int width, unsigned char *out) {
    return decode_part(data, nbytes, file, channels, shrink, top, left, height, width, NULL, (Halvings){0}, out);
}

/* Decode rows and columns of a JPEG, of 3 or 4 channels, and scale them as bilinear.c does it; or refuse.
 *
 * down, across: how often they are halved first. new_height, new_width: their new size, of which the part is made that
 * begins at part_top, part_left. */
int jpeg_scaled(const unsigned char *data, size_t nbytes, uint64_t file, int channels, int top, int left, int height,
                int width, int down, int across, int new_height, int new_width, int part_top, int part_left, int part_height, int part_width,
                int mirror, unsigned char *out) {
    const Scaled made = {new_height, new_width, part_top, part_left, part_height, part_width, mirror};
    if (!can_scale())
        return REFUSED;
    return decode_part(data, nbytes, file, channels, 1, top, left, height, width, &made, (Halvings){down, across}, out);
}
