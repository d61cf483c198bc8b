/* SPDX-License-Identifier: BSD-3-Clause */

#include "disk/disk.h"

#include <errno.h>
#include <stdlib.h>

#include "disk/allocator.h"
#include "disk/memory/budget.h"
#include "disk/memory/sabotage.h"
#include "os/check.h"
#include "os/memory.h"
#include "text/reason.h"

struct disk {
    uint64_t size;
    const struct allocator *allocator;
    void *state; /* the allocator's */
    struct budget budget;
};

static bool are_valid(const struct disk_options *options, const struct allocator *allocator)
{
    if (options->size > DISK_SIZE_MAX)
        return false;
    if (options->limit != 0 && options->limit < DISK_LIMIT_MIN)
        return false;
    if (options->mlock && !allocator->takes_mlock)
        return false;
    return !allocator->takes_level ||
           (options->level >= DISK_LEVEL_MIN && options->level <= DISK_LEVEL_MAX);
}

int disk_create(const struct disk_options *options, struct disk **made)
{
    const struct allocator *allocator = options->allocator ? options->allocator : allocators[0];
    if (!are_valid(options, allocator))
        return -EINVAL;
    struct disk *disk = calloc(1, sizeof *disk);
    if (!disk)
        return -ENOMEM;
    disk->size = options->size;
    disk->allocator = allocator;
    int r = budget_init(&disk->budget, options->limit, allocator->packs, "");
    if (r < 0) {
        free(disk);
        return r;
    }
    if (os_address_space_left() != UINT64_MAX)
        os_memory_share_heap();
    r = allocator->create(options, &disk->budget, &disk->state);
    if (r < 0) {
        budget_destroy(&disk->budget);
        free(disk);
        return r;
    }
    *made = disk;
    return 0;
}

int disk_start(struct disk *disk)
{
    int r = disk->allocator->takes_all ? 0 : budget_start(&disk->budget);
    return r < 0 ? r : disk->allocator->start(disk->state);
}

void disk_destroy(struct disk *disk)
{
    struct reason reason;
    if (!disk)
        return;
    if (OS_CHECK_ENABLED && disk_check(disk, &reason) == -EUCLEAN)
        os_check_failed(reason.text);
    disk->allocator->destroy(disk->state);
    budget_destroy(&disk->budget);
    free(disk);
}

uint64_t disk_size(const struct disk *disk)
{
    return disk->size;
}

bool disk_grows(const struct disk *disk)
{
    return !disk->allocator->takes_all;
}

uint32_t disk_page_size(const struct disk *disk)
{
    return disk->allocator->page_size;
}

/* This does not compute offset + count, because the sum could wrap. */
static bool is_outside(const struct disk *disk, uint64_t offset, uint64_t count)
{
    return offset > disk->size || count > disk->size - offset;
}

int disk_read(struct disk *disk, uint64_t offset, size_t count, void *buf)
{
    if (is_outside(disk, offset, count))
        return -EINVAL;
    return count ? disk->allocator->read(disk->state, NULL, offset, count, buf) : 0;
}

int disk_cache_create(struct disk *disk, struct disk_cache **cache)
{
    return disk->allocator->cache_create(disk->state, cache);
}

void disk_cache_destroy(struct disk *disk, struct disk_cache *cache)
{
    if (cache)
        disk->allocator->cache_destroy(disk->state, cache);
}

int disk_read_cached(struct disk *disk, struct disk_cache *cache, uint64_t offset, size_t count,
                     void *buf)
{
    if (is_outside(disk, offset, count))
        return -EINVAL;
    return count ? disk->allocator->read(disk->state, cache, offset, count, buf) : 0;
}

int disk_write(struct disk *disk, uint64_t offset, size_t count, const void *buf)
{
    if (is_outside(disk, offset, count))
        return -ENOSPC;
    return count ? disk->allocator->write(disk->state, offset, count, buf) : 0;
}

int disk_try_write(struct disk *disk, uint64_t offset, size_t count, const void *buf,
                   size_t *done)
{
    *done = 0;
    if (is_outside(disk, offset, count))
        return -ENOSPC;
    return count ? disk->allocator->try_write(disk->state, offset, count, buf, done) : 0;
}

void disk_lend_begin(struct disk *disk)
{
    disk->allocator->lend_begin(disk->state);
}

void disk_lend_end(struct disk *disk)
{
    disk->allocator->lend_end(disk->state);
}

int disk_lend(struct disk *disk, uint64_t offset, size_t count, struct disk_piece *piece)
{
    if (count == 0 || is_outside(disk, offset, count))
        return -EINVAL;
    disk->allocator->lend(disk->state, offset, count, piece);
    return 0;
}

ssize_t disk_fill(struct disk *disk, uint64_t offset, size_t count, size_t *lent,
                  disk_fill_fn *fn, void *opaque)
{
    *lent = 0;
    if (is_outside(disk, offset, count))
        return -ENOSPC;
    return count ? disk->allocator->fill(disk->state, offset, count, lent, fn, opaque) : 0;
}

bool disk_could_provide(const struct disk *disk, uint64_t count)
{
    return count <= budget_ceiling(&disk->budget);
}

int disk_zero(struct disk *disk, uint64_t offset, uint64_t count, unsigned flags)
{
    if (is_outside(disk, offset, count))
        return -ENOSPC;
    if ((flags & DISK_NO_HOLE) && !disk_could_provide(disk, count))
        return -ENOSPC; /* without this check, the request would fail only when memory is full */
    return count ? disk->allocator->zero(disk->state, offset, count, flags) : 0;
}

int disk_trim(struct disk *disk, uint64_t offset, uint64_t count)
{
    if (is_outside(disk, offset, count))
        return -EINVAL;
    return count ? disk->allocator->trim(disk->state, offset, count) : 0;
}

int disk_try_zero(struct disk *disk, uint64_t offset, uint64_t count, unsigned flags,
                  uint64_t *done)
{
    *done = 0;
    if (is_outside(disk, offset, count))
        return -ENOSPC;
    if ((flags & DISK_NO_HOLE) && !disk_could_provide(disk, count))
        return -ENOSPC;
    return count ? disk->allocator->try_zero(disk->state, offset, count, flags, done) : 0;
}

int disk_try_trim(struct disk *disk, uint64_t offset, uint64_t count, uint64_t *done)
{
    *done = 0;
    if (is_outside(disk, offset, count))
        return -EINVAL;
    return count ? disk->allocator->try_zero(disk->state, offset, count, 0, done) : 0;
}

void disk_give_up_waiting(struct disk *disk)
{
    disk->allocator->give_up_waiting(disk->state);
}

int disk_extents(struct disk *disk, uint64_t offset, uint64_t count, disk_extent_fn *fn,
                 void *opaque)
{
    if (is_outside(disk, offset, count))
        return -EINVAL;
    return count ? disk->allocator->extents(disk->state, offset, count, fn, opaque) : 0;
}

int disk_settle(struct disk *disk)
{
    return disk->allocator->settle(disk->state);
}

void disk_stats(struct disk *disk, struct disk_stats *stats)
{
    *stats = (struct disk_stats){
        .memory = atomic_load_explicit(&disk->budget.used, memory_order_relaxed),
        .overhead = budget_overhead(&disk->budget),
        .limit = disk->budget.limit,
    };
    disk->allocator->stats(disk->state, stats);
}

/* If the engine is broken on purpose (sabotage.h), this function always reports success.  So a
 * test that must notice the defect has to notice it without this function. */
int disk_check(struct disk *disk, struct reason *reason)
{
    if (sabotage_is_on())
        return 0;
    return disk->allocator->check(disk->state, reason);
}
