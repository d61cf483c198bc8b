/* SPDX-License-Identifier: BSD-3-Clause */

/* Zeroing and trimming a paged disk.  The rules are those of paged.c. */

#include <errno.h>

#include "disk/memory/rcu.h"
#include "disk/paged/request.h"
#include "os/bytes.h"

/* A frame that has become all zero is frozen, for finish() to look at again.  It is looked at
 * here, too, so that only those that are worth it are frozen. */
static void scrub(struct paged *paged, slot_t *slot, uint64_t word, struct request *request)
{
    if ((word & ENTRY_PINNED) ||
        !bytes_are_zero(paged_frame(paged, word), paged_page_size(paged)))
        return;
    if (table_freeze(&paged->table, slot, &word))
        deferred_add(&request->left, paged_page_of(paged, request->offset), word, true);
}

/* Zero the request's part of its first page, which is not all of it. */
static int zero_part(struct paged *paged, struct request *request)
{
    uint64_t span;
    size_t at, n = request_part(paged, request, &at);
    slot_t *slot = table_find(&paged->table, paged_page_of(paged, request->offset), &span);
    if (!slot)
        return 0;
    slot = table_resolve(&paged->table, slot);
    uint64_t word = slot_load(slot);
    while (word) {
        int r = 0;
        if (entry_writable(word)) {
            bytes_zero((char *)paged_frame(paged, word) + at, n);
            r = 1;
        } else if (entry_kind(word) == ENTRY_FRAME) {
            paged_swap(paged, slot, &word, entry_young(word));
        } else {
            r = request_replace(paged, slot, &word, request);
        }
        if (r > 0)
            scrub(paged, slot, word, request);
        if (r != 0)
            return r < 0 ? r : 0;
    }
    return 0;
}

/* Rule 2, for the pages [first, end), and then for the nodes at either end that are left empty;
 * those in between are gone already. */
static void unlink_pages(struct paged *paged, uint64_t first, uint64_t end, struct deferred *left)
{
    for (uint64_t page = first; page < end;) {
        uint64_t words[DEFERRED_MAX];
        unsigned count;
        rcu_enter();
        page = table_unlink(&paged->table, page, end, words, DEFERRED_MAX, &count);
        rcu_leave();
        for (unsigned i = 0; i < count; i++)
            deferred_add(left, 0, words[i], false);
        deferred_flush(paged, left);
    }
    const uint64_t edges[2] = {first, end - 1};
    for (unsigned i = 0; i < 2; i++) {
        uint64_t word;
        rcu_enter();
        bool frozen = table_freeze_empty(&paged->table, edges[i], &word);
        rcu_leave();
        if (frozen)
            deferred_add(left, edges[i], word, true);
    }
    deferred_flush(paged, left);
}

/* Zero what is a part of one page, or nothing. */
static int zero_edge(struct paged *paged, uint64_t offset, uint64_t count)
{
    struct request request;
    struct search search = {0};
    int r = 0;
    request_init(&request, offset, count);
    while (count) {
        rcu_enter();
        r = zero_part(paged, &request);
        rcu_leave();
        deferred_flush(paged, &request.left);
        if ((r != -ENOSPC && r != -ENOMEM) || !paged_make_room(paged, &search))
            break;
    }
    return r == -ENOMEM ? -ENOSPC : r;
}

/* Whole pages go, and then the parts at either end are zeroed: that can take memory, which the
 * pages have given. */
static int zero_range(struct paged *paged, uint64_t offset, uint64_t count)
{
    size_t size = paged_page_size(paged);
    uint64_t stop = offset + count;
    uint64_t first = paged_page_of(paged, offset + size - 1), end = paged_page_of(paged, stop);
    struct deferred left = {0};
    if (stop == paged->size) /* maybe within a page: all of that which there is, is covered */
        end = paged_page_of(paged, stop + size - 1);
    if (first < end)
        unlink_pages(paged, first, end, &left);
    int head = zero_edge(paged, offset, least((first << paged->page_shift) - offset, count));
    uint64_t tail_at = end << paged->page_shift;
    int tail = end < first || tail_at >= stop ? 0 : zero_edge(paged, tail_at, stop - tail_at);
    return head < 0 ? head : tail;
}

int paged_zero(void *state, uint64_t offset, uint64_t count, unsigned flags)
{
    if (flags & DISK_NO_HOLE)
        return paged_provide(state, offset, count);
    return zero_range(state, offset, count);
}

/* A trim is a hint: the part of a page that cannot be zeroed for lack of memory stays as it is.
 */
int paged_trim(void *state, uint64_t offset, uint64_t count)
{
    int r = paged_zero(state, offset, count, 0);
    return r == -ENOSPC ? 0 : r;
}
