/* Any bytes as a JPEG, for libFuzzer: a part is decoded as the whole picture is, or refused; never out of bounds. What is
 * remembered of a file makes no difference; what is remembered of another one does, but goes out of no bounds either.
 * A part that is scaled as it is decoded is the one that is scaled when it is there; of which no more is decoded than is
 * shown, so that damage behind that is not seen.
 *
 * `make fuzz-jpeg` builds and runs it. The last bytes of an input say which part; they may follow a whole JPEG. */

#include <stdint.h>
#include <stdlib.h>

#define LARGE 0 /* several codes are taken at once in every file */
#define APART 2 /* small pictures are entered, too, and have several stretches */
#define POINTS 4
#include "../../loader_service/dataset/sources/jpeg_region.c"
#include "../../loader_service/dataset/transforms/geometry/bilinear.c"

enum { CHOICES = 6, LARGEST = 1 << 18 }; /* pixels: larger pictures take long, and show nothing else */
enum { NOT = 0, FILE_HASH = 7 };

static Stretch memory[3];

static unsigned char *decoded(const uint8_t *data, size_t size, uint64_t file, const int part[6]) {
    unsigned char *out = malloc((size_t)part[4] * part[5] * part[0]);
    if (jpeg_region(data, size, file, part[0], part[1], part[2], part[3], part[4], part[5], out) == DONE)
        return out;
    free(out);
    return NULL;
}

static void check_same(const unsigned char *expected, unsigned char *found, const int part[6]) {
    if (!expected != !found || (found && memcmp(expected, found, (size_t)part[4] * part[5] * part[0]) != 0))
        abort();
    free(found);
}

static void check_scaled(const uint8_t *data, size_t size, int undamaged, const unsigned char *expected,
                         const int part[6], const uint8_t *choice) {
    int height = 1 + choice[0] / 2, width = 1 + choice[1], top = choice[2] * height >> 8, left = choice[3] * width >> 8;
    int rows = 1 + (choice[5] * (height - top) >> 8), columns = 1 + (37 * choice[5] % 256 * (width - left) >> 8);
    int mirror = choice[4] % 4, down = choice[3] % 4, across = choice[0] % 3;
    while (!(part[4] >> down))
        down--;
    while (!(part[5] >> across))
        across--;
    size_t nbytes = (size_t)rows * columns * part[0];
    unsigned char *found = malloc(nbytes), *again = malloc(nbytes);
    int done = jpeg_scaled(data, size, FILE_HASH, part[0], part[2], part[3], part[4], part[5], down, across, height,
                           width, top, left, rows, columns, mirror, found) == DONE;
    if (undamaged && !done && can_scale())
        abort();
    if (expected && done &&
        (scale_bilinear(expected, part[4], part[5], (ptrdiff_t)part[5] * part[0], part[0], down, across, height, width, top, left,
                        rows, columns, mirror, again) != 0 ||
         memcmp(found, again, nbytes) != 0))
        abort();
    free(found);
    free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    int sides[2];
    if (size < CHOICES || jpeg_size(data, size, sides) != DONE || (int64_t)sides[0] * sides[1] > LARGEST)
        return 0;
    const uint8_t *choice = data + size - CHOICES;
    int channels = (int[]){1, 3, 4, 3}[choice[0] % 4], shrink = 1 << (choice[1] % 4);
    int rows = (sides[0] + shrink - 1) / shrink, columns = (sides[1] + shrink - 1) / shrink;
    int top = choice[2] * rows >> 8, left = choice[3] * columns >> 8;
    int height = 1 + (choice[4] * (rows - top) >> 8), width = 1 + (choice[5] * (columns - left) >> 8);
    const int all[] = {channels, shrink, 0, 0, rows, columns}, some[] = {channels, shrink, top, left, height, width};

    jpeg_remember(memory, sizeof memory);
    free(decoded(data, size, FILE_HASH, some)); /* with what is remembered of the input before this one */
    memset(memory, 0, sizeof memory);

    unsigned char *whole = decoded(data, size, NOT, all), *part = decoded(data, size, NOT, some);
    if (whole && !part)
        abort(); /* what can be decoded in whole can be decoded in part */
    for (int row = 0; whole && row < height; row++) {
        size_t at = ((size_t)(top + row) * columns + left) * channels, nbytes = (size_t)width * channels;
        if (memcmp(whole + at, part + row * nbytes, nbytes) != 0)
            abort(); /* and has the same pixels */
    }
    check_same(part, decoded(data, size, FILE_HASH, some), some); /* nothing is known yet */
    check_same(part, decoded(data, size, FILE_HASH, some), some); /* as far as the part reaches */
    check_same(whole, decoded(data, size, FILE_HASH, all), all);
    check_same(part, decoded(data, size, FILE_HASH, some), some); /* all is known */
    if (channels > 1 && shrink == 1)
        check_scaled(data, size, whole != NULL, part, some, choice);
    free(whole);
    free(part);
    return 0;
}
