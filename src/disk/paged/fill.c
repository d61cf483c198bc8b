/* SPDX-License-Identifier: BSD-3-Clause */

/* Lending the memory of a paged disk to a caller that receives into it.
 *
 * A fill never waits, and after the receiver has been called it takes no memory either: what was
 * received could not be put back.  It has three stages, all in one read section:
 *
 *     lend      a frame          is made writable, and received into as it is
 *               a hole, or       gets a private cell to receive into, which no other thread knows
 *               a whole blob
 *               part of a blob   ends the loan
 *
 *               The loan also ends where memory does: that for the cell, for the nodes that will
 *               lead to it, and for the note to reclaim that a blob was replaced.  All of it is
 *               set aside here.  And it ends where writers have outrun the cold store.
 *
 *     receive   the caller's function puts bytes into what was lent
 *
 *     store     Private cells are written to the disk by the write path (write.c), which swaps
 *               the cell itself in where it would otherwise have swapped in a copy.  A cell into
 *               which nothing was received, or which the write path did not take, goes back to
 *               the pool, and so do the nodes that were not needed.
 *
 * The page table gets its nodes only in the last stage: so a receiver that gets no bytes, or only
 * zeroes, leaves no nodes behind.  Nodes are set aside even where the table has nodes already,
 * since a trim may take those away while the receiver runs.
 *
 * How this keeps to the rules of paged.h:
 *
 *  1. Private cells are swapped in by request_replace.  If another thread has made the page
 *     meanwhile, the write path copies the received bytes into the frame of that thread.
 *  2. A frame that is unlinked while bytes are received into it is not reused before the section
 *     ends.  These bytes lie in the range of the trim that unlinked the frame, and the trim was
 *     concurrent.
 *  3. Bytes are received into a frame in the section in which its word was seen to be writable,
 *     just as a write copies into a frame.  A frozen or aged frame is thawed first.
 *  4. Words are replaced only by the write path.
 *  5. The receiver does not block: disk_fill asks that of its caller.
 *  6. A private cell is not cleared before bytes are received into it.  But no other thread sees
 *     the cell before the write path swaps it in, and before that the write path clears all bytes
 *     of the cell that were not received.
 */

#include <assert.h>
#include <errno.h>

#include "disk/memory/rcu.h"
#include "disk/paged/housekeeping.h"
#include "disk/paged/request.h"
#include "disk/paged/slots.h"

#define FILL_BYTES ((size_t)512 << 10) /* bytes that one section receives at most */
#define PARTS_MAX (FILL_BYTES >> 12)   /* no page is smaller than 4 KiB */
#define ROW_MAX 16                     /* cells that are taken and put in order at once */

/* A part of one page that is received into a private cell. */
struct part {
    uint64_t offset;
    size_t count;
    uint64_t cell;
};

struct fill {
    struct request request; /* what is not lent yet; later, the part that is being stored */
    size_t lent;            /* bytes that are lent */
    int iov_count;
    unsigned part_count;
    struct table_reserve reserve; /* nodes for the parts */
    struct iovec iov[DISK_FILL_IOV_MAX + 1];
    struct part parts[PARTS_MAX];
};

/* A range that is too long for one section is cut at the end of a page. */
static void fill_init(struct fill *fill, uint64_t offset, size_t count)
{
    size_t most = FILL_BYTES - offset % PAGE_SIZE_MAX;
    request_init_change(&fill->request, offset, least(count, most));
    fill->lent = 0;
    fill->iov_count = 0;
    fill->part_count = 0;
    fill->reserve.count = 0;
}

/* The first stage: lend. */

/* Lend the n bytes at base for the next n bytes of the range.  Returns false if iov has no room
 * for them. */
static bool lend_memory(struct fill *fill, void *base, size_t n)
{
    struct iovec *last = fill->iov_count ? &fill->iov[fill->iov_count - 1] : NULL;
    if (last && (char *)last->iov_base + last->iov_len == base)
        last->iov_len += n;
    else if (fill->iov_count < DISK_FILL_IOV_MAX)
        fill->iov[fill->iov_count++] = (struct iovec){base, n};
    else
        return false;
    fill->lent += n;
    request_advance(&fill->request, n);
    return true;
}

/* Lend a private cell for the next page. */
static bool lend_cell(struct paged *paged, struct fill *fill, uint64_t cell)
{
    size_t at, n = request_part(paged, &fill->request, &at);
    struct part next = {.offset = fill->request.offset, .count = n, .cell = cell};
    if (!lend_memory(fill, (char *)pool_at(&paged->frames, cell) + at, n))
        return false;
    assert(fill->part_count < PARTS_MAX);
    fill->parts[fill->part_count++] = next;
    return true;
}

/* Take up to `wanted` cells, and put them in ascending order.  Returns the number of cells. */
static unsigned take_row(struct paged *paged, unsigned wanted, enum budget_purpose purpose,
                         uint64_t *row)
{
    uint64_t cell;
    unsigned n = 0;
    while (n < wanted && paged_take_frame(paged, purpose, &cell) == 0) {
        unsigned i = n++;
        for (; i > 0 && row[i - 1] > cell; i--)
            row[i] = row[i - 1];
        row[i] = cell;
    }
    return n;
}

