/* SPDX-License-Identifier: BSD-3-Clause */

/* Zeroing and trimming a paged disk.  All requests keep the rules in paged.h. */

#include <errno.h>

#include "disk/memory/rcu.h"
#include "disk/paged/housekeeping.h"
#include "disk/paged/promise.h"
#include "disk/paged/request.h"
#include "disk/paged/slots.h"
#include "os/bytes.h"

/* Called after a part of a frame was zeroed.  If the whole frame is zero now, this function
 * freezes it.  After a grace period, reclaim examines the frame again, and makes it a hole if it
 * is still all zero.  The test in this function only avoids freezing frames that cannot become
 * holes. */
static void freeze_if_all_zero(struct paged *paged, slot_t *slot, uint64_t word,
                               struct request *request)
{
    if ((word & ENTRY_PINNED) ||
        !bytes_are_zero(paged_frame(paged, word), paged_page_size(paged)))
        return;
    if (request->must_not_wait && !deferred_reserve(&request->deferred, &paged->reclaim))
        return; /* another thread has zeroed the rest of the frame since zero_frame examined it */
    if (table_freeze(&paged->table, slot, &word))
        deferred_add_frozen(&request->deferred, paged_page_of(paged, request->offset), word);
}

/* Zero the part of the request that lies in a frame.  Returns 1, or -EAGAIN if nothing was
 * changed.  -EAGAIN means that the whole frame would be zero and would have to be frozen, but the
 * request must not wait, and reclaim has no memory for the frozen word. */
static int zero_frame(struct paged *paged, slot_t *slot, uint64_t word, struct request *request)
{
    size_t at, n = request_part(paged, request, &at), size = paged_page_size(paged);
    char *frame = paged_frame(paged, word);
    if (request->must_not_wait && !(word & ENTRY_PINNED) && bytes_are_zero(frame, at) &&
        bytes_are_zero(frame + at + n, size - at - n) &&
        !deferred_reserve(&request->deferred, &paged->reclaim))
        return -EAGAIN;
    bytes_zero(frame + at, n);
    freeze_if_all_zero(paged, slot, word, request);
    return 1;
}

/* The word that a frame must have before the request zeroes a part of it.  The word is not
 * frozen, has age 0, and does not promise any byte of that part. */
static uint64_t word_to_zero_in(const struct paged *paged, const struct request *request,
                                uint64_t word)
{
    size_t at, n = request_part(paged, request, &at);
    if (request->offset + n == paged->size) /* the rest of the page lies beyond the disk */
        n = paged_page_size(paged) - at;
    return promise_remove(entry_young(word), paged_page_size(paged), at, n);
}

/* Called inside a section: zero the part of the request that lies in its first page.  The part is
 * less than the whole page.
 *
 * The promise is taken back before the bytes are zeroed.  In the other order, another thread
 * could change the word after the bytes are zeroed.  Taking the promise back would then have to
 * be tried again, but the bytes must not be zeroed twice.
 */
static int zero_part(struct paged *paged, struct request *request)
{
    uint64_t span;
    slot_t *slot = table_find(&paged->table, paged_page_of(paged, request->offset), &span);
    if (!slot)
        return 0;
    slot = table_resolve(&paged->table, slot);
    uint64_t word = slot_load(slot);
    while (word) {
        int r = 0;
        uint64_t wanted = word_to_zero_in(paged, request, word);
        if (entry_kind(word) != ENTRY_FRAME) {
            r = request_replace(paged, slot, &word, request);
            if (r > 0)
                freeze_if_all_zero(paged, slot, word, request);
        } else if (word == wanted) {
            r = zero_frame(paged, slot, word, request);
        } else {
            paged_swap(paged, slot, &word, wanted);
        }
        if (r != 0)
            return r < 0 ? r : 0;
    }
    return 0;
}

/* Zero a range that is empty, or is a part of one page. */
static int zero_edge(struct paged *paged, uint64_t offset, uint64_t count)
{
    struct request request;
    struct room_search search = {0};
    int r = 0;
    request_init_change(&request, offset, count);
    while (count) {
        rcu_enter();
        r = zero_part(paged, &request);
        rcu_leave();
        deferred_flush(&request.deferred, &paged->reclaim);
        if (!paged_lacks_memory(r) || !paged_make_room(paged, &search, r))
            break;
    }
    return paged_lacks_memory(r) ? -ENOSPC : r;
}

/* Called inside a section, after the pages [first, end) were unlinked.  If the lowest node on the
 * way to the first or the last of these pages is empty now, freeze that node, as the first step
 * of removing it.  Nodes between the two were unlinked together with their pages. */
static void freeze_empty_ends(struct paged *paged, uint64_t first, uint64_t end,
                              struct deferred *deferred)
{
    const uint64_t ends[2] = {first, end - 1};
    for (unsigned i = 0; i < 2; i++) {
        uint64_t word;
        if (table_freeze_empty(&paged->table, ends[i], &word))
            deferred_add_frozen(deferred, ends[i], word);
    }
}

