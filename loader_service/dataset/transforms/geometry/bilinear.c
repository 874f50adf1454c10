/* Pictures in memory, scaled bilinearly: see bilinear.h. */

#include "bilinear.h"

/* Scale a picture of pixels of 3 or 4 bytes. Return 0 if it was done; anything else, if it cannot be done here.
 *
 * lines: bytes from one to the next. height, width: the new size, of which the part is made that begins at top, left. */
int scale_bilinear(const unsigned char *picture, int in_height, int in_width, ptrdiff_t lines, int channels, int height,
                   int width, int top, int left, int part_height, int part_width, int mirror, unsigned char *out) {
    const Scaled made = {height, width, top, left, part_height, part_width, mirror};
    const size_t nbytes = (size_t)in_width * channels;
    Scaler scaler;
    void *memory = can_scale() ? begin_scaling(&scaler, &made, in_height, in_width, channels, out) : NULL;
    unsigned char *copy = memory ? malloc(nbytes + BEYOND) : NULL;
    for (int line; copy && (line = wanted(&scaler)) >= 0;) {
        const unsigned char *from = picture + line * lines;
        if ((in_height - 1 - line) * lines < BEYOND) /* nothing may be read behind the picture */
            from = memcpy(copy, from, nbytes);
        scale_line(&scaler, line, from);
    }
    int done = copy != NULL;
    free(copy);
    free(memory);
    return !done;
}
