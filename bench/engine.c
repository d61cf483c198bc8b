/* SPDX-License-Identifier: BSD-3-Clause */

/* engine - nanoseconds per operation of the engine alone
 *
 *     engine [-s SECONDS] [-m MIB] [-t THREADS] [ALLOCATOR...]
 *
 * No socket, no NBD: this shows what a change in disk/ does to the engine.  Each allocator gets a
 * row for one thread and a row for THREADS (one for each processor).  The numbers are the wall
 * time of an operation, times the number of threads: a column with the same number in both rows
 * scales perfectly.  ALLOCATOR is as on nbdkit's command line.
 *
 * The jobs of a row run one after another on one disk of MIB (256), SECONDS (0.5) each.  "fill"
 * starts on an empty disk and ends when it is full; the others use the disk that it filled.
 * Content is random letters out of sixteen, which compresses two to one.  "trim" is a trim of a
 * page and the write that puts the page back.
 */

#include <err.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "disk/disk.h"
#include "places.h"
#include "text/reason.h"

enum { CONTENT = 1 << 20, BLOCK_MAX = 256 << 10, THREADS_MAX = 64, LOOK_AT_CLOCK_EVERY = 16 };

enum op { OP_READ, OP_WRITE, OP_TRIM };

struct job {
    const char *name;
    enum op op;
    uint32_t block;
    bool is_random;
    bool is_first; /* starts on an empty disk, and writes each block once */
};

static const struct job jobs[] = {
    {"fill 4k", OP_WRITE, 4096, true, true},
    {"fill 256k", OP_WRITE, 256 << 10, false, true},
    {"write 4k", OP_WRITE, 4096, true, false},
    {"read 4k", OP_READ, 4096, true, false},
    {"write 256k", OP_WRITE, 256 << 10, false, false},
    {"read 256k", OP_READ, 256 << 10, false, false},
    {"trim 4k", OP_TRIM, 4096, true, false},
};
enum { JOBS = sizeof jobs / sizeof jobs[0] };

struct worker {
    pthread_t thread;
    struct disk *disk;
    const struct job *job;
    uint64_t first, blocks; /* the worker's share of the disk */
    uint64_t done;
    double deadline;
};

/* What is written.  Filled before there are threads, and constant from then on. */
static char content[CONTENT + BLOCK_MAX];

static void make_content(void)
{
    for (size_t i = 0; i < sizeof content; i++)
        content[i] = (char)('a' + place(i, 40) % 16);
}

static int do_one(struct disk *disk, const struct job *job, uint64_t offset, uint64_t i,
                  char *buf)
{
    const char *from = content + i * 64 % CONTENT;
    int error;

    switch (job->op) {
    case OP_READ:
        return disk_read(disk, offset, job->block, buf);
    case OP_WRITE:
        return disk_write(disk, offset, job->block, from);
    case OP_TRIM:
        error = disk_trim(disk, offset, job->block);
        return error ? error : disk_write(disk, offset, job->block, from);
    }
    return -EINVAL;
}

/* Go through the blocks of the share, again and again: in the order of places.h, or one after
 * another. */
static void *work(void *opaque)
{
    struct worker *w = opaque;
    const unsigned bits = place_bits(w->blocks);
    const uint64_t once_over = w->job->is_random ? UINT64_C(1) << bits : w->blocks;
    char *buf = malloc(BLOCK_MAX);

    if (!buf)
        errx(EXIT_FAILURE, "out of memory");
    for (uint64_t i = 0; !w->job->is_first || i < once_over; i++) {
        uint64_t block = w->job->is_random ? place(i, bits) : i % w->blocks;
        int error;

        if (!w->job->is_first && i % LOOK_AT_CLOCK_EVERY == 0 && clock_seconds() > w->deadline)
            break;
        if (block >= w->blocks) /* happens if the share is no power of two */
            continue;
        error = do_one(w->disk, w->job, (w->first + block) * w->job->block, i, buf);
        if (error)
            errx(EXIT_FAILURE, "%s: %s", w->job->name, strerror(-error));
        w->done++;
    }
    free(buf);
    return NULL;
}

