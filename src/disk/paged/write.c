/* SPDX-License-Identifier: BSD-3-Clause */

/* Writing to a paged disk, and providing memory for zeroes.  All requests keep the rules in
 * paged.h. */

#include <assert.h>
#include <errno.h>

#include "disk/memory/rcu.h"
#include "disk/memory/sabotage.h"
#include "disk/paged/housekeeping.h"
#include "disk/paged/promise.h"
#include "disk/paged/request.h"
#include "disk/paged/slots.h"
#include "os/bytes.h"

/* The functions below turn a hole or a blob into a frame (request_replace). */

/* Inflate the old contents of a page, and copy them to the frame, except for the n bytes at
 * offset `at`, which the frame already holds.  `word` leads to the blob of the page. */
static int inflate_around(struct paged *paged, char *frame, uint64_t word, size_t at, size_t n)
{
    char page[PAGE_SIZE_MAX];
    int r = paged->cold.store->read(paged->cold.state, NULL, word, page);
    if (r < 0)
        return r;
    bytes_store(frame, page, at);
    bytes_store(frame + at + n, page + at + n, paged_page_size(paged) - at - n);
    return 0;
}

/* Write the new contents of a page to a new frame.  `made` is the word of the frame.  The
 * contents are the old bytes of the page, to which `word` leads, and over them the part of the
 * request that lies in the page.  If that part was received in this frame, it is in place already
 * and is not copied. */
static int prepare_frame(struct paged *paged, uint64_t made, uint64_t word,
                         const struct request *request)
{
    char *frame = paged_frame(paged, made);
    const char *from = request->from;
    size_t size = paged_page_size(paged);
    size_t at, n = request_part(paged, request, &at);
    if (entry_kind(word) == ENTRY_BLOB && n < size) {
        int r = from == frame + at
                    ? inflate_around(paged, frame, word, at, n)
                    : paged->cold.store->read(paged->cold.state, NULL, word, frame);
        if (r < 0)
            return r;
    } else {
        bytes_zero(frame, at);
        bytes_zero(frame + at + n, size - at - n);
    }
    if (from && from != frame + at)
        bytes_store(frame + at, from, n);
    else if (!from)
        bytes_zero(frame + at, n);
    return 0;
}

/* Choose the frame that a page gets.  If the request has a frame of its own, the page gets that
 * frame.  Otherwise a frame is taken from the pool. */
static int choose_frame(struct paged *paged, uint64_t word, const struct request *request,
                        uint64_t *cell)
{
    *cell = request->cell;
    if (*cell != NO_CELL)
        return 0;
    return paged_take_frame(paged, word ? BUDGET_INFLATE : BUDGET_GROW, cell);
}

/* Whether a request that must not wait can turn a hole or a blob into a frame now.  It cannot if
 * writers have outrun the cold store, or if the page is a blob and reclaim has no memory for the
 * word of that blob. */
static bool may_replace_at_once(struct paged *paged, uint64_t word, struct request *request)
{
    return !paged_is_cold_store_outrun(paged) &&
           (word == 0 || deferred_reserve(&request->deferred, &paged->reclaim));
}

/* Fill a new frame, and then swap its word into slot.  `made` is that word.  Rules 1 and 6 of
 * paged.h require this order: after the swap, other threads write to the frame, so this thread
 * must not copy into it any more.  If the request was received in this frame, the source and the
 * target of such a copy would even be the same bytes.  Returns what request_replace returns. */
static int fill_and_swap(struct paged *paged, slot_t *slot, uint64_t *word, uint64_t made,
                         const struct request *request)
{
    int r = prepare_frame(paged, made, *word, request);
    return r < 0 ? r : slot_swap(slot, word, made);
}

/* Swap the word of the new frame into slot, and then fill the frame.  This order breaks rules 1
 * and 6 of paged.h on purpose, so that a test can notice it (sabotage.h). */
static int swap_and_fill(struct paged *paged, slot_t *slot, uint64_t *word, uint64_t made,
                         const struct request *request)
{
    uint64_t before = *word;
    if (!slot_swap(slot, word, made))
        return 0;
    prepare_frame(paged, made, before, request);
    return 1;
}

