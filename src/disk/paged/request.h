/* SPDX-License-Identifier: BSD-3-Clause */

/* request - a range of a paged disk that is being processed, page by page
 *
 * A request is processed in read sections.  A grace period waits for the longest section, so a
 * section copies about a megabyte at most.  `deferred` collects the words that a section has
 * unlinked or frozen.  After the section, these words are handed to reclaim.
 */

#ifndef NBDRAM_DISK_PAGED_REQUEST_H
#define NBDRAM_DISK_PAGED_REQUEST_H

#include "disk/paged/deferred.h"
#include "disk/paged/paged.h"

#define SECTION_BYTES ((uint64_t)1 << 20) /* a section ends when it has copied this many bytes */
#define SECTION_STEPS 4096 /* the most calls of table_find in a section that copies nothing */

struct request {
    uint64_t offset;          /* start of the range that is not processed yet */
    uint64_t count;           /* bytes in the range that is not processed yet */
    char *to;                 /* only in a read: buffer for the bytes that are not read yet */
    struct disk_cache *cache; /* only in a read: the caller's cache, or NULL */
    const char *from;         /* the bytes that are not written yet, or NULL to write zeroes */
    bool provide;             /* zero the range and pin its frames (DISK_NO_HOLE) */
    bool must_not_wait;

    /* A frame that belongs to the caller, or NO_CELL.  A request with such a frame is a write to
     * one page, and the frame already holds the bytes of `from` at their place in the page.  If
     * the page needs a frame, it gets this frame: the frame then belongs to the disk, and `cell`
     * becomes NO_CELL.  Otherwise the frame still belongs to the caller. */
    uint64_t cell;
    uint64_t following; /* number of pages that the caller will write right after this range */

    struct deferred deferred;
};

#define NO_CELL UINT64_MAX

/* Set up a request that does not change the disk.  This is a function, because an initializer of
 * the struct would clear all of deferred.things, which takes too long for a small request. */
static inline void request_init(struct request *request, uint64_t offset, uint64_t count)
{
    request->offset = offset;
    request->count = count;
    request->to = NULL;
    request->from = NULL;
}

/* Set up a request that changes the disk: a write, or zeroing, or a trim. */
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

/* The number of bytes of the request that lie in its first page.  *at becomes the offset in that
 * page where these bytes start. */
static inline size_t request_part(const struct paged *paged, const struct request *request,
                                  size_t *at)
{
    size_t size = paged_page_size(paged);
    *at = request->offset & (size - 1);
    return least(size - *at, request->count);
}

/* The number of bytes of the request that lie in its first n pages. */
static inline size_t request_parts(const struct paged *paged, const struct request *request,
                                   uint64_t n)
{
    size_t at, size = paged_page_size(paged);
    request_part(paged, request, &at);
    return least(n * size - at, request->count);
}

/* The number of pages that the request touches.  request->count must not be 0. */
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

/* paged_frames_in_a_row returns how many pages, counted from the page of slot[0], have adjacent
 * frames, so that one copy can read or write all of them.  slot[0] holds `word`, and at most
 * `span` pages are counted.  Adjacent pages often have adjacent frames, and one copy of 64 KiB
 * takes 3/4 of the time of 16 copies of 4 KiB. */
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

/* The number of holes that follow each other in the array of slots, counted from slot[0], which
 * must be a hole.  At most `span` holes are counted. */
static inline uint64_t paged_holes_in_a_row(slot_t *slot, uint64_t span)
{
    uint64_t n = 1;
    while (n < span && slot_load(&slot[n]) == 0)
        n++;
    return n;
}

/* The functions below are defined in write.c. */

/* Called inside a section: turn a hole or blob into a frame.  *word is the word of the hole or
 * blob, and was found in slot.  The new frame holds the old contents of the page, and over them
 * the part of the request that lies in the page.
 *
 * 1         done; *word is the new word
 * 0         another thread has changed the word in slot; *word is what slot holds now
 * -ENOSPC   the budget or the address space is used up
 * -ENOMEM   the system has no memory
 * -EAGAIN   the budget must first ask the machine how much memory it can give (budget_refresh);
 *           or must_not_wait is set, and the request would have to wait
 *
 * After an error nothing has changed.
 */
int request_replace(struct paged *paged, slot_t *slot, uint64_t *word, struct request *request);

/* Called inside a section: continue to write the request, or to provide memory for it.  The
 * request must not be done yet.  This function stops when the request is done, when the section
 * must end, or on an error.  Then the offset and count of the request say which part is left.
 * Returns 0, or an error of request_replace. */
int request_put_some(struct paged *paged, struct request *request);

/* Called inside a section: write a request that lies in one page and has its own frame in
 * request->cell.  table_reserve must have put the nodes for this page into `reserve`.  The write
 * cannot fail, because it takes no memory except nodes from `reserve`. */
void request_put_cell(struct paged *paged, struct table_reserve *reserve,
                      struct request *request);

/* Called outside of sections: process the whole request.  Returns 0, or -ENOSPC if there is no
 * memory and none can be freed. */
int request_put(struct paged *paged, struct request *request);

/* Process the request like request_put, but never wait.  If the rest of the request cannot be
 * processed without waiting, returns -EAGAIN. */
int request_try_put(struct paged *paged, struct request *request);

#endif
