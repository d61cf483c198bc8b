/* SPDX-License-Identifier: BSD-3-Clause */

/* flat - the malloc allocator: a disk that is one array
 *
 * All memory is taken from the budget when the disk is made.  When the disk is started, each page
 * is touched, so that the kernel provides its memory then.  So no request can fail for lack of
 * memory, and no request waits for the kernel.  There is no index and no lock: a request is one
 * memcpy.
 *
 * A fork ends memory locks, and nbdkit forks between create and start.  So create only finds out
 * whether locking will be allowed; start locks the memory.
 */

#include <errno.h>
#include <stdlib.h>

#include "disk/allocator.h"
#include "disk/disk.h"
#include "disk/memory/budget.h"
#include "os/bytes.h"
#include "os/memory.h"
#include "text/reason.h"

#define HUGE_PAGE ((size_t)2 << 20)
#define FLAT_PAGE 4096u /* bytes; stats counts in pages of this size */

struct flat {
    char *base;
    uint64_t size;
    size_t length; /* bytes in the array: the disk's size, rounded up to pages of the system */
    bool locked;   /* whether to lock the memory when the disk is started */
    struct budget *budget;
};

static void flat_destroy(void *state)
{
    struct flat *flat = state;
    if (flat->base)
        os_memory_unreserve(flat->base, flat->length);
    budget_give(flat->budget, flat->length);
    free(flat);
}

static int map_array(struct flat *flat)
{
    void *base;
    int r = os_memory_reserve(flat->length, HUGE_PAGE, true, &base);
    if (r < 0)
        return r;
    flat->base = base;
    r = os_memory_commit(base, flat->length);
    if (r == 0 && flat->locked)
        r = os_memory_may_lock(base, flat->length);
    return r;
}

static int flat_create(const struct disk_options *options, struct budget *budget, void **state)
{
    if (options->size > SIZE_MAX / 2)
        return -ENOMEM;
    struct flat *flat = calloc(1, sizeof *flat);
    if (!flat)
        return -ENOMEM;
    size_t page = os_page_size();
    size_t length = ((size_t)options->size + page - 1) / page * page;
    int r = budget_take_at_once(budget, length, BUDGET_GROW);
    if (r < 0) {
        free(flat);
        return -ENOMEM;
    }
    *flat = (struct flat){
        .size = options->size, .length = length, .locked = options->mlock, .budget = budget};
    if (length)
        r = map_array(flat);
    if (r < 0) {
        flat_destroy(flat);
        return r;
    }
    *state = flat;
    return 0;
}

static int flat_start(void *state)
{
    struct flat *flat = state;
    if (flat->length == 0)
        return 0;
    if (flat->locked)
        return os_memory_lock(flat->base, flat->length);
    return os_memory_populate(flat->base, flat->length);
}

static int flat_cache_create(void *state, struct disk_cache **cache)
{
    (void)state;
    *cache = NULL;
    return 0;
}

static void flat_cache_destroy(void *state, struct disk_cache *cache)
{
    (void)state;
    (void)cache;
}

static int flat_read(void *state, struct disk_cache *cache, uint64_t offset, size_t count,
                     void *buf)
{
    (void)cache;
    struct flat *flat = state;
    bytes_load(buf, flat->base + offset, count);
    return 0;
}

static int flat_write(void *state, uint64_t offset, size_t count, const void *buf)
{
    struct flat *flat = state;
    bytes_store(flat->base + offset, buf, count);
    return 0;
}

static int flat_try_write(void *state, uint64_t offset, size_t count, const void *buf,
                          size_t *done)
{
    *done = count;
    return flat_write(state, offset, count, buf);
}

/* The malloc allocator lends memory without a read section, because it frees memory only when the
 * disk is destroyed. */
static void flat_lend_begin_or_end(void *state)
{
    (void)state;
}

static void flat_lend(void *state, uint64_t offset, size_t count, struct disk_piece *piece)
{
    struct flat *flat = state;
    *piece = (struct disk_piece){DISK_PIECE_DATA, flat->base + offset, count};
}

static ssize_t flat_fill(void *state, uint64_t offset, size_t count, size_t *lent,
                         disk_fill_fn *fn, void *opaque)
{
    struct flat *flat = state;
    /* disk_fill's contract: fn can fill in one entry more than the one that is passed to it. */
    struct iovec iov[2] = {{flat->base + offset, count}};
    *lent = count;
    return fn(opaque, iov, 1);
}

static int flat_trim(void *state, uint64_t offset, uint64_t count)
{
    struct flat *flat = state;
    bytes_zero(flat->base + offset, (size_t)count);
    return 0;
}

static int flat_zero(void *state, uint64_t offset, uint64_t count, unsigned flags)
{
    (void)flags; /* the malloc allocator keeps its memory, with or without DISK_NO_HOLE */
    return flat_trim(state, offset, count);
}

static int flat_try_zero(void *state, uint64_t offset, uint64_t count, unsigned flags,
                         uint64_t *done)
{
    *done = count;
    return flat_zero(state, offset, count, flags);
}

static int flat_extents(void *state, uint64_t offset, uint64_t count, disk_extent_fn *fn,
                        void *opaque)
{
    (void)state;
    return fn(opaque, offset, count, false);
}

static void flat_give_up_waiting(void *state)
{
    (void)state;
}

static int flat_settle(void *state)
{
    (void)state;
    return 0;
}

static void flat_stats(void *state, struct disk_stats *stats)
{
    const struct flat *flat = state;
    stats->pages = flat->size / FLAT_PAGE + (flat->size % FLAT_PAGE != 0);
}

static int flat_check(void *state, struct reason *reason)
{
    const struct flat *flat = state;
    return budget_check(flat->budget, flat->length, reason);
}

const struct allocator allocator_malloc = {
    .name = "malloc",
    .summary = "one array, all of its memory taken at the start",
    .page_size = FLAT_PAGE,
    .takes_mlock = true,
    .takes_all = true,
    .create = flat_create,
    .start = flat_start,
    .destroy = flat_destroy,
    .cache_create = flat_cache_create,
    .cache_destroy = flat_cache_destroy,
    .read = flat_read,
    .write = flat_write,
    .try_write = flat_try_write,
    .lend_begin = flat_lend_begin_or_end,
    .lend_end = flat_lend_begin_or_end,
    .lend = flat_lend,
    .fill = flat_fill,
    .zero = flat_zero,
    .trim = flat_trim,
    .try_zero = flat_try_zero,
    .extents = flat_extents,
    .give_up_waiting = flat_give_up_waiting,
    .settle = flat_settle,
    .stats = flat_stats,
    .check = flat_check,
};
