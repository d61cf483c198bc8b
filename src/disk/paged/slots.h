/* SPDX-License-Identifier: BSD-3-Clause */

/* slots - the functions in the table of an allocator that keeps a paged disk
 *
 * disk/allocator.h has the contract of each function, at the member of the same name.  The state
 * is a struct paged.  An allocator adds its name, its properties and a function `create`.  Its
 * `create` calls paged_create.  If the allocator has a cold store, `create` then sets
 * paged->cold: see zstd/zstd.c, and sparse.c, which has none.
 */

#ifndef NBDRAM_DISK_PAGED_SLOTS_H
#define NBDRAM_DISK_PAGED_SLOTS_H

#include "disk/disk.h"
#include "disk/paged/paged.h"

#define PAGED_SLOTS                                                                              \
    .start = paged_start, .destroy = paged_destroy, .cache_create = paged_cache_create,          \
    .cache_destroy = paged_cache_destroy, .read = paged_read, .write = paged_write,              \
    .try_write = paged_try_write, .lend_begin = paged_lend_begin, .lend_end = paged_lend_end,    \
    .lend = paged_lend, .fill = paged_fill, .zero = paged_zero, .trim = paged_trim,              \
    .try_zero = paged_try_zero, .extents = paged_extents,                                        \
    .give_up_waiting = paged_give_up_waiting, .settle = paged_settle, .stats = paged_stats,      \
    .check = paged_check

/* The functions below are defined in life.c. */

/* Make a disk without a cold store.  A page has 2^page_shift bytes, at most PAGE_SIZE_MAX.  packs
 * says whether the caller is going to add a cold store.  If packs is true, this function sets
 * paged->pool_options.capacity to the address space for the pool of the cold store.  Otherwise it
 * sets this capacity to 0.  The rest of the contract is that of `create` in disk/allocator.h. */
int paged_create(const struct disk_options *options, struct budget *budget, unsigned page_shift,
                 bool packs, struct paged **paged);
int paged_start(void *state);
void paged_destroy(void *state);
int paged_settle(void *state);
void paged_stats(void *state, struct disk_stats *stats);

/* The function below is defined in check.c. */
int paged_check(void *state, struct reason *reason);

/* The functions below are defined in read.c, extents.c, write.c and zero.c. */

int paged_cache_create(void *state, struct disk_cache **cache);
void paged_cache_destroy(void *state, struct disk_cache *cache);
int paged_read(void *state, struct disk_cache *cache, uint64_t offset, size_t count, void *buf);
int paged_extents(void *state, uint64_t offset, uint64_t count, disk_extent_fn *fn, void *opaque);
int paged_write(void *state, uint64_t offset, size_t count, const void *buf);
int paged_zero(void *state, uint64_t offset, uint64_t count, unsigned flags);
int paged_trim(void *state, uint64_t offset, uint64_t count);
int paged_try_write(void *state, uint64_t offset, size_t count, const void *buf, size_t *done);
int paged_try_zero(void *state, uint64_t offset, uint64_t count, unsigned flags, uint64_t *done);

/* Zero the range and keep memory for it, as paged_zero does with DISK_NO_HOLE. */
int paged_provide(struct paged *paged, uint64_t offset, uint64_t count);

/* The function below is defined in housekeeping.c. */

void paged_give_up_waiting(void *state);

/* The functions below are defined in lend.c and fill.c. */

void paged_lend_begin(void *state);
void paged_lend_end(void *state);
void paged_lend(void *state, uint64_t offset, size_t count, struct disk_piece *piece);
ssize_t paged_fill(void *state, uint64_t offset, size_t count, size_t *lent, disk_fill_fn *fn,
                   void *opaque);

#endif