/* This function keeps three rules of paged.h.  Rule 1: a swap puts the new frame into the slot,
 * and the loser of the swap frees its frame.  Rule 4: the old word is handed to reclaim only
 * after the swap.  Rule 6: the frame is filled before the swap. */
int request_replace(struct paged *paged, slot_t *slot, uint64_t *word, struct request *request)
{
    uint64_t cell;
    size_t at, n = request_part(paged, request, &at);
    if (request->must_not_wait && !may_replace_at_once(paged, *word, request))
        return -EAGAIN;
    int r = choose_frame(paged, *word, request, &cell);
    if (r < 0)
        return r;
    uint64_t before = *word;
    uint64_t made = entry_make(ENTRY_FRAME, cell);
    if (request->provide)
        made = promise_add(made, paged_page_size(paged), at, n);
    r = sabotage_swaps_first() ? swap_and_fill(paged, slot, word, made, request)
                               : fill_and_swap(paged, slot, word, made, request);
    if (r <= 0) {
        if (cell != request->cell)
            pool_untake(&paged->frames, cell);
        return r;
    }
    paged_count_hot(paged, false, entry_hot(made));
    if (before)
        deferred_add_unlinked(&request->deferred, before);
    if (cell == request->cell)
        request->cell = NO_CELL;
    *word = made;
    return 1;
}

/* The functions below write to pages.  In each of them, slot holds the word of the first page of
 * the request. */

/* The compiler is made to inline this function, which saves 30 instructions in a write of 4
 * KiB. */
__attribute__((always_inline)) static inline int write_page(struct paged *paged, slot_t *slot,
                                                            struct request *request)
{
    size_t at, n = request_part(paged, request, &at);
    uint64_t word = slot_load(slot);
    for (;;) {
        int r = 0;
        if (entry_writable(word)) {
            bytes_store((char *)paged_frame(paged, word) + at, request->from, n);
            return 0;
        }
        if (word == 0 && bytes_are_zero(request->from, n))
            return 0;
        if (entry_kind(word) == ENTRY_FRAME)
            paged_swap(paged, slot, &word, entry_young(word));
        else
            r = request_replace(paged, slot, &word, request);
        if (r != 0)
            return r < 0 ? r : 0;
    }
}

/* Store zeroes in a page, and keep memory for them.  The page is pinned before it is zeroed.  In
 * the other order, another thread could find the page all zero, and turn it into a hole before
 * the page is pinned. */
static int provide_page(struct paged *paged, slot_t *slot, struct request *request)
{
    size_t at, n = request_part(paged, request, &at);
    uint64_t word = slot_load(slot);
    for (;;) {
        int r = 0;
        uint64_t wanted = promise_add(entry_young(word), paged_page_size(paged), at, n);
        if (word == wanted) {
            bytes_zero((char *)paged_frame(paged, word) + at, n);
            return 0;
        }
        if (entry_kind(word) == ENTRY_FRAME)
            paged_swap(paged, slot, &word, wanted);
        else
            r = request_replace(paged, slot, &word, request);
        if (r != 0)
            return r < 0 ? r : 0;
    }
}

/* Whether the first page of the request has no slot and the request writes only zeroes to that
 * page.  Such a write changes nothing, so no nodes are made for it. */
static bool is_zero_to_hole(struct paged *paged, const struct request *request)
{
    size_t at, n = request_part(paged, request, &at);
    uint64_t span;
    return !request->provide && bytes_are_zero(request->from, n) &&
           !table_find(&paged->table, paged_page_of(paged, request->offset), &span);
}

/* Write to the page of slot[0].  If the frames of slot[1], slot[2] and so on are adjacent to its
 * frame, write to their pages with the same copy, at most up to slot[span - 1].  Then make the
 * request start after the last page that was written. */
