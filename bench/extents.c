/* SPDX-License-Identifier: BSD-3-Clause */

/* extents - the whole map of the largest possible disk in one call
 *
 *     extents [PAGES]
 *
 * A sparse disk of 2^63-1 bytes has PAGES (1000) pages of data scattered over it.  This calls the
 * engine, not a server, because a request without extended headers covers 4 GiB at most.  Prints
 * the median time in milliseconds, and the number of extents.
 */

#include <err.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "disk/allocator.h"
#include "disk/disk.h"
#include "places.h"

enum { PAGE = 4096, ROUNDS = 9 };

static int count_one(void *opaque, uint64_t offset, uint64_t count, bool hole)
{
    uint64_t *extents = opaque;

    (void)offset;
    (void)count;
    (void)hole;
    ++*extents;
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
            errx(EXIT_FAILURE, "write: %s", strerror(-error));
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
    uint64_t extents = 0;
    int error = disk_create(&options, &disk);

    if (!error)
        error = disk_start(disk);
    if (error)
        errx(EXIT_FAILURE, "create: %s", strerror(-error));
    scatter(disk, argc > 1 ? strtoull(argv[1], NULL, 10) : 1000);

    for (int i = 0; i < ROUNDS; i++) {
        const uint64_t start = clock_ns();

        extents = 0;
        error = disk_extents(disk, 0, disk_size(disk), count_one, &extents);
        if (error)
            errx(EXIT_FAILURE, "extents: %s", strerror(-error));
        took[i] = (double)(clock_ns() - start) / 1e6;
    }
    qsort(took, ROUNDS, sizeof took[0], compare);
    printf("%.4f %" PRIu64 "\n", took[ROUNDS / 2], extents);
    disk_destroy(disk);
    return EXIT_SUCCESS;
}
