/* Preloaded into a program: notes its file-system calls that change what lies below a directory, and ends it at one.

   SOAK_UNDER: the directory, as the system spells it. SOAK_LOG: a file that gets a line `call place` for each, before
   it is made. SOAK_AT: the number of the call, from 1, at which the program sends itself SOAK_SIGNAL; 0: none. SIGKILL
   comes before the call, but for a write, of which the first half is done. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

static const char *under;
static size_t under_length;
static int note = -1, with = SIGKILL;
static long at;
static atomic_long made;

__attribute__((constructor)) static void begin(void) {
    const char *log = getenv("SOAK_LOG"), *number = getenv("SOAK_AT"), *signum = getenv("SOAK_SIGNAL");
    under = getenv("SOAK_UNDER");
    under_length = under ? strlen(under) : 0;
    if (log) note = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (number) at = atol(number);
    if (signum) with = atoi(signum);
}

/* The path of an open descriptor, "" where it has none. */
static const char *opened(int descriptor, char *place) {
    char link[64];
    snprintf(link, sizeof link, descriptor == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", descriptor);
    ssize_t size = readlink(link, place, PATH_MAX - 1);
    place[size < 0 ? 0 : size] = 0;
    return place;
}

static const char *joined(int folder, const char *path, char *place) {
    if (path[0] == '/') return path;
    size_t size = strlen(opened(folder, place));
    snprintf(place + size, PATH_MAX - size, "/%s", path);
    return place;
}

/* Notes a call. Returns whether the program must die in it. */
static int noted(const char *call, const char *place) {
    if (!under_length || strncmp(place, under, under_length)) return 0;
    if (place[under_length] && place[under_length] != '/') return 0; /* another directory, whose name begins so */
    char line[PATH_MAX + 64];
    int size = snprintf(line, sizeof line, "%s %s\n", call, place + under_length);
    if (note >= 0) syscall(SYS_write, note, line, size);
    if (atomic_fetch_add(&made, 1) + 1 != at) return 0;
    if (with == SIGKILL) return 1;
    kill(getpid(), with);
    return 0;
}

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define PATH_CALL(name, shape, folder, path, arguments) \
    int name shape { \
        char place[PATH_MAX]; \
        if (noted(#name, joined(folder, path, place))) die(); \
        return NEXT(name) arguments; \
    }
PATH_CALL(mkdir, (const char *path, mode_t mode), AT_FDCWD, path, (path, mode))
PATH_CALL(mkdirat, (int folder, const char *path, mode_t mode), folder, path, (folder, path, mode))
PATH_CALL(rmdir, (const char *path), AT_FDCWD, path, (path))
PATH_CALL(unlink, (const char *path), AT_FDCWD, path, (path))
PATH_CALL(unlinkat, (int folder, const char *path, int flags), folder, path, (folder, path, flags))
PATH_CALL(rename, (const char *path, const char *to), AT_FDCWD, path, (path, to))
PATH_CALL(renameat, (int a, const char *path, int b, const char *to), a, path, (a, path, b, to))
PATH_CALL(renameat2, (int a, const char *path, int b, const char *to, unsigned flags), a, path, (a, path, b, to, flags))

#define DESCRIPTOR_CALL(name, shape, arguments) \
    int name shape { \
        char place[PATH_MAX]; \
        if (noted(#name, opened(descriptor, place))) die(); \
        return NEXT(name) arguments; \
    }
DESCRIPTOR_CALL(fsync, (int descriptor), (descriptor))
DESCRIPTOR_CALL(fdatasync, (int descriptor), (descriptor))
DESCRIPTOR_CALL(ftruncate, (int descriptor, off_t size), (descriptor, size))
DESCRIPTOR_CALL(ftruncate64, (int descriptor, off_t size), (descriptor, size))

#define WRITE_CALL(name, shape, half, arguments) \
    ssize_t name shape { \
        char place[PATH_MAX]; \
        if (noted(#name, opened(descriptor, place))) { \
            NEXT(name) half; \
            die(); \
        } \
        return NEXT(name) arguments; \
    }
WRITE_CALL(write, (int descriptor, const void *data, size_t size), (descriptor, data, size / 2), (descriptor, data, size))
WRITE_CALL(pwrite, (int descriptor, const void *data, size_t size, off_t to), (descriptor, data, size / 2, to),
           (descriptor, data, size, to))
WRITE_CALL(pwrite64, (int descriptor, const void *data, size_t size, off_t to), (descriptor, data, size / 2, to),
           (descriptor, data, size, to))

#define OPEN_CALL(name, shape, folder, arguments) \
    int name shape { \
        char place[PATH_MAX]; \
        va_list more; \
        va_start(more, flags); \
        mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(more, mode_t) : 0; \
        va_end(more); \
        if (flags & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC) && noted(#name, joined(folder, path, place))) die(); \
        return NEXT(name) arguments; \
    }
OPEN_CALL(open, (const char *path, int flags, ...), AT_FDCWD, (path, flags, mode))
OPEN_CALL(open64, (const char *path, int flags, ...), AT_FDCWD, (path, flags, mode))
OPEN_CALL(openat, (int folder, const char *path, int flags, ...), folder, (folder, path, flags, mode))
OPEN_CALL(openat64, (int folder, const char *path, int flags, ...), folder, (folder, path, flags, mode))
