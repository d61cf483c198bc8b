/* SPDX-License-Identifier: BSD-3-Clause */

/* Lending the memory of a paged disk: to send from, and to receive into.
 *
 * A fill goes through three stages, the first two and the call of the receiver between them in
 * one read section:
 *
 *     lend      a frame        it is made writable, and received into as it is
 *               a hole, or     a private cell is received into, which nobody else knows
 *               a whole blob
 *               part of a blob here the loan ends
 *     receive
 *     keep      a private cell is written to the disk by the write path (paged_write.c), which
 *               swaps the cell itself in where it would have swapped in a copy.  What nothing was
 *               received into, and what the write path did not take, goes back to the pool.
 *
 * What the write path lacks memory for is tried again after the section, where room can be made.
 * The table gets its nodes in the last stage, too: a receiver that gets nothing, or zeroes,
 * leaves none behind.
 *
 * The rules of paged.c:
 *
 *  1. Private cells are swapped in by request_replace.  If somebody else has made the page
 *     meanwhile, the write path copies what was received into his frame.
 *  2. A frame that is unlinked while it is received into is not reused before the section ends;
 *     what it receives lies in the range of the trim that ran beside.
 *  3. Frames are received into in the section in which their word was seen writable, just as
 *     writes copy in theirs.  A frozen or aged one is thawed first.
 *  4. Words are replaced by the write path only.
 *  5. The receiver does not block: the disk's user promises that.
 *  6. A cell is not cleared before it is received into, but nobody sees it before the write path
 *     swaps it in, and that clears what was not received.
 *
 * Cells of a row of holes are lent in the order in which they lie in memory, so that they join
 * into few pieces however they came out of the pool.
 */

#include <assert.h>
#include <errno.h>

#include "disk/memory/rcu.h"
#include "disk/paged/request.h"
#include "disk/zstd/compressor.h"

/* How many of slot[0..span), the first of which is one, are holes. */
static uint64_t holes_in_a_row(slot_t *slot, uint64_t span)
{
    uint64_t n = 1;
    while (n < span && slot_load(&slot[n]) == 0)
        n++;
    return n;
}

/* Sending. */

void paged_lend_begin(void *state)
{
    (void)state;
    rcu_enter();
}

void paged_lend_end(void *state)
{
    (void)state;
    rcu_leave();
}

/* What stands at the beginning of the request, as far as one look at the table shows. */
static void look(struct paged *paged, const struct request *request, struct disk_piece *piece)
{
    uint64_t span, row = 1;
    size_t at;
    request_part(paged, request, &at);
    slot_t *slot = table_find(&paged->table, paged_page_of(paged, request->offset), &span);
    slot_t *page = slot ? table_resolve(&paged->table, slot) : NULL;
    uint64_t word = page ? slot_load(page) : 0;
    *piece = (struct disk_piece){.kind = DISK_PIECE_HOLE};
    if (entry_kind(word) == ENTRY_FRAME) {
        piece->kind = DISK_PIECE_DATA;
        piece->base = (const char *)paged_frame(paged, word) + at;
        if (page == slot)
            row = paged_frames_in_a_row(slot, span, word, false);
    } else if (entry_kind(word) == ENTRY_BLOB) {
        piece->kind = DISK_PIECE_PACKED;
    } else if (!slot) {
        row = span;
    } else if (page == slot) {
        row = holes_in_a_row(slot, span);
    }
    piece->count = request_parts(paged, request, least(row, request_pages(paged, request)));
}

static bool goes_on(const struct disk_piece *piece, const struct disk_piece *next)
{
    return next->kind == piece->kind && (piece->kind != DISK_PIECE_DATA ||
                                         next->base == (const char *)piece->base + piece->count);
}

void paged_lend(void *state, uint64_t offset, size_t count, struct disk_piece *piece)
{
    struct paged *paged = state;
    struct request request;
    struct disk_piece next;
    request_init(&request, offset, count);
    look(paged, &request, piece);
    request_advance(&request, piece->count);
    for (unsigned steps = 0; request.count && steps < SECTION_STEPS; steps++) {
        look(paged, &request, &next);
        if (!goes_on(piece, &next))
            break;
        piece->count += next.count;
        request_advance(&request, next.count);
    }
}

/* Receiving: lend. */

#define FILL_BYTES ((size_t)512 << 10) /* the most that one section receives */
#define PARTS_MAX (FILL_BYTES >> 12)   /* no page is smaller than 4 KiB */
#define ROW_MAX 16                     /* cells taken, and put in order, at once */

/* A part of one page that is received into a cell of its own. */
struct part {
    uint64_t offset;
    size_t count;
    uint64_t cell;
};

