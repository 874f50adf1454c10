/* Rows of different lengths, copied from where they are: end to end, or each padded.
 *
 * Reason: a row of some kilobytes is copied in less time than Python takes to say from where to where. Rows are taken
 * from anywhere, so the next one is asked for while one is copied.
 */

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { CACHED = 64, SOON = 4096 }; /* bytes that memory is read by; that are asked for of the next row */

static inline void fetch(const unsigned char *from, size_t nbytes) {
#ifdef __GNUC__
    for (size_t at = 0; at < nbytes && at < SOON; at += CACHED)
        __builtin_prefetch(from + at);
#endif
}

/* Whether memory of `held` bytes has so many from `start` on. */
static inline int has(size_t held, int64_t start, size_t nbytes) {
    return start >= 0 && nbytes <= held && (size_t)start <= held - nbytes;
}

/* Copy row k, which are nbytes[k] bytes of `entries` from starts[k] on, to where byte places[k] of `out` is; behind it,
 * as much of `blank`, which has `padded` bytes, as makes it as long.
 *
 * Return how many rows were copied: fewer than `count`, if the next one lies outside of what is held.
 */
size_t copy_rows(const unsigned char *entries, size_t entries_held, const int64_t *starts, const int64_t *nbytes,
                 size_t count, unsigned char *out, size_t out_held, const int64_t *places, const unsigned char *blank,
                 size_t padded) {
    for (size_t k = 0; k < count; k++) {
        const size_t own = (size_t)nbytes[k], all = own < padded ? padded : own; /* below zero is far too many */
        if (!has(entries_held, starts[k], own) || !has(out_held, places[k], all))
            return k;
        if (k + 1 < count && has(entries_held, starts[k + 1], (size_t)nbytes[k + 1]))
            fetch(entries + starts[k + 1], (size_t)nbytes[k + 1]);
        memcpy(out + places[k], entries + starts[k], own);
        memcpy(out + places[k] + own, blank, all - own);
    }
    return count;
}
