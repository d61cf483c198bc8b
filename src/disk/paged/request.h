/* SPDX-License-Identifier: BSD-3-Clause */

/* request - a range of a paged disk that is being processed, page by page
 *
 * A request is processed in read sections that copy a megabyte at most, because a section that
 * copies for long holds up every grace period.  `deferred` gathers the words that a section has
 * unlinked or frozen; they are handed to reclaim after the section.
 */

#ifndef NBDRAM_DISK_PAGED_REQUEST_H
#define NBDRAM_DISK_PAGED_REQUEST_H

#include "disk/paged/deferred.h"
#include "disk/paged/paged.h"

#define SECTION_BYTES ((uint64_t)1 << 20) /* most bytes that a section copies, but for a page */
#define SECTION_STEPS 4096                /* most steps of a section that copies nothing */

struct request {
    uint64_t offset;          /* start of the range that is not processed yet */
    uint64_t count;           /* bytes of the range that is not processed yet */
    char *to;                 /* of a read: where the bytes not read yet go */
    struct disk_cache *cache; /* of a read: the caller's, or NULL; undefined in other requests */
    const char *from;         /* of a write: the bytes not written yet; NULL for zeroes */
    bool provide;             /* DISK_NO_HOLE: store zeroes, in pinned frames */
    bool must_not_wait;

    /* A write of one page may bring a frame of its own, which already holds the bytes of `from`
     * in their place.  If the page needs a frame, it gets this one instead of a copy; the frame
     * then belongs to the disk, and `cell` becomes NO_CELL.  Otherwise the frame stays the
     * caller's. */
    uint64_t cell;
    uint64_t following; /* pages that the caller is going to write right after this range */

    struct deferred deferred;
};

#define NO_CELL UINT64_MAX

/* For a request that only looks.  This is a function and not an initializer: an initializer would
 * clear all of deferred.things, for each small request. */
static inline void request_init(struct request *request, uint64_t offset, uint64_t count)
{
    request->offset = offset;
    request->count = count;
    request->to = NULL;
    request->from = NULL;
}

/* For a request that changes something. */
static inline void request_init_change(struct request *request, uint64_t offset, uint64_t count)
{
    request_init(request, offset, count);
    request->provide = false;
    request->must_not_wait = false;
    request->cell = NO_CELL;
    request->following = 0;
    deferred_init(&request->deferred);
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

/* The number of pages of slot[0..span), counted from the first, whose frames are adjacent and
 * which can therefore be copied in one piece, for reading or for writing.  slot[0] holds `word`.
 * This pays: adjacent pages often have adjacent frames, and one copy of 64 KiB takes 3/4 of the
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

/* The number of holes at the start of slot[0..span).  slot[0] is a hole. */
static inline uint64_t paged_holes_in_a_row(slot_t *slot, uint64_t span)
{
    uint64_t n = 1;
    while (n < span && slot_load(&slot[n]) == 0)
        n++;
    return n;
}

/* The functions below are in write.c. */

/* Inside a section: turn the hole or blob *word in slot into a frame.  The frame holds the old
 * contents of the page, with the request's part of the page written over them.
 *
 * 1         done; *word is the new word
 * 0         another thread was first; *word is the word that is in slot now
 * -ENOSPC, -ENOMEM: there was no memory, and nothing has changed
 * -EAGAIN: the machine has to be asked first (budget_refresh); or a request that must not wait
 *          would have to wait.  Nothing has changed. */
int request_replace(struct paged *paged, slot_t *slot, uint64_t *word, struct request *request);

/* Inside a section: go on with a write, or with providing memory, until the request is done or
 * the section must end.  The request must not be done yet.  Returns 0, or an error of
 * request_replace.  The request's offset and count say how far it got. */
int request_put_some(struct paged *paged, struct request *request);

/* Inside a section: write a request of one page, which brings a cell.  This cannot fail: it takes
 * no memory but nodes from the reserve, which was made for this page. */
void request_put_cell(struct paged *paged, struct table_reserve *reserve,
                      struct request *request);

/* Outside of a section: process the whole request.  Returns 0, or -ENOSPC if there is no memory
 * and no room could be made. */
int request_put(struct paged *paged, struct request *request);

/* As request_put, but without waiting.  -EAGAIN: the part of the request that is left needs a
 * wait. */
int request_try_put(struct paged *paged, struct request *request);

#endif