struct fill {
    struct request request; /* what is not lent yet; then what is kept */
    size_t lent;
    int iov_count;
    unsigned part_count;
    struct iovec iov[DISK_FILL_IOV_MAX + 1];
    struct part parts[PARTS_MAX];
};

static void fill_init(struct fill *fill, uint64_t offset, size_t count)
{
    size_t most =
        FILL_BYTES - offset % PAGE_SIZE_MAX; /* end with a page, if not with the range */
    request_init(&fill->request, offset, least(count, most));
    fill->lent = 0;
    fill->iov_count = 0;
    fill->part_count = 0;
}

/* The next n bytes are to be received at base.  False: there is no room to note that. */
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

/* The next page is to be received into a private cell. */
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

/* Take up to `wanted` cells, in order of their numbers. */
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

static bool lend_cells(struct paged *paged, struct fill *fill, uint64_t pages,
                       enum budget_purpose purpose)
{
    uint64_t row[ROW_MAX];
    unsigned wanted =
        (unsigned)least(ROW_MAX, least(pages, request_pages(paged, &fill->request)));
    unsigned taken = take_row(paged, wanted, purpose, row), lent = 0;
    while (lent < taken && lend_cell(paged, fill, row[lent]))
        lent++;
    for (unsigned i = taken; i > lent; i--)
        pool_give(&paged->frames, row[i - 1]);
    return lent == wanted;
}

/* What is in slot, after making a frame there writable. */
static uint64_t writable_word(struct paged *paged, slot_t *slot)
{
    uint64_t word = slot_load(slot);
    while (entry_kind(word) == ENTRY_FRAME && !entry_writable(word))
        paged_swap(paged, slot, &word, entry_young(word));
    return word;
}

/* Lend what one look at the table shows.  False if the loan ends here. */
static bool lend_next(struct paged *paged, struct fill *fill)
{
    struct request *request = &fill->request;
    uint64_t span, row = 1;
    size_t at, n = request_part(paged, request, &at);
    slot_t *slot = table_find(&paged->table, paged_page_of(paged, request->offset), &span);
    if (!slot)
        return lend_cells(paged, fill, span, BUDGET_GROW);
    slot_t *page = table_resolve(&paged->table, slot);
    uint64_t word = writable_word(paged, page);
    if (entry_kind(word) == ENTRY_FRAME) {
        if (page == slot)
            row = paged_frames_in_a_row(slot, span, word, true);
        return lend_memory(fill, (char *)paged_frame(paged, word) + at,
                           request_parts(paged, request, row));
    }
    if (entry_kind(word) == ENTRY_BLOB)
        return n == paged_page_size(paged) && lend_cells(paged, fill, 1, BUDGET_INFLATE);
    if (page == slot)
        row = holes_in_a_row(slot, span);
    return lend_cells(paged, fill, row, BUDGET_GROW);
}

/* Receiving: keep. */

typedef int put_fn(struct paged *paged, struct request *request);

/* Write what was received, which ends at `end`, of one private cell.  The cell is gone
 * afterwards, unless there was an error. */
static int keep(struct paged *paged, struct fill *fill, const struct part *part, uint64_t end,
                put_fn *put)
{
    struct request *request = &fill->request;
    int r = 0;
    request->cell = part->cell;
    if (end > part->offset) {
        size_t at = part->offset & (paged_page_size(paged) - 1);
        request->offset = part->offset;
        request->count = least(part->count, end - part->offset);
        request->from = (const char *)pool_at(&paged->frames, part->cell) + at;
        request->behind = paged_page_of(paged, end - 1) - paged_page_of(paged, part->offset);
        r = put(paged, request);
        if (r == 0 && request->count)
            r = -EAGAIN;
    }
    if (r == 0 && request->cell != NO_CELL)
        pool_give(&paged->frames, request->cell);
    return r;
}

/* In the section.  What has to be tried again remains in fill->parts. */
static void keep_all(struct paged *paged, struct fill *fill, uint64_t end)
{
    unsigned again = 0;
    for (unsigned i = 0; i < fill->part_count; i++)
        if (keep(paged, fill, &fill->parts[i], end, request_put_some) < 0)
            fill->parts[again++] = fill->parts[i];
    fill->part_count = again;
}

/* After it. */
static int keep_rest(struct paged *paged, struct fill *fill, uint64_t end)
{
    int worst = 0;
    deferred_flush(paged, &fill->request.left);
    for (unsigned i = 0; i < fill->part_count; i++) {
        int r = keep(paged, fill, &fill->parts[i], end, request_put);
        if (r < 0) {
            pool_give(&paged->frames, fill->parts[i].cell);
            worst = r;
        }
    }
    return worst;
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
    keep_all(paged, &fill, end);
    rcu_leave();
    int r = keep_rest(paged, &fill, end);
    if (paged->compressor)
        compressor_help(paged->compressor);
    return r < 0 ? r : received;
}