static double ns_per_op(struct disk *disk, const struct job *job, unsigned threads,
                        double seconds)
{
    struct worker workers[THREADS_MAX];
    const uint64_t share = disk_size(disk) / job->block / threads;
    const double start = clock_seconds();
    uint64_t done = 0;

    for (unsigned t = 0; t < threads; t++) {
        workers[t] = (struct worker){.disk = disk,
                                     .job = job,
                                     .first = t * share,
                                     .blocks = share,
                                     .deadline = start + seconds};
        int error = pthread_create(&workers[t].thread, NULL, work, &workers[t]);
        if (error)
            errx(EXIT_FAILURE, "thread: %s", strerror(error));
    }
    for (unsigned t = 0; t < threads; t++) {
        pthread_join(workers[t].thread, NULL);
        done += workers[t].done;
    }
    return (clock_seconds() - start) * 1e9 * threads / (double)(done ? done : 1);
}

static struct disk *new_disk(const struct disk_options *options)
{
    struct disk *disk;
    int error = disk_create(options, &disk);

    if (!error)
        error = disk_start(disk);
    if (error)
        errx(EXIT_FAILURE, "disk: %s", strerror(-error));
    return disk;
}

static void print_row(const char *allocator, const struct disk_options *options, unsigned threads,
                      double seconds)
{
    struct disk *disk = NULL;

    printf("%-10s %7u", allocator, threads);
    for (size_t i = 0; i < JOBS; i++) {
        if (jobs[i].is_first) {
            disk_destroy(disk);
            disk = new_disk(options);
        }
        printf(" %10.0f", ns_per_op(disk, &jobs[i], threads, seconds));
        fflush(stdout);
    }
    putchar('\n');
    disk_destroy(disk);
}

static void print_header(void)
{
    printf("%-10s %7s", "ns per op", "threads");
    for (size_t i = 0; i < JOBS; i++)
        printf(" %10s", jobs[i].name);
    putchar('\n');
}

static void print_allocator(const char *allocator, uint64_t size, unsigned threads,
                            double seconds)
{
    struct disk_options options = {.size = size, .level = DISK_LEVEL_DEFAULT};
    struct reason reason;

    if (disk_parse_allocator(allocator, &options, &reason) < 0)
        errx(EXIT_FAILURE, "%s", reason.text);
    print_row(allocator, &options, 1, seconds);
    if (threads > 1)
        print_row(allocator, &options, threads, seconds);
}

int main(int argc, char **argv)
{
    static const char *const all[] = {"sparse", "malloc", "zstd"};
    long threads = sysconf(_SC_NPROCESSORS_ONLN);
    uint64_t size = UINT64_C(256) << 20;
    double seconds = 0.5;
    int c;

    while ((c = getopt(argc, argv, "s:m:t:")) != -1) {
        if (c == 's')
            seconds = strtod(optarg, NULL);
        else if (c == 'm')
            size = strtoull(optarg, NULL, 10) << 20;
        else if (c == 't')
            threads = strtol(optarg, NULL, 10);
        else
            return EXIT_FAILURE;
    }
    if (threads < 1 || threads > THREADS_MAX || size / BLOCK_MAX < (uint64_t)threads)
        errx(EXIT_FAILURE, "threads are 1 to %d, and each needs a part of the disk", THREADS_MAX);

    make_content();
    print_header();
    for (int i = optind; i < argc; i++)
        print_allocator(argv[i], size, (unsigned)threads, seconds);
    for (size_t i = 0; optind == argc && i < sizeof all / sizeof all[0]; i++)
        print_allocator(all[i], size, (unsigned)threads, seconds);
    return EXIT_SUCCESS;
}
