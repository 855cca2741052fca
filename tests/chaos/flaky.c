/* Fails one call of the system, once, with an error of choice: for tests, loaded by LD_PRELOAD.
 *
 * $CHAOS_TOKEN names a file with a line "OPERATION ERRNO PART". The first call of that operation (open, read, write,
 * fsync, rename) on a path that contains PART, in any process, takes the file away and fails; $CHAOS_STRUCK gets a line
 * that says which. Without the file nothing happens. System calls go around the functions that are replaced here.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int strike(const char *operation, const char *path)
{
    static const char *token, *struck;
    char text[512], wanted[16], part[400], line[1024];
    int before = errno, code = 0, handle;
    long length;
    if (!token) token = getenv("CHAOS_TOKEN");
    if (!struck) struck = getenv("CHAOS_STRUCK");
    if (!token || !struck || !path) return 0;
    handle = syscall(SYS_openat, AT_FDCWD, token, O_RDONLY | O_CLOEXEC);
    if (handle < 0) { errno = before; return 0; }
    length = syscall(SYS_read, handle, text, sizeof text - 1);
    syscall(SYS_close, handle);
    text[length > 0 ? length : 0] = 0;
    if (sscanf(text, "%15s %d %399s", wanted, &code, part) != 3 || strcmp(operation, wanted) || !strstr(path, part) ||
        syscall(SYS_unlinkat, AT_FDCWD, token, 0)) { errno = before; return 0; }
    handle = syscall(SYS_openat, AT_FDCWD, struck, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    length = snprintf(line, sizeof line, "%s %d %.800s\n", operation, code, path);
    syscall(SYS_write, handle, line, length);
    syscall(SYS_close, handle);
    errno = code;
    return 1;
}

static int strike_handle(const char *operation, int handle)
{
    static const char *token;
    char link[64], path[800];
    int before = errno;
    long length;
    if (!token) token = getenv("CHAOS_TOKEN");
    if (!token || syscall(SYS_faccessat, AT_FDCWD, token, F_OK)) { errno = before; return 0; }
    snprintf(link, sizeof link, "/proc/self/fd/%d", handle);
    length = syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof path - 1);
    errno = before;
    if (length < 0) return 0;
    path[length] = 0;
    return strike(operation, path);
}

#define NEXT(name) static __typeof__(name) *next; if (!next) next = dlsym(RTLD_NEXT, #name)
#define MODE mode_t mode; va_list rest; va_start(rest, flags); mode = va_arg(rest, mode_t); va_end(rest)
#define OPEN(name) int name(const char *path, int flags, ...) \
    { NEXT(name); MODE; return strike("open", path) ? -1 : next(path, flags, mode); }
#define OPENAT(name) int name(int at, const char *path, int flags, ...) \
    { NEXT(name); MODE; return strike("open", path) ? -1 : next(at, path, flags, mode); }
#define FOPEN(name) FILE *name(const char *path, const char *mode) \
    { NEXT(name); return strike("open", path) ? NULL : next(path, mode); }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)
FOPEN(fopen)
FOPEN(fopen64)
ssize_t read(int handle, void *data, size_t size)
{ NEXT(read); return strike_handle("read", handle) ? -1 : next(handle, data, size); }
ssize_t write(int handle, const void *data, size_t size)
{ NEXT(write); return strike_handle("write", handle) ? -1 : next(handle, data, size); }
int fsync(int handle)
{ NEXT(fsync); return strike_handle("fsync", handle) ? -1 : next(handle); }
int rename(const char *from, const char *to)
{ NEXT(rename); return strike("rename", to) ? -1 : next(from, to); }
