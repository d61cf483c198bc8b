/* SPDX-License-Identifier: BSD-3-Clause */

/* Writing to a paged disk, and providing memory for zeroes.  The rules are in paged.h. */

#include <errno.h>

#include "disk/memory/rcu.h"
#include "disk/memory/sabotage.h"
#include "disk/paged/housekeeping.h"
#include "disk/paged/promise.h"
#include "disk/paged/request.h"
#include "disk/paged/slots.h"
#include "os/bytes.h"

/* Turning a hole or a blob into a frame (request_replace). */

/* Store in the frame of `made` the new contents of the page: the old contents, which `word` leads
 * to, with the request's part of the page written over them.  If that part was received in this
 * frame, it is there already. */
static int prepare_frame(struct paged *paged, uint64_t made, uint64_t word,
                         const struct request *request)
{
    void *frame = paged_frame(paged, made);
    const char *from = request->from;
    size_t size = paged_page_size(paged);
    size_t at, n = request_part(paged, request, &at);
    if (entry_kind(word) == ENTRY_BLOB && n < size) {
        int r = paged->cold.store->read(paged->cold.state, NULL, word, frame);
        if (r < 0)
            return r;
    } else {
        bytes_zero(frame, at);
        bytes_zero((char *)frame + at + n, size - at - n);
    }
    if (from && from != (char *)frame + at)
        bytes_store((char *)frame + at, from, n);
    else if (!from)
        bytes_zero((char *)frame + at, n);
    return 0;
}

/* Choose the frame that a page is going to have.  This is the request's own frame, unless a blob
 * has to be unpacked around the bytes in that frame. */
static int choose_frame(struct paged *paged, uint64_t word, const struct request *request,
                        uint64_t *cell)
{
    size_t at, n = request_part(paged, request, &at);
    *cell = request->cell;
    if (*cell != NO_CELL && (word == 0 || n == paged_page_size(paged)))
        return 0;
    return paged_take_frame(paged, word ? BUDGET_INFLATE : BUDGET_GROW, cell);
}

/* Rules 1 and 6: fill the frame of `made`, and then swap it in.  Once the frame is in the table,
 * other threads write to it, so this thread must not copy into it any more; least of all if the
 * request was received in the frame, because it would copy the frame to itself.  Returns 1, 0 or
 * an error, as request_replace. */
static int fill_and_swap(struct paged *paged, slot_t *slot, uint64_t *word, uint64_t made,
                         const struct request *request)
{
    int r = prepare_frame(paged, made, *word, request);
    return r < 0 ? r : slot_swap(slot, word, made);
}

/* For sabotage.h: do the two steps in the wrong order. */
static int swap_and_fill(struct paged *paged, slot_t *slot, uint64_t *word, uint64_t made,
                         const struct request *request)
{
    uint64_t before = *word;
    if (!slot_swap(slot, word, made))
        return 0;
    prepare_frame(paged, made, before, request);
    return 1;
}

/* This function keeps rules 1, 4 and 6. */
int request_replace(struct paged *paged, slot_t *slot, uint64_t *word, struct request *request)
{
    uint64_t cell;
    size_t at, n = request_part(paged, request, &at);
    if (request->must_not_wait && paged_is_cold_store_outrun(paged))
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
            pool_give(&paged->frames, cell);
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

/* Writing.  Each of these functions processes the request's part of its first page, whose word is
 * in slot. */

static int write_page(struct paged *paged, slot_t *slot, struct request *request)
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

/* Store zeroes, and keep the memory for them.  The page is pinned before it is zeroed: otherwise
 * another thread could find it all zero and make it a hole in between. */
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

/* Whether the request would write nothing but zeroes to its first page, which has no slot.  Such
 * a write changes nothing, so there is no reason to make nodes for it. */
static bool is_zero_to_hole(struct paged *paged, const struct request *request)
{
    size_t at, n = request_part(paged, request, &at);
    uint64_t span;
    return !request->provide && bytes_are_zero(request->from, n) &&
           !table_find(&paged->table, paged_page_of(paged, request->offset), &span);
}

/* Write to the page of slot[0], and to as many pages of slot[1..span) as can be copied in the
 * same piece.  Advances the request. */
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
    while (request->count && !request_must_leave(request, started_at)) {
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
        while (r == 0 && span && request->count && !request_must_leave(request, started_at)) {
            uint64_t page = paged_page_of(paged, request->offset);
            r = put_pages(paged, slot, span, request);
            uint64_t done = least(paged_page_of(paged, request->offset) - page, span);
            slot += done;
            span -= done;
        }
        if (r < 0)
            return r;
    }
    return 0;
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
        if (request->count < before)
            search.attempts = 0;
        if (paged_lacks_memory(r)) {
            if (!paged_make_room(paged, &search, r))
                return -ENOSPC;
        } else if (r < 0) {
            return r;
        }
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
    request_init(&request, offset, count);
    request.from = buf;
    return request_put(state, &request);
}

int paged_try_write(void *state, uint64_t offset, size_t count, const void *buf, size_t *done)
{
    struct request request;
    request_init(&request, offset, count);
    request.from = buf;
    int r = request_try_put(state, &request);
    *done = count - (size_t)request.count;
    return r;
}

int paged_provide(struct paged *paged, uint64_t offset, uint64_t count)
{
    struct request request;
    request_init(&request, offset, count);
    request.provide = true;
    return request_put(paged, &request);
}
