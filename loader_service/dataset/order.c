/* Which samples stand at some positions of an epoch: `ShuffledOrder.ids` of order.py, in one call.
 *
 * Reason: NumPy is called a hundred times for each block of positions, so blocks have to be large, and every worker
 * finds out much that another one will use. Small rows are gathered in not much more time than that takes.
 *
 * Positions go through the rounds side by side, in loops that compilers turn into instructions for several of them.
 * Source: Granlund and Montgomery, "Division by invariant integers using multiplication", 1994.
 */

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define INLINE static inline __attribute__((always_inline))
#else
#define INLINE static inline
#endif
#if defined(__x86_64__) && defined(__GNUC__)
#define HAS_WIDE
#endif

enum { ROUNDS = 8, LANES = 64 };

typedef struct {
    uint32_t first, second;
} RoundKey;

typedef struct {
    uint32_t size, factor, half, shift; /* x / size is (((x - t) >> half) + t) >> shift, with t = x * factor >> 32 */
} Divisor;

typedef struct {
    Divisor high, low; /* how many digits there are of each kind */
    const RoundKey *keys;
} Epoch;

static Divisor divisor_of(uint32_t size) {
    uint32_t bits = 0;
    while (((uint64_t)1 << bits) < size)
        bits++;
    uint64_t beyond = ((uint64_t)1 << bits) - size;
    return (Divisor){size, (uint32_t)((beyond << 32) / size + 1), bits > 0, bits ? bits - 1 : 0};
}

/* Add a mixed function of one digit to the other, for all positions. */
INLINE void go_round(uint32_t *digits, const uint32_t *others, Divisor by, RoundKey key) {
    for (int at = 0; at < LANES; at++) {
        uint32_t z = others[at] + key.first;
        z = (z ^ z >> 16) * 0x7FEB352Du;
        z = (z ^ z >> 15) + key.second;
        z *= 0x846CA68Bu;
        z ^= z >> 16;
        uint32_t part = (uint32_t)((uint64_t)z * by.factor >> 32);
        z -= ((((z - part) >> by.half) + part) >> by.shift) * by.size;
        uint32_t total = digits[at] + z, less = total - by.size;
        digits[at] = total < less ? total : less; /* what would be below zero is far above */
    }
}

INLINE void move(uint64_t *numbers, const Epoch *epoch) {
    uint32_t high[LANES], low[LANES];
    for (int at = 0; at < LANES; at++) {
        high[at] = (uint32_t)(numbers[at] / epoch->low.size);
        low[at] = (uint32_t)(numbers[at] % epoch->low.size);
    }
    for (int round = 0; round < ROUNDS; round += 2) {
        go_round(high, low, epoch->high, epoch->keys[round]);
        go_round(low, high, epoch->low, epoch->keys[round + 1]);
    }
    for (int at = 0; at < LANES; at++)
        numbers[at] = (uint64_t)high[at] * epoch->low.size + low[at];
}

typedef void Move(uint64_t *numbers, const Epoch *epoch);

static void move_by_four(uint64_t *numbers, const Epoch *epoch) {
    move(numbers, epoch);
}

#ifdef HAS_WIDE
__attribute__((target("avx2"))) static void move_by_eight(uint64_t *numbers, const Epoch *epoch) {
    move(numbers, epoch);
}
#endif

/* Write the ids at `count` positions, each below `size`, which is at most high_size * low_size. */
void ids_at(const int64_t *positions, size_t count, uint64_t size, uint32_t high_size, uint32_t low_size,
            const RoundKey *keys, int64_t *out) {
    const Epoch epoch = {divisor_of(high_size), divisor_of(low_size), keys};
    Move *moved = move_by_four;
#ifdef HAS_WIDE
    if (__builtin_cpu_supports("avx2"))
        moved = move_by_eight;
#endif
    for (size_t start = 0; start < count; start += LANES) {
        uint64_t numbers[LANES] = {0};
        size_t end = count - start < LANES ? count - start : LANES;
        for (size_t at = 0; at < end; at++)
            numbers[at] = (uint64_t)positions[start + at];
        moved(numbers, &epoch);
        for (size_t at = 0; at < end; at++) {
            while (numbers[at] >= size) { /* rare: by all of them, since one alone takes as long */
                uint64_t again[LANES] = {numbers[at]};
                moved(again, &epoch);
                numbers[at] = again[0];
            }
            out[start + at] = (int64_t)numbers[at];
        }
    }
}
