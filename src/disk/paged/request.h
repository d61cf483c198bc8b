/* SPDX-License-Identifier: BSD-3-Clause */

/* request - a range of a paged disk being worked off, page by page
 *
 * A request is worked off in read sections, each a megabyte at most, since a section that copies
 * for long holds up every grace period.  What a section leaves to be done after it gathers in
 * `left`.
 */

#ifndef NBDRAM_DISK_PAGED_REQUEST_H
#define NBDRAM_DISK_PAGED_REQUEST_H

#include "disk/disk.h"
#include "disk/paged/paged.h"

#define SECTION_BYTES ((uint64_t)1 << 20)
#define SECTION_STEPS 4096 /* steps through the table, where nothing is copied */

struct request {
    uint64_t offset;
    uint64_t count;
    char *to;         /* read */
    const char *from; /* write; NULL for zeroes */
    bool provide;     /* DISK_NO_HOLE */

    /* A write of one page may bring a frame of the caller's own, with `from` in its place there:
     * it becomes the page, instead of a copy, if the page needs a frame.  Then it is the disk's,
     * and this is NO_CELL. */
    uint64_t cell;
    uint64_t behind; /* pages that others are going to write right behind these */

    struct deferred left;
};

#define NO_CELL UINT64_MAX

/* Not an initializer: that would clear all of left.things, for each small request. */
static inline void request_init(struct request *request, uint64_t offset, uint64_t count)
{
    request->offset = offset;
    request->count = count;
    request->to = NULL;
    request->from = NULL;
    request->provide = false;
    request->cell = NO_CELL;
    request->behind = 0;
    request->left.count = 0;
}

static inline uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t paged_page_of(const struct paged *paged, uint64_t offset)
{
    return offset >> paged->page_shift;
}

/* How much of the request lies in its first page, and from where in that. */
static inline size_t request_part(const struct paged *paged, const struct request *request,
                                  size_t *at)
{
    size_t size = paged_page_size(paged);
    *at = request->offset & (size - 1);
    return least(size - *at, request->count);
}

static inline uint64_t request_pages(const struct paged *paged, const struct request *request)
{
    return paged_page_of(paged, request->offset + request->count - 1) -
           paged_page_of(paged, request->offset) + 1;
}

static inline void request_advance(struct request *request, uint64_t n)
{
    request->offset += n;
    request->count -= n;
    if (request->to)
        request->to += n;
    if (request->from)
        request->from += n;
}

/* Pages side by side often have frames side by side: how many of slot[0..span), the first of
 * which holds `word`, can be copied as one.  One copy of 64 KiB takes 3/4 of the time of 16 of 4
 * KiB. */
static inline uint64_t paged_frames_in_a_row(slot_t *slot, uint64_t span, uint64_t word,
                                             bool to_write)
{
    uint64_t n = 1;
    for (; n < span; n++) {
        uint64_t next = slot_load(&slot[n]);
        if (entry_number(next) != entry_number(word) + n ||
            !(to_write ? entry_writable(next) : entry_kind(next) == ENTRY_FRAME))
            break;
    }
    return n;
}

/* The part of the request that lies in its first n pages. */
static inline size_t request_parts(const struct paged *paged, const struct request *request,
                                   uint64_t n)
{
    size_t at, size = paged_page_size(paged);
    request_part(paged, request, &at);
    return least(n * size - at, request->count);
}

static inline bool request_must_leave(const struct request *request, uint64_t started_at)
{
    return request->offset - started_at >= SECTION_BYTES || request->left.count + 2 > DEFERRED_MAX;
}

/* In a section: turn the hole or blob `*word` in slot into a frame that holds what the page held
 * and, over that, the request's part of it.  1: that is done.  0: somebody else was first.  *word
 * is what stands in the slot now.  -ENOSPC, -ENOMEM. */
int request_replace(struct paged *paged, slot_t *slot, uint64_t *word, struct request *request);

/* In a section: go on with a write or a provide until it is done, or must leave.  -ENOSPC,
 * -ENOMEM.
 */
int request_put_some(struct paged *paged, struct request *request);

/* Outside of a section: the same until it is done.  -ENOSPC: there is no room to be made either.
 */
int request_put(struct paged *paged, struct request *request);

/* What the allocators do with a range: see allocator.h. */
int paged_read(void *state, uint64_t offset, size_t count, void *buf);
int paged_write(void *state, uint64_t offset, size_t count, const void *buf);
void paged_lend_begin(void *state);
void paged_lend_end(void *state);
void paged_lend(void *state, uint64_t offset, size_t count, struct disk_piece *piece);
ssize_t paged_fill(void *state, uint64_t offset, size_t count, size_t *lent, disk_fill_fn *fn,
                   void *opaque);
int paged_provide(struct paged *paged, uint64_t offset, uint64_t count);
int paged_zero(void *state, uint64_t offset, uint64_t count, unsigned flags);
int paged_trim(void *state, uint64_t offset, uint64_t count);
int paged_extents(void *state, uint64_t offset, uint64_t count, disk_extent_fn *fn, void *opaque);

#endif
