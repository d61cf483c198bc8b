/* SPDX-License-Identifier: BSD-3-Clause */

/* allocator - what disk.c asks of the strategy behind a disk
 *
 * Each slot has the contract of the function of the same name in disk.h, with these differences:
 * ranges have been checked and lie within the disk, and count is not 0.
 */

#ifndef NBDRAM_DISK_ALLOCATOR_H
#define NBDRAM_DISK_ALLOCATOR_H

#include "disk/memory/budget.h"
#include "disk/disk.h"

struct allocator {
    uint32_t page_size;
    /* The budget was made from options and outlives the state.  Cleans up after itself. */
    int (*create)(const struct disk_options *options, struct budget *budget, void **state);
    int (*start)(void *state);
    void (*destroy)(void *state);
    int (*read)(void *state, uint64_t offset, size_t count, void *buf);
    int (*write)(void *state, uint64_t offset, size_t count, const void *buf);
    void (*lend_begin)(void *state);
    void (*lend_end)(void *state);
    void (*lend)(void *state, uint64_t offset, size_t count, struct disk_piece *piece);
    ssize_t (*fill)(void *state, uint64_t offset, size_t count, size_t *lent, disk_fill_fn *fn,
                    void *opaque);
    int (*zero)(void *state, uint64_t offset, uint64_t count, unsigned flags);
    int (*trim)(void *state, uint64_t offset, uint64_t count);
    int (*extents)(void *state, uint64_t offset, uint64_t count, disk_extent_fn *fn,
                   void *opaque);
    int (*settle)(void *state);
    void (*stats)(void *state, struct disk_stats *stats); /* pages, compressed, blob_bytes */
};

extern const struct allocator allocator_sparse; /* paged.c */
extern const struct allocator allocator_malloc; /* flat.c */
extern const struct allocator allocator_zstd;   /* paged.c, with compress.c */

#endif
