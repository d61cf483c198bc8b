/* SPDX-License-Identifier: BSD-3-Clause */

#include "disks.h"

#include <stdbool.h>
#include <stddef.h>

#include "demand.h"
#include "disk/allocator.h"
#include "shadow.h"

#define USES_MAX 300u /* of a disk with a limit */

static const uint8_t choices[16] = {0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 3, 4, 5, 6};

#define SMALL ((192u << 10) + SHADOW_ODD)
#define LARGE (SHADOW_SIZE_MAX + SHADOW_ODD) /* longer than a slice of a zero */

static struct {
    struct disk_options options;
    struct disk *disk;
    unsigned uses;
} disks[] = {
    {.options = {.size = SMALL, .allocator = &allocator_sparse}},
    {.options = {.size = SMALL, .allocator = &allocator_malloc}},
    {.options = {.size = SMALL, .allocator = &allocator_zstd, .level = 1}},
    {.options = {.size = LARGE, .allocator = &allocator_sparse}},
    {.options = {.size = LARGE, .allocator = &allocator_zstd, .level = 1}},
    {.options = {.size = 4u << 20, .allocator = &allocator_sparse, .limit = DISK_LIMIT_MIN}},
    {.options =
         {.size = 4u << 20, .allocator = &allocator_zstd, .level = 1, .limit = DISK_LIMIT_MIN}},
};

static struct disk *make_disk(size_t which)
{
    struct disk *disk;
    int r = disk_create(&disks[which].options, &disk);
    DEMAND(r == 0, "disk %zu: %d", which, r);
    r = disk_start(disk);
    DEMAND(r == 0, "disk %zu: %d", which, r);
    return disks[which].disk = disk;
}

static size_t index_of(uint8_t choice)
{
    return choices[choice % sizeof choices];
}

const struct disk_options *disks_options(uint8_t choice)
{
    return &disks[index_of(choice)].options;
}

struct disk *disks_find(uint8_t choice)
{
    size_t which = index_of(choice);
    return disks[which].disk ? disks[which].disk : make_disk(which);
}

/* A disk at its limit depends a little on what it did before.  To make a new one, with its
 * threads, would take as long as hundreds of inputs. */
void disks_clean(uint8_t choice)
{
    size_t which = index_of(choice);
    bool good = shadow_reset(disks[which].disk), limited = disks[which].options.limit;
    DEMAND(good || limited, "trimmed, and not zero");
    if (!limited || (good && ++disks[which].uses < USES_MAX))
        return;
    disk_destroy(disks[which].disk);
    disks[which].disk = NULL;
    disks[which].uses = 0;
}
