/* SPDX-License-Identifier: BSD-3-Clause */

/* Lending the memory of a paged disk to a caller that receives into it.
 *
 * A fill has three stages, all in one read section:
 *
 *     lend      A frame is lent as it is, after it was thawed and its age was set to 0.  For a
 *               hole, or for a blob of which the range covers all, a private cell is lent.  No
 *               other thread knows a private cell.  If the range covers only a part of a blob,
 *               the loan ends before that blob.
 *
 *     receive   The caller's function puts bytes into the lent memory.
 *
 *     store     The write path (write.c) writes the bytes in private cells to the disk.  If a
 *               page needs a frame, the private cell becomes that frame, and nothing is copied.
 *               Cells and nodes that are not needed go back to their pools.
 *
 * A fill never waits.  After the caller's function was called, a fill takes no memory either,
 * because the caller cannot receive the same bytes again.  So the first stage takes all memory
 * that the third stage can need: private cells, nodes of the page table, and reclaim's memory for
 * the words of replaced blobs.  If there is no more memory, the loan ends.  The loan also ends if
 * writers have outrun the cold store.
 *
 * Nodes are put into the page table only in the third stage.  So if no bytes are received, or
 * only zeroes, no nodes are left behind.  Nodes are set aside even if the table has them already,
 * because a trim can remove those from the table while the bytes are received.
 *
 * How a fill keeps rules 1 to 6 of paged.h:
 *
 *  1. request_replace swaps private cells in.  If another thread has made the page meanwhile, the
 *     write path copies the received bytes into the frame of that thread.
 *  2. If a trim unlinks a frame while bytes are received into it, the frame is not reused before
 *     the section ends.  The bytes are allowed to be lost, because they lie in the range of the
 *     trim, and the trim is concurrent with the fill.
 *  3. A frozen or aged frame is thawed before it is lent.  Bytes are received into the frame in
 *     the same section, just as a write copies into a frame.
 *  4. Only the write path replaces the old contents of a page.
 *  5. The caller's function does not block: disk_fill requires this of its caller.
 *  6. A private cell is not cleared before bytes are received into it.  But no other thread sees
 *     the cell before it is swapped in, and before that the write path clears all bytes of the
 *     cell that were not received.
 */

#include <assert.h>
#include <errno.h>

#include "disk/memory/rcu.h"
#include "disk/paged/housekeeping.h"
#include "disk/paged/request.h"
#include "disk/paged/slots.h"

#define FILL_BYTES ((size_t)512 << 10) /* the most bytes that one section receives */
#define PARTS_MAX (FILL_BYTES >> 12)   /* enough parts, because a page has at least 4 KiB */
#define ROW_MAX 16                     /* the most cells that take_row takes and sorts */

/* A part of one page that is received into a private cell. */
struct part {
    uint64_t offset;
    size_t count;
    uint64_t cell;
};

struct fill {
    /* While memory is being lent, the range that is not lent yet.  While received bytes are being
     * stored, the part that is being stored. */
    struct request request;
    size_t lent; /* number of bytes lent so far */
    int iov_count;
    unsigned part_count;
    struct table_reserve reserve; /* nodes for storing the received bytes */
    struct iovec iov[DISK_FILL_IOV_MAX + 1];
    struct part parts[PARTS_MAX];
};

/* Set up a fill.  If the range is too long for one section, the fill ends earlier, at the end of
 * a page. */
static void fill_init(struct fill *fill, uint64_t offset, size_t count)
{
    size_t most = FILL_BYTES - offset % PAGE_SIZE_MAX;
    request_init_change(&fill->request, offset, least(count, most));
    fill->lent = 0;
    fill->iov_count = 0;
    fill->part_count = 0;
    fill->reserve.count = 0;
}

/* The first stage of a fill: lending memory. */

/* Lend the n bytes of memory at `base` for the next n bytes of the range.  Returns false if the
 * array iov is full. */
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

/* Lend a private cell, whose number is `cell`, for the next page of the range.  Returns false if
 * the array iov is full. */
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

/* Take up to `wanted` frames from the pool, and put the numbers of their cells into `row` in
 * ascending order.  Returns how many frames were taken. */
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

/* Set aside nodes of the page table for all of the range that is not lent yet.  If an earlier
 * call has set nodes aside, they are enough, and no more are taken.  Returns false if there is no
 * memory for nodes, or if writers have outrun the cold store. */
static bool set_nodes_aside(struct paged *paged, struct fill *fill)
{
    uint64_t first = paged_page_of(paged, fill->request.offset);
    if (paged_is_cold_store_outrun(paged))
        return false;
    return fill->reserve.count > 0 ||
           table_reserve(&paged->table, first, first + request_pages(paged, &fill->request),
                         &fill->reserve) == 0;
}

/* Lend private cells for the next `pages` pages of the range, but for ROW_MAX pages at most.  If
 * not all of these cells can be lent, returns false, and the loan ends. */
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
        pool_untake(&paged->frames, row[i - 1]);
    return lent == wanted;
}

/* Lend a private cell for the next page of the range, which is a blob.  If the range covers only
 * a part of the page, or if the cell cannot be lent, returns false, and the loan ends. */
static bool lend_for_blob(struct paged *paged, struct fill *fill)
{
    size_t at, n = request_part(paged, &fill->request, &at);
    return n == paged_page_size(paged) &&
           deferred_reserve(&fill->request.deferred, &paged->reclaim) &&
           lend_cells(paged, fill, 1, BUDGET_INFLATE);
}

/* Return the word in slot.  If the word leads to a frame, first thaw the word and set its age to
 * 0. */
static uint64_t make_writable(struct paged *paged, slot_t *slot)
{
    uint64_t word = slot_load(slot);
    while (entry_kind(word) == ENTRY_FRAME && !entry_writable(word))
        paged_swap(paged, slot, &word, entry_young(word));
    return word;
}

/* Lend memory for the next pages of the range, at most for those whose slots one call of
 * table_find returns.  Returns false if the loan must end. */
static bool lend_found(struct paged *paged, struct fill *fill)
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

/* The third stage of a fill: storing the received bytes. */

/* Write the received bytes of one part to the disk.  `end` is the offset on the disk where the
 * received bytes end.  If the page does not take over the part's cell as its frame, the cell goes
 * back to the pool. */
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
        pool_untake(&paged->frames, request->cell);
}

static void store_received(struct paged *paged, struct fill *fill, uint64_t end)
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
    while (fill.request.count && lend_found(paged, &fill))
        ;
    *lent = fill.lent;
    ssize_t received = fill.lent ? fn(opaque, fill.iov, fill.iov_count) : -ENOBUFS;
    assert(received <= (ssize_t)fill.lent);
    uint64_t end = offset + (received > 0 ? (uint64_t)received : 0);
    store_received(paged, &fill, end);
    rcu_leave();
    deferred_flush(&fill.request.deferred, &paged->reclaim);
    return received;
}
