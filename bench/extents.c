/* SPDX-License-Identifier: BSD-3-Clause */

/* extents - the whole map of the largest disk in one call
 *
 *     extents [PAGES]
 *
 * A sparse disk of 2^63-1 bytes with PAGES (1000) pages of data scattered over it.  Asked of the
 * engine, not over NBD, since a request without extended headers ends at 4 GiB.  Prints the
 * median time in milliseconds and how many extents were told.
 */

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "disk/allocator.h"
#include "disk/disk.h"
#include "places.h"

enum { PAGE = 4096, ROUNDS = 9 };

static _Noreturn void die(const char *what, int error)
{
    fprintf(stderr, "extents: %s: %s\n", what, strerror(-error));
    exit(EXIT_FAILURE);
}

static double now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static int count_one(void *opaque, uint64_t offset, uint64_t count, bool hole)
{
    uint64_t *told = opaque;

    (void)offset;
    (void)count;
    (void)hole;
    ++*told;
    return 0;
}

static void scatter(struct disk *disk, uint64_t pages)
{
    const uint64_t disk_pages = disk_size(disk) / PAGE;
    char content[PAGE];

    memset(content, 'x', sizeof content);
    for (uint64_t i = 0; i < pages; i++) {
        uint64_t page = place(i, place_bits(disk_pages));
        int error = page < disk_pages ? disk_write(disk, page * PAGE, PAGE, content) : 0;

        if (error)
            die("write", error);
    }
}

static int compare(const void *a, const void *b)
{
    const double *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

int main(int argc, char **argv)
{
    const struct disk_options options = {.size = DISK_SIZE_MAX, .allocator = &allocator_sparse};
    struct disk *disk;
    double took[ROUNDS];
    uint64_t told = 0;
    int error = disk_create(&options, &disk);

    if (!error)
        error = disk_start(disk);
    if (error)
        die("create", error);
    scatter(disk, argc > 1 ? strtoull(argv[1], NULL, 10) : 1000);

    for (int i = 0; i < ROUNDS; i++) {
        double start = now_ms();

        told = 0;
        error = disk_extents(disk, 0, disk_size(disk), count_one, &told);
        if (error)
            die("extents", error);
        took[i] = now_ms() - start;
    }
    qsort(took, ROUNDS, sizeof took[0], compare);
    printf("%.4f %" PRIu64 "\n", took[ROUNDS / 2], told);
    disk_destroy(disk);
    return EXIT_SUCCESS;
}
