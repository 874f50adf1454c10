/* Where the codes of a JPEG can be entered: access points, found when they are parsed for the first time.
 *
 * Reason: codes differ in length, so that all before a part must be parsed to find where it begins; and in each of its
 * rows, what stands beside it. A random crop shows half of a photo, and another half in each epoch. To go on at a group of
 * blocks, the first bit of its codes is needed, and the numbers that its first ones are told as differences from: ten
 * bytes, for each eighth group.
 *
 * What is known lies in memory that the caller gives: other processes and threads may read and write there as well.
 *
 *     memory    | stretch | stretch | ...    each at a place by its name, the hash of a file and of its own number
 *     stretch   name | sum | count | bit, ... | dc, ...
 *
 * Nobody holds a lock. Who reads takes a copy, and takes it for nothing if its sum is another one: it is being written,
 * or its writer has died. All who know a file know the same of it.
 */

#ifndef APART
#define APART 8    /* groups from point to point */
#define POINTS 128 /* of a stretch; the product of both is a power of two */
#endif
enum { STRETCH = APART * POINTS, PARTS = 3 }; /* groups; colours */
enum { STAYS = 8 };                           /* of so many that would have its place, a stretch gives way to one */

typedef struct {
    uint64_t name;
    uint64_t sum;   /* of what follows */
    uint64_t count; /* the first points, which are known */
    uint32_t bit[POINTS];
    int16_t dc[POINTS][PARTS];
} Stretch;

typedef struct {
    uint32_t group, bit; /* counted from the first ones */
    int dc[PARTS];       /* of each part, the first number of the block before it */
} Point;

/* What a decoder knows of the file that it reads. */
typedef struct {
    uint64_t file;   /* its hash; 0, if nothing is to be remembered of it */
    uint32_t number; /* of the stretch */
    int has_more;    /* than it was found with */
    Stretch stretch; /* its copy */
} Points;

static Stretch *stretches;
static size_t places;

static uint64_t mixed(uint64_t sum, uint64_t word) {
    sum = (sum ^ word) * 0x9E3779B97F4A7C15u;
    return sum ^ sum >> 32;
}

static uint64_t sum_of(const Stretch *stretch) {
    uint64_t sum = mixed(stretch->name, stretch->count);
    for (size_t k = 0; k < stretch->count; k++) {
        const int16_t *dc = stretch->dc[k];
        sum = mixed(sum, stretch->bit[k] | (uint64_t)(uint16_t)dc[0] << 32 | (uint64_t)(uint16_t)dc[1] << 48);
        sum += (uint16_t)dc[2];
    }
    return sum;
}

/* Copy what lies at a place. Return whether it is a stretch. */
static int take(const Stretch *place, Stretch *copy) {
    memcpy(copy, place, sizeof *copy);
    return copy->count <= POINTS && copy->name && copy->sum == sum_of(copy);
}

static uint64_t name_of(uint64_t file, uint32_t number) { return mixed(file, number) | 1; }

static Stretch *place_of(uint64_t name) { return &stretches[(name >> 1) % places]; }

/* Let others know what was found. */
static void share(Points *points) {
    static __thread unsigned int turn;
    if (!points->has_more)
        return;
    Stretch *place = place_of(points->stretch.name), other;
    points->has_more = 0;
    if (take(place, &other)) {
        if (other.name == points->stretch.name ? other.count >= points->stretch.count : ++turn % STAYS)
            return;
    }
    points->stretch.sum = sum_of(&points->stretch);
    memcpy(place, &points->stretch, sizeof *place);
}

/* Look up what is known of a stretch. */
static void turn_to(Points *points, uint32_t number) {
    if (points->number == number && points->stretch.name)
        return;
    share(points);
    uint64_t name = name_of(points->file, number);
    if (!take(place_of(name), &points->stretch) || points->stretch.name != name) {
        points->stretch.name = name;
        points->stretch.count = 0;
    }
    points->number = number;
}

/* Remember a point, if it is the first one that is not known yet. */
static void remember(Points *points, const Point *point) {
    turn_to(points, point->group / STRETCH);
    Stretch *stretch = &points->stretch;
    const uint64_t k = point->group % STRETCH / APART;
    if (k != stretch->count)
        return;
    for (int part = 0; part < PARTS; part++) {
        stretch->dc[k][part] = (int16_t)point->dc[part];
        if (stretch->dc[k][part] != point->dc[part])
            return; /* damaged */
    }
    stretch->bit[k] = point->bit;
    stretch->count++;
    points->has_more = 1;
}

/* Find the last known point of a group's stretch that is not behind the group. Return whether there is one. */
static int find_point(Points *points, uint32_t group, Point *found) {
    turn_to(points, group / STRETCH);
    const Stretch *stretch = &points->stretch;
    if (!stretch->count)
        return 0;
    uint32_t k = group % STRETCH / APART;
    if (k >= stretch->count)
        k = (uint32_t)stretch->count - 1;
    *found = (Point){points->number * STRETCH + k * APART, stretch->bit[k], {0}};
    for (int part = 0; part < PARTS; part++)
        found->dc[part] = stretch->dc[k][part];
    return 1;
}
