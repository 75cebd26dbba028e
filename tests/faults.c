/* Counts the file operations below a folder and lets one of them fail. Loaded with LD_PRELOAD by tests/faults.py. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { KILLED = 1, HALF_WRITTEN = 2, DISK_FULL = 3, IO_ERROR = 4 };

static char folder[PATH_MAX];
static int mode, at, count;

void arm(const char *below, int which, int what) {
    strncpy(folder, below, sizeof folder - 1);
    at = which, mode = what, count = 0;
}

int disarm(void) {
    folder[0] = 0;
    return count;
}

static int below(int directory, const char *path) {
    char link[64], base[PATH_MAX];
    if (!folder[0]) return 0;
    if (path && (path[0] == '/' || directory == AT_FDCWD)) return strstr(path, folder) != NULL;
    snprintf(link, sizeof link, "/proc/self/fd/%d", directory);
    ssize_t length = readlink(link, base, sizeof base - 1);
    return length > 0 && (base[length] = 0, strstr(base, folder) != NULL);
}

/* Whether this operation fails; a disk that is full stays so for everything that writes. */
static int fails(int here, int writes) {
    if (!here) return 0;
    int now = ++count == at;
    if (now && (mode == KILLED || mode == HALF_WRITTEN)) kill(getpid(), SIGKILL);
    if (now && mode == IO_ERROR) return errno = EIO;
    if (mode == DISK_FULL && at && (now || (writes && count > at))) return errno = ENOSPC;
    return 0;
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static mode_t mode_of(int flags, va_list rest) { return flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, int) : 0; }

#define OPEN(name)                                                        \
    int name(const char *path, int flags, ...) {                          \
        va_list rest;                                                     \
        va_start(rest, flags);                                            \
        mode_t bits = mode_of(flags, rest);                               \
        va_end(rest);                                                     \
        if (fails(below(AT_FDCWD, path), flags & O_CREAT)) return -1;     \
        return NEXT(name)(path, flags, bits);                             \
    }
#define OPENAT(name)                                                      \
    int name(int directory, const char *path, int flags, ...) {           \
        va_list rest;                                                     \
        va_start(rest, flags);                                            \
        mode_t bits = mode_of(flags, rest);                               \
        va_end(rest);                                                     \
        if (fails(below(directory, path), flags & O_CREAT)) return -1;    \
        return NEXT(name)(directory, path, flags, bits);                  \
    }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

ssize_t write(int file, const void *bytes, size_t length) {
    int here = below(file, NULL);
    if (here && mode == HALF_WRITTEN && count + 1 == at) NEXT(write)(file, bytes, length / 2);
    if (fails(here, 1)) return -1;
    return NEXT(write)(file, bytes, length);
}

int fsync(int file) { return fails(below(file, NULL), 1) ? -1 : NEXT(fsync)(file); }
int close(int file) {
    int failed = fails(below(file, NULL), 0);
    int found = NEXT(close)(file);
    return failed ? errno = failed, -1 : found;
}
int rename(const char *from, const char *to) { return fails(below(AT_FDCWD, to), 0) ? -1 : NEXT(rename)(from, to); }
int mkdir(const char *path, mode_t bits) { return fails(below(AT_FDCWD, path), 1) ? -1 : NEXT(mkdir)(path, bits); }
int rmdir(const char *path) { return fails(below(AT_FDCWD, path), 0) ? -1 : NEXT(rmdir)(path); }
int unlink(const char *path) { return fails(below(AT_FDCWD, path), 0) ? -1 : NEXT(unlink)(path); }
int unlinkat(int directory, const char *path, int flags) {
    return fails(below(directory, path), 0) ? -1 : NEXT(unlinkat)(directory, path, flags);
}
