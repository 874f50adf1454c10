/* Files that stay mapped after they were read: whoever reads one again copies it, and neither opens nor reads it.
 *
 * Reason: of the time that a file of 128 KB in the page cache takes, the kernel's own copy and the calls around it are
 * nearly all. A copy from a mapping can be written past the caches, which takes 0.6 of that.
 *
 * A mapping is the file: what is written to it is seen. That its path still leads there is asked before each copy, in
 * one call; what is mapped keeps its number, which no other file can have meanwhile.
 *
 * A file that becomes shorter between that call and the end of the copy kills the process, by SIGBUS. Workers can
 * afford it: their rows are made again, by one that finds the file too short. So nobody else keeps any.
 */

#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#if defined(__x86_64__) && defined(__GNUC__)
#include <emmintrin.h>
#define HAS_STREAMS
#endif

enum { LINE = 64, SOON = 2048 }; /* bytes of a line of memory; that are asked for before they are copied */
enum { LEAST_PART = 4 }; /* if fewer than a quarter of a dataset's files may be kept, none are */
enum { ASKED = STATX_INO | STATX_SIZE };

typedef struct {
    const char *start; /* NULL: it is not kept */
    size_t nbytes;
    uint64_t device, number; /* which file it is, whatever it is called */
} KeptFile;

typedef struct {
    size_t count;
    KeptFile files[];
} KeptFiles;

static size_t most_files, most_bytes; /* that this process may keep; one thread of it does */
static size_t files_kept, bytes_kept;

/* Find out which file it is, and of how many bytes; return whether there is one.
 *
 * On a network's file system, what is known of it here may be old: to open it would be to ask anew, and so does this.
 */
static int look_at(int folder, const char *path, int flags, KeptFile *found) {
    struct statx now;
    if (statx(folder, path, flags | AT_STATX_FORCE_SYNC, ASKED, &now) || (now.stx_mask & ASKED) != ASKED)
        return 0;
    *found = (KeptFile){NULL, now.stx_size, (uint64_t)now.stx_dev_major << 32 | now.stx_dev_minor, now.stx_ino};
    return 1;
}

static void give_up(KeptFile *file) {
    munmap((void *)file->start, file->nbytes);
    files_kept--, bytes_kept -= file->nbytes;
    file->start = NULL;
}

/* Have this process keep at most so many files, of so many bytes together. */
void keep_files(size_t files, size_t nbytes) {
    most_files = files, most_bytes = nbytes;
}

/* Return room for as many files as there are; NULL where there is no memory, or too few of them may be kept: those
 * would be seldom met again, and take more to remember than it saves.
 */
KeptFiles *room_for_files(size_t count) {
    KeptFiles *kept =
        count / LEAST_PART < most_files ? calloc(1, sizeof(KeptFiles) + count * sizeof(KeptFile)) : NULL;
    if (kept)
        kept->count = count;
    return kept;
}

void let_files_go(KeptFiles *kept) {
    for (size_t id = 0; id < kept->count; id++)
        if (kept->files[id].start)
            give_up(&kept->files[id]);
    free(kept);
}

/* Map the first bytes of an open file, where that can be done. */
static void keep(KeptFiles *kept, int64_t id, int opened, size_t nbytes) {
    if (files_kept >= most_files || bytes_kept >= most_bytes || nbytes > most_bytes - bytes_kept)
        return;
    KeptFile file;
    if (!look_at(opened, "", AT_EMPTY_PATH, &file) || file.nbytes < nbytes)
        return;
    void *start = mmap(NULL, nbytes, PROT_READ, MAP_SHARED, opened, 0);
    if (start == MAP_FAILED)
        return;
    files_kept++, bytes_kept += nbytes;
    kept->files[id] = (KeptFile){start, nbytes, file.device, file.number};
}

/* Return the first bytes of the file that a path leads to; NULL if they are not kept, or it is another one by now. */
static const char *kept_bytes(KeptFiles *kept, int64_t id, const char *path, size_t nbytes) {
    KeptFile *file = &kept->files[id];
    if (!file->start)
        return NULL;
    KeptFile now;
    if (file->nbytes == nbytes && look_at(AT_FDCWD, path, 0, &now) && now.nbytes >= nbytes &&
        now.device == file->device && now.number == file->number)
        return file->start;
    give_up(file);
    return NULL;
}

/* Copy to where nobody looks soon, past the caches. */
static void copy_past(char *to, const char *from, size_t nbytes) {
    size_t at = 0;
#ifdef HAS_STREAMS
    if ((uintptr_t)to % sizeof(__m128i) == 0) {
        for (; at + LINE <= nbytes; at += LINE) {
            _mm_prefetch(from + at + SOON, _MM_HINT_T0);
#pragma GCC unroll 4
            for (size_t k = 0; k < LINE; k += sizeof(__m128i))
                _mm_stream_si128((__m128i *)(to + at + k), _mm_loadu_si128((const __m128i *)(from + at + k)));
        }
        _mm_sfence();
    }
#endif
    memcpy(to + at, from + at, nbytes - at);
}
