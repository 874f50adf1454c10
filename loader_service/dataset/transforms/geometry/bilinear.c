/* Pictures in memory, scaled bilinearly: see bilinear.h. */

#include <stdlib.h>

#include "bilinear.h"

enum { AHEAD = 2, CACHED = 64 }; /* lines that are asked for before they are read; bytes that memory is read by */

/* Have the cache ask for a line: of pictures from anywhere, parts are read, and waiting takes a fifth of the time. */
static inline void fetch(const unsigned char *line, size_t nbytes) {
#ifdef __GNUC__
    for (size_t at = 0; at < nbytes; at += CACHED)
        __builtin_prefetch(line + at);
#endif
}

/* Scale a picture of pixels of 3 or 4 bytes. Return 0 if it was done; anything else, if it cannot be done here.
 *
 * lines: bytes from one to the next. down, across: how often it is halved first.
 * height, width: the new size, of which the part is made that begins at top, left. */
int scale_bilinear(const unsigned char *picture, int in_height, int in_width, ptrdiff_t lines, int channels, int down,
                   int across, int height, int width, int top, int left, int part_height, int part_width, int mirror,
                   unsigned char *out) {
    const Scaled made = {height, width, top, left, part_height, part_width, mirror};
    const Halvings halvings = {down, across};
    Scaler scaler;
    size_t scaling = (scaling_nbytes(&made, halvings, in_width, channels) + MARGIN - 1) / MARGIN * MARGIN;
    unsigned char *memory = can_scale() ? malloc(scaling + (size_t)in_width * channels + MARGIN) : NULL;
    if (!memory)
        return 1;
    begin_scaling(&scaler, &made, halvings, in_height, in_width, channels, memory, out);
    const Window read = scaler.read;
    const size_t nbytes = (size_t)read.width * channels;
    const int halved = steps_of(&halvings), end = read.top + read.height;
    picture += read.left * channels;
    for (int line = read.top; line < end; line++) {
        if (!halved && line != wanted(&scaler))
            continue;
        const unsigned char *from = picture + line * lines;
        if ((in_height - 1 - line) * lines < MARGIN) /* nothing may be read behind the picture */
            from = memcpy(memory + scaling, from, nbytes);
        if (line + AHEAD < in_height)
            fetch(picture + (line + AHEAD) * lines, nbytes);
        if (halved)
            halve_line(&scaler, 0, from);
        else
            scale_line(&scaler, line, from);
    }
    free(memory);
    return 0;
}