/* Unlink the pages [first, end), as rule 2 of paged.h requires for whole pages.  Returns the page
 * up to which all pages are unlinked.  If must_not_wait is false, this is `end`.  If
 * must_not_wait is true, the function stops early if reclaim has no memory for more unlinked
 * words. */
static uint64_t unlink_pages(struct paged *paged, uint64_t first, uint64_t end,
                             bool must_not_wait)
{
    struct deferred deferred;
    uint64_t reached = first;
    deferred_init(&deferred);
    while (reached < end) {
        uint64_t words[DEFERRED_MAX - 2];
        unsigned count;
        if (must_not_wait && !deferred_reserve(&deferred, &paged->reclaim))
            return reached;
        rcu_enter();
        reached = table_unlink(&paged->table, reached, end, words, DEFERRED_MAX - 2, &count);
        for (unsigned i = 0; i < count; i++)
            deferred_add_unlinked(&deferred, words[i]);
        freeze_empty_ends(paged, first, least(reached, end), &deferred);
        rcu_leave();
        deferred_flush(&deferred, &paged->reclaim);
    }
    return end;
}

/* Zero a range.  Whole pages are unlinked first, and the parts of pages at both ends of the range
 * are zeroed afterwards.  Zeroing a part can take memory, and unlinking has freed some. */
static int zero_range(struct paged *paged, uint64_t offset, uint64_t count)
{
    size_t size = paged_page_size(paged);
    uint64_t stop = offset + count;
    uint64_t first = paged_page_of(paged, offset + size - 1), end = paged_page_of(paged, stop);
    if (stop == paged->size) /* `stop` may be inside the last page: cover all of that page */
        end = paged_page_of(paged, stop + size - 1);
    if (first < end)
        unlink_pages(paged, first, end, false);
    int head = zero_edge(paged, offset, least((first << paged->page_shift) - offset, count));
    uint64_t tail_at = end << paged->page_shift;
    int tail = end < first || tail_at >= stop ? 0 : zero_edge(paged, tail_at, stop - tail_at);
    return head < 0 ? head : tail;
}

/* Zero a range that is empty, or is a part of one page.  Never waits. */
static int try_zero_edge(struct paged *paged, uint64_t offset, uint64_t count)
{
    struct request request;
    int r = 0;
    if (count == 0)
        return 0;
    request_init_change(&request, offset, count);
    request.must_not_wait = true;
    rcu_enter();
    r = zero_part(paged, &request);
    rcu_leave();
    deferred_flush(&request.deferred, &paged->reclaim);
    return r == -ENOSPC || r == -ENOMEM ? -EAGAIN : r;
}

/* Zero the range in ascending order, and never wait.  On -EAGAIN *done is the number of bytes
 * zeroed so far.  These bytes must not be zeroed again: in the meantime a client may have written
 * to them and read its own bytes back. */
static int try_zero_range(struct paged *paged, uint64_t offset, uint64_t count, uint64_t *done)
{
    size_t size = paged_page_size(paged);
    uint64_t stop = offset + count;
    uint64_t first = paged_page_of(paged, offset + size - 1), end = paged_page_of(paged, stop);
    if (stop == paged->size) /* `stop` may be inside the last page: cover all of that page */
        end = paged_page_of(paged, stop + size - 1);
    uint64_t head = least((first << paged->page_shift) - offset, count);
    int r = try_zero_edge(paged, offset, head);
    if (r < 0)
        return r;
    *done = head;
    if (first < end) {
        uint64_t reached = unlink_pages(paged, first, end, true);
        *done = least((reached << paged->page_shift) - offset, count);
        if (reached < end)
            return -EAGAIN;
    }
    r = try_zero_edge(paged, offset + *done, count - *done);
    if (r == 0)
        *done = count;
    return r;
}

int paged_try_zero(void *state, uint64_t offset, uint64_t count, unsigned flags, uint64_t *done)
{
    if (!(flags & DISK_NO_HOLE))
        return try_zero_range(state, offset, count, done);
    struct request request;
    request_init_change(&request, offset, count);
    request.provide = true;
    int r = request_try_put(state, &request);
    *done = count - request.count;
    return r;
}

int paged_zero(void *state, uint64_t offset, uint64_t count, unsigned flags)
{
    if (flags & DISK_NO_HOLE)
        return paged_provide(state, offset, count);
    return zero_range(state, offset, count);
}

/* A trim is only a hint.  If there is no memory for zeroing a part of a page, the bytes of that
 * part stay as they are, and the trim still succeeds. */
int paged_trim(void *state, uint64_t offset, uint64_t count)
{
    int r = paged_zero(state, offset, count, 0);
    return r == -ENOSPC ? 0 : r;
}
