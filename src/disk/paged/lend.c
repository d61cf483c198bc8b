/* SPDX-License-Identifier: BSD-3-Clause */

/* Lending the memory of a paged disk to a caller that sends from it.  A loan keeps those rules of
 * paged.h that a read must keep.  The caller decides when the read section of a loan ends. */

#include "disk/memory/rcu.h"
#include "disk/paged/request.h"
#include "disk/paged/slots.h"

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

/* Set *piece to the piece of the disk at the start of the request: data, a compressed page or a
 * hole.  The piece covers at most the pages whose slots one call of table_find returns. */
static void describe_piece(struct paged *paged, const struct request *request,
                           struct disk_piece *piece)
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
            row = paged_frames_in_a_row(slot, span, word, FRAME_READ);
    } else if (entry_kind(word) == ENTRY_BLOB) {
        piece->kind = DISK_PIECE_PACKED;
    } else if (!slot) {
        row = span;
    } else if (page == slot) {
        row = paged_holes_in_a_row(slot, span);
    }
    piece->count = request_parts(paged, request, least(row, request_pages(paged, request)));
}

static bool is_continued_by(const struct disk_piece *piece, const struct disk_piece *next)
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
    describe_piece(paged, &request, piece);
    request_advance(&request, piece->count);
    for (unsigned steps = 0; request.count && steps < SECTION_STEPS; steps++) {
        describe_piece(paged, &request, &next);
        if (!is_continued_by(piece, &next))
            break;
        piece->count += next.count;
        request_advance(&request, next.count);
    }
}
