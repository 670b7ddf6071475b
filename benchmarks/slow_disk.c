/*
 * Preloaded into a server, makes its disk slow: each flush takes SLOW_DISK_MS milliseconds longer.
 * LD_PRELOAD=slow_disk.so SLOW_DISK_MS=5 server
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

static void wait_for_disk(void)
{
    const char *setting = getenv("SLOW_DISK_MS");
    long milliseconds = setting ? atol(setting) : 5;
    struct timespec time = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    nanosleep(&time, NULL);
}

int fsync(int fd)
{
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    wait_for_disk();
    return real(fd);
}

int fdatasync(int fd)
{
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    wait_for_disk();
    return real(fd);
}
