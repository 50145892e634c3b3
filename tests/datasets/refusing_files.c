/* Preloaded into a real process: the file system below $REFUSING answers flock with $REFUSE_FLOCK, and fsync of a folder
   with $REFUSE_FSYNC, as Lustre, NFS, CIFS and FUSE do. Everything else is the kernel's. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int refused(int file, const char *which) {
    const char *below = getenv("REFUSING"), *code = getenv(which);
    char link[64], path[4096];
    if (!below || !code) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    if (strncmp(path, below, strlen(below))) return 0;
    errno = atoi(code);
    return 1;
}

int flock(int file, int operation) {
    int (*real)(int, int) = dlsym(RTLD_NEXT, "flock");
    return refused(file, "REFUSE_FLOCK") ? -1 : real(file, operation);
}

int fsync(int file) {
    int (*real)(int) = dlsym(RTLD_NEXT, "fsync");
    struct stat about;
    if (!fstat(file, &about) && S_ISDIR(about.st_mode) && refused(file, "REFUSE_FSYNC")) return -1;
    return real(file);
}
