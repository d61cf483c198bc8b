/* SPDX-License-Identifier: BSD-3-Clause */

/* The sparse allocator: a paged disk whose pages all stay in frames. */

#include "disk/allocator.h"
#include "disk/disk.h"
#include "disk/paged/slots.h"

#define PAGE_SHIFT 12

static int sparse_create(const struct disk_options *options, struct budget *budget, void **state)
{
    struct paged *paged;
    int r = paged_create(options, budget, PAGE_SHIFT, false, &paged);
    if (r == 0)
        *state = paged;
    return r;
}

const struct allocator allocator_sparse = {
    .name = "sparse",
    .summary = "pages of 4 KiB, allocated on writes",
    .page_size = 1u << PAGE_SHIFT,
    .takes_mlock = true,
    .create = sparse_create,
    PAGED_SLOTS,
};
