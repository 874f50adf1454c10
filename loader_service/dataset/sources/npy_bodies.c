/* What follows the same header in many files, each in a row of its own.
 *
 * Reason: a file in the page cache is opened, read and closed in less than 20 microseconds, of which Python took three.
 * Whatever is not as expected is left to Python, which finds out what it is: another header, a file that is too short,
 * one that cannot be read.
 */

#define _GNU_SOURCE
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "kept_files.h"

enum { MOST_HEADER = 4096, MOST_PATH = 4096 };

typedef struct {
    const char *root; /* ends with a slash */
    const char *bytes;
    size_t nbytes;
    const int64_t *offsets; /* among the bytes, where each name begins, and the last one ends */
    const char *suffix;
    int any_root; /* whether names that begin with a slash are whole paths */
} Paths;

/* Write the path of a file; return 0 if there is none. Names come from elsewhere: their places are not trusted. */
static int path_of(const Paths *paths, int64_t id, char *path) {
    const int64_t start = paths->offsets[id], end = paths->offsets[id + 1];
    if (start < 0 || end <= start || (uint64_t)end > paths->nbytes)
        return 0;
    const char *name = paths->bytes + start;
    const size_t length = (size_t)(end - start), suffix = strlen(paths->suffix);
    const size_t root = paths->any_root && *name == '/' ? 0 : strlen(paths->root);
    if (root >= MOST_PATH || length >= MOST_PATH || root + length + suffix >= MOST_PATH || memchr(name, 0, length))
        return 0;
    memcpy(path, paths->root, root);
    memcpy(path + root, name, length);
    memcpy(path + root + length, paths->suffix, suffix + 1);
    return 1;
}

/* Files of one folder, as `read_bodies` reads them. */
typedef struct {
    const void *header;
    size_t header_nbytes, nbytes; /* of each file: what all begin with, and what follows */
    KeptFiles *kept;              /* NULL: none are */
    int past_caches;
} Bodies;

static int read_body(const Bodies *bodies, int64_t id, const char *path, char *out) {
    char found[MOST_HEADER];
    const size_t header_nbytes = bodies->header_nbytes, nbytes = bodies->nbytes;
    const char *mapped = bodies->kept ? kept_bytes(bodies->kept, id, path, header_nbytes + nbytes) : NULL;
    if (mapped) {
        if (memcmp(mapped, bodies->header, header_nbytes))
            return 0;
        if (bodies->past_caches)
            copy_past(out, mapped + header_nbytes, nbytes);
        else
            memcpy(out, mapped + header_nbytes, nbytes);
        return 1;
    }
    const int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return 0;
    const struct iovec parts[] = {{found, header_nbytes}, {out, nbytes}};
    const ssize_t count = preadv(file, parts, 2, 0);
    const int well = count == (ssize_t)(header_nbytes + nbytes) && memcmp(found, bodies->header, header_nbytes) == 0;
    if (well && bodies->kept)
        keep(bodies->kept, id, file, header_nbytes + nbytes);
    close(file);
    return well;
}

/* Read the bodies of files `ids`, of `nbytes` each; return how many were read before one that is otherwise.
 *
 * Past the caches, if whoever uses them does so later.
 */
size_t read_bodies(const char *root, const char *bytes, size_t bytes_nbytes, const int64_t *offsets, const char *suffix,
                   int any_root, const int64_t *ids, size_t count, const void *header, size_t header_nbytes, char *out,
                   size_t nbytes, KeptFiles *kept, int past_caches) {
    const Paths paths = {root, bytes, bytes_nbytes, offsets, suffix, any_root};
    const Bodies bodies = {header, header_nbytes, nbytes, kept, past_caches};
    char path[MOST_PATH];
    if (header_nbytes > MOST_HEADER)
        return 0;
    for (size_t k = 0; k < count; k++)
        if (!path_of(&paths, ids[k], path) || !read_body(&bodies, ids[k], path, out + k * nbytes))
            return k;
    return count;
}
