/* SPDX-License-Identifier: BSD-3-Clause */

/* request - a range of a paged disk that is being processed, page by page
 *
 * A request is processed in read sections of a megabyte at most, because a section that copies for
 * long holds up every grace period.  What a section leaves to be done after it is gathered in
 * `deferred`.
 */

#ifndef NBDRAM_DISK_PAGED_REQUEST_H
#define NBDRAM_DISK_PAGED_REQUEST_H

#include "disk/paged/deferred.h"
#include "disk/paged/paged.h"

#define SECTION_BYTES ((uint64_t)1 << 20) /* that one section copies at most, and a page */
#define SECTION_STEPS 4096                /* steps through the table, where nothing is copied */

struct request {
    uint64_t offset; /* the range that is not processed yet */
    uint64_t count;
    char *to;                 /* of a read: where the rest goes */
    struct disk_cache *cache; /* of a read: the caller's, or NULL; otherwise undefined */
    const char *from;         /* of a write: where the rest comes from; NULL for zeroes */
    bool provide;             /* DISK_NO_HOLE: zeroes, in pinned frames */
    bool must_not_wait;

    /* A write of one page may bring a frame of its own, which holds the bytes of `from` in their
     * place.  If the page needs a frame, this becomes it, instead of a copy: then it belongs to
     * the disk, and `cell` is NO_CELL.  Otherwise it stays the caller's. */
    uint64_t cell;
    uint64_t following; /* pages that are going to be written right after this range */

    struct deferred deferred;
};

#define NO_CELL UINT64_MAX

/* Not an initializer: that would clear all of deferred.things, for each small request. */
static inline void request_init(struct request *request, uint64_t offset, uint64_t count)
{
    request->offset = offset;
    request->count = count;
    request->to = NULL;
    request->from = NULL;
    request->provide = false;
    request->must_not_wait = false;
    request->cell = NO_CELL;
    request->following = 0;
    request->deferred.count = 0;
}

static inline uint64_t paged_page_of(const struct paged *paged, uint64_t offset)
{
    return offset >> paged->page_shift;
}

/* How many bytes of the request lie in its first page, and from which offset in that page. */
static inline size_t request_part(const struct paged *paged, const struct request *request,
                                  size_t *at)
{
    size_t size = paged_page_size(paged);
    *at = request->offset & (size - 1);
    return least(size - *at, request->count);
}

/* How many bytes of the request lie in its first n pages. */
static inline size_t request_parts(const struct paged *paged, const struct request *request,
                                   uint64_t n)
{
    size_t at, size = paged_page_size(paged);
    request_part(paged, request, &at);
    return least(n * size - at, request->count);
}

/* How many pages the request touches.  Its count must not be 0. */
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

static inline bool request_must_leave(const struct request *request, uint64_t started_at)
{
    return request->offset - started_at >= SECTION_BYTES ||
           request->deferred.count + 2 > DEFERRED_MAX;
}

/* Adjacent pages often have adjacent frames.  How many of slot[0..span), the first of which holds
 * `word`, can be copied as one: for reading, or for writing.  One copy of 64 KiB takes 3/4 of the
 * time of 16 copies of 4 KiB. */
enum frame_use { FRAME_READ, FRAME_WRITE };
static inline uint64_t paged_frames_in_a_row(slot_t *slot, uint64_t span, uint64_t word,
                                             enum frame_use use)
{
    uint64_t n = 1;
    for (; n < span; n++) {
        uint64_t next = slot_load(&slot[n]);
        if (entry_number(next) != entry_number(word) + n ||
            !(use == FRAME_WRITE ? entry_writable(next) : entry_kind(next) == ENTRY_FRAME))
            break;
    }
    return n;
}

/* How many of slot[0..span), the first of which is a hole, are holes. */
static inline uint64_t paged_holes_in_a_row(slot_t *slot, uint64_t span)
{
    uint64_t n = 1;
    while (n < span && slot_load(&slot[n]) == 0)
        n++;
    return n;
}

/* The rest is in write.c. */

/* Inside a section: turn the hole or blob *word in slot into a frame that holds what the page
 * held, with the request's part of it written over that.
 *
 * 1         done; *word is the new word
 * 0         another thread was first; *word is what is in slot now
 * -ENOSPC, -ENOMEM: there was no memory, and nothing has changed
 * -EAGAIN: the machine has to be asked first (budget_refresh); or the request must not wait, and
 *          would have to.  Nothing has changed. */
int request_replace(struct paged *paged, slot_t *slot, uint64_t *word, struct request *request);

/* Inside a section: go on with a write, or with providing memory, until it is done or the section
 * must end.  0, or an error of request_replace; the request says how far it got. */
int request_put_some(struct paged *paged, struct request *request);

/* Outside of a section: do it all.  -ENOSPC: there is no memory, and no room could be made. */
int request_put(struct paged *paged, struct request *request);

/* As request_put, but without waiting.  -EAGAIN: what is left of the request needs a wait. */
int request_try_put(struct paged *paged, struct request *request);

#endif