/* Set aside nodes for all that is not lent yet, unless that was done.  Returns false if there are
 * no nodes, or if there must be no new frames now. */
static bool set_nodes_aside(struct paged *paged, struct fill *fill)
{
    uint64_t first = paged_page_of(paged, fill->request.offset);
    if (paged_is_cold_store_outrun(paged))
        return false;
    return fill->reserve.count > 0 ||
           table_reserve(&paged->table, first, first + request_pages(paged, &fill->request),
                         &fill->reserve) == 0;
}

/* Lend private cells for up to `pages` of the next pages.  Returns false if the loan ends
 * here. */
static bool lend_cells(struct paged *paged, struct fill *fill, uint64_t pages,
                       enum budget_purpose purpose)
{
    uint64_t row[ROW_MAX];
    unsigned wanted =
        (unsigned)least(ROW_MAX, least(pages, request_pages(paged, &fill->request)));
    if (!set_nodes_aside(paged, fill))
        return false;
    unsigned taken = take_row(paged, wanted, purpose, row), lent = 0;
    while (lent < taken && lend_cell(paged, fill, row[lent]))
        lent++;
    for (unsigned i = taken; i > lent; i--)
        pool_give(&paged->frames, row[i - 1]);
    return lent == wanted;
}

/* Lend a private cell for the next page, which is a blob.  Returns false if the loan ends here:
 * only a whole page can be received in place of a blob. */
static bool lend_for_blob(struct paged *paged, struct fill *fill)
{
    size_t at, n = request_part(paged, &fill->request, &at);
    return n == paged_page_size(paged) &&
           deferred_reserve(&fill->request.deferred, &paged->reclaim) &&
           lend_cells(paged, fill, 1, BUDGET_INFLATE);
}

/* Return the word in slot.  If it is the word of a frame, first make the frame writable. */
static uint64_t make_writable(struct paged *paged, slot_t *slot)
{
    uint64_t word = slot_load(slot);
    while (entry_kind(word) == ENTRY_FRAME && !entry_writable(word))
        paged_swap(paged, slot, &word, entry_young(word));
    return word;
}

/* Lend memory for the pages that one look at the table shows.  Returns false if the loan ends
 * here. */
static bool lend_next(struct paged *paged, struct fill *fill)
{
    struct request *request = &fill->request;
    uint64_t span, row = 1;
    size_t at;
    request_part(paged, request, &at);
    slot_t *slot = table_find(&paged->table, paged_page_of(paged, request->offset), &span);
    if (!slot)
        return lend_cells(paged, fill, span, BUDGET_GROW);
    slot_t *page = table_resolve(&paged->table, slot);
    uint64_t word = make_writable(paged, page);
    if (entry_kind(word) == ENTRY_FRAME) {
        if (page == slot)
            row = paged_frames_in_a_row(slot, span, word, FRAME_WRITE);
        return lend_memory(fill, (char *)paged_frame(paged, word) + at,
                           request_parts(paged, request, row));
    }
    if (entry_kind(word) == ENTRY_BLOB)
        return lend_for_blob(paged, fill);
    if (page == slot)
        row = paged_holes_in_a_row(slot, span);
    return lend_cells(paged, fill, row, BUDGET_GROW);
}

/* The third stage: store. */

/* Write the received bytes of one part.  `end` is the end of all received bytes of the range.
 * Afterwards the cell belongs to the disk or to the pool. */
static void store_part(struct paged *paged, struct fill *fill, const struct part *part,
                       uint64_t end)
{
    struct request *request = &fill->request;
    request->cell = part->cell;
    if (end > part->offset) {
        size_t at = part->offset & (paged_page_size(paged) - 1);
        request->offset = part->offset;
        request->count = least(part->count, end - part->offset);
        request->from = (const char *)pool_at(&paged->frames, part->cell) + at;
        request->following = paged_page_of(paged, end - 1) - paged_page_of(paged, part->offset);
        request_put_cell(paged, &fill->reserve, request);
    }
    if (request->cell != NO_CELL)
        pool_give(&paged->frames, request->cell);
}

static void store(struct paged *paged, struct fill *fill, uint64_t end)
{
    for (unsigned i = 0; i < fill->part_count; i++)
        store_part(paged, fill, &fill->parts[i], end);
    table_unreserve(&paged->table, &fill->reserve);
}

ssize_t paged_fill(void *state, uint64_t offset, size_t count, size_t *lent, disk_fill_fn *fn,
                   void *opaque)
{
    struct paged *paged = state;
    struct fill fill;
    fill_init(&fill, offset, count);
    rcu_enter();
    while (fill.request.count && lend_next(paged, &fill))
        ;
    *lent = fill.lent;
    ssize_t received = fill.lent ? fn(opaque, fill.iov, fill.iov_count) : -ENOBUFS;
    assert(received <= (ssize_t)fill.lent);
    uint64_t end = offset + (received > 0 ? (uint64_t)received : 0);
    store(paged, &fill, end);
    rcu_leave();
    deferred_flush(&fill.request.deferred, &paged->reclaim);
    return received;
}
