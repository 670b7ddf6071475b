/* Clocks, histograms, and what /proc tells about the server. */
#include "loadgen.h"

#include <stdio.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

/* Since the first call, so that it fits the twelve digits of a message. */
uint64_t now_ns(void)
{
    static uint64_t start;
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    uint64_t now = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
    if (!start)
        start = now - 1;
    return now - start;
}

double own_cpu_seconds(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

double process_cpu_seconds(int pid)
{
    char path[64], stat[1024];
    unsigned long user = 0, system = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *file = fopen(path, "r");
    if (!file)
        return 0;
    size_t length = fread(stat, 1, sizeof stat - 1, file);
    fclose(file);
    stat[length] = 0;
    char *after_name = stat;
    for (char *p = stat; *p; p++)
        if (*p == ')')
            after_name = p;
    sscanf(after_name, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system);
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

long process_rss_kib(int pid)
{
    char path[64];
    long pages = 0;
    snprintf(path, sizeof path, "/proc/%d/statm", pid);
    FILE *file = fopen(path, "r");
    if (!file)
        return 0;
    if (fscanf(file, "%*d %ld", &pages) != 1)
        pages = 0;
    fclose(file);
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

/* 64 buckets an octave: a value is known to within 1.6 %. */
static unsigned bucket_of(uint64_t value)
{
    if (value < 64)
        return (unsigned)value;
    unsigned shift = 57u - (unsigned)__builtin_clzll(value);
    return (shift + 1) * 64 + (unsigned)(value >> shift & 63);
}

static uint64_t middle_of(unsigned bucket)
{
    if (bucket < 64)
        return bucket;
    unsigned shift = bucket / 64 - 1;
    return ((uint64_t)(64 + bucket % 64) << shift) + ((uint64_t)1 << shift) / 2;
}

void histogram_add(struct histogram *h, uint64_t value)
{
    h->count++;
    h->buckets[bucket_of(value)]++;
    if (value > h->highest)
        h->highest = value;
}

/* The value below which `part` of all values are; 0 where there are none. */
double histogram_at(const struct histogram *h, double part)
{
    uint64_t wanted = (uint64_t)((double)h->count * part), seen = 0;
    for (unsigned i = 0; h->count && i < sizeof h->buckets / sizeof *h->buckets; i++) {
        seen += h->buckets[i];
        if (seen > wanted)
            return (double)middle_of(i);
    }
    return (double)h->highest;
}