static int put_pages(struct paged *paged, slot_t *slot, uint64_t span, struct request *request)
{
    size_t at, n = request_part(paged, request, &at);
    slot_t *page = table_resolve_thawed(&paged->table, slot);
    uint64_t word = slot_load(page);
    int r = 0;
    if (request->provide) {
        r = provide_page(paged, page, request);
    } else if (page == slot && entry_writable(word)) {
        n = request_parts(paged, request, paged_frames_in_a_row(slot, span, word, FRAME_WRITE));
        bytes_store((char *)paged_frame(paged, word) + at, request->from, n);
    } else {
        r = write_page(paged, page, request);
    }
    if (r == 0)
        request_advance(request, n);
    return r;
}

int request_put_some(struct paged *paged, struct request *request)
{
    uint64_t started_at = request->offset;
    size_t at;
    do {
        slot_t *slot;
        uint64_t span;
        if (is_zero_to_hole(paged, request)) {
            request_advance(request, request_part(paged, request, &at));
            continue;
        }
        int r = table_make(&paged->table, paged_page_of(paged, request->offset),
                           request_pages(paged, request) + request->following, &slot, &span);
        if (r < 0)
            return r;
        do {
            uint64_t page = paged_page_of(paged, request->offset);
            r = put_pages(paged, slot, span, request);
            if (r < 0)
                return r;
            uint64_t done = least(paged_page_of(paged, request->offset) - page, span);
            slot += done;
            span -= done;
        } while (span && request->count && !request_must_leave(request, started_at));
    } while (request->count && !request_must_leave(request, started_at));
    return 0;
}

/* `reserve` holds all nodes that the write needs, with one exception.  If this section has put
 * nodes of the reserve into the table, a trim can have removed them again.  If a node is missing
 * for this reason, the trim covers all pages to which the node would lead, and is concurrent with
 * this write.  So the written bytes are allowed to be lost, and nothing is written. */
void request_put_cell(struct paged *paged, struct table_reserve *reserve, struct request *request)
{
    slot_t *slot;
    uint64_t span;
    uint64_t page = paged_page_of(paged, request->offset);
    if (bytes_are_zero(request->from, request->count) && !table_find(&paged->table, page, &span))
        return;
    if (table_make_reserved(&paged->table, page, 1 + request->following, reserve, &slot, &span) <
        0)
        return;
    int r = write_page(paged, table_resolve_thawed(&paged->table, slot), request);
    assert(r == 0); /* cannot fail: reading a blob takes no memory */
}

int request_put(struct paged *paged, struct request *request)
{
    struct room_search search = {0};
    while (request->count) {
        uint64_t before = request->count;
        rcu_enter();
        int r = request_put_some(paged, request);
        rcu_leave();
        deferred_flush(&request->deferred, &paged->reclaim);
        if (r < 0 && !paged_lacks_memory(r))
            return r;
        if (request->count < before)
            search.attempts = 0;
        if (r < 0 && !paged_make_room(paged, &search, r))
            return -ENOSPC;
        paged_help_cold_store(paged);
    }
    return 0;
}

int request_try_put(struct paged *paged, struct request *request)
{
    int r = 0;
    request->must_not_wait = true;
    while (r == 0 && request->count) {
        rcu_enter();
        r = request_put_some(paged, request);
        rcu_leave();
        deferred_flush(&request->deferred, &paged->reclaim);
    }
    return r == -ENOSPC || r == -ENOMEM ? -EAGAIN : r;
}

int paged_write(void *state, uint64_t offset, size_t count, const void *buf)
{
    struct request request;
    request_init_change(&request, offset, count);
    request.from = buf;
    return request_put(state, &request);
}

int paged_try_write(void *state, uint64_t offset, size_t count, const void *buf, size_t *done)
{
    struct request request;
    request_init_change(&request, offset, count);
    request.from = buf;
    int r = request_try_put(state, &request);
    *done = count - (size_t)request.count;
    return r;
}

int paged_provide(struct paged *paged, uint64_t offset, uint64_t count)
{
    struct request request;
    request_init_change(&request, offset, count);
    request.provide = true;
    return request_put(paged, &request);
}
