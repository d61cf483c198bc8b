/* SPDX-License-Identifier: BSD-3-Clause */

/* The zstd allocator: a paged disk whose cold store is the compressor. */

#include "disk/allocator.h"
#include "disk/disk.h"
#include "disk/paged/slots.h"
#include "disk/zstd/compressor.h"

#define PAGE_SHIFT 15

_Static_assert((size_t)1 << PAGE_SHIFT <= PAGE_SIZE_MAX, "buffers on the stack hold a page");

static int zstd_create(const struct disk_options *options, struct budget *budget, void **state)
{
    struct paged *paged;
    int r = paged_create(options, budget, PAGE_SHIFT, true, &paged);
    if (r < 0)
        return r;
    r = compressor_create(paged, options->level);
    if (r < 0) {
        paged_destroy(paged);
        return r;
    }
    *state = paged;
    return 0;
}

const struct allocator allocator_zstd = {
    .name = "zstd",
    .summary = "pages of 32 KiB, compressed when idle",
    .page_size = 1u << PAGE_SHIFT,
    .takes_level = true,
    .packs = true,
    .create = zstd_create,
    PAGED_SLOTS,
};
