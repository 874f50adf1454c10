/* Random numbers as a pure function of a key and a position: `uniforms` of draws.py, in one call.
 *
 * Reason: beside pictures, which drive all else out of the caches, NumPy takes longer to be called ten times than these
 * few numbers take. A worker draws for a whole task, and again for each task.
 */

#include <stddef.h>
#include <stdint.h>

static uint64_t mix(uint64_t counter, uint64_t key) {
    uint64_t z = counter * 0x9E3779B97F4A7C15u + key;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

/* Write `count` numbers in [0, 1) for each position. */
void uniforms(uint64_t key, const int64_t *positions, size_t rows, size_t count, double *out) {
    for (size_t row = 0; row < rows; row++)
        for (size_t number = 1; number <= count; number++)
            *out++ = (double)(mix((uint64_t)positions[row] * count + number, key) >> 11) * 0x1p-53;
}
