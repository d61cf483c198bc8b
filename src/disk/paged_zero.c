/* SPDX-License-Identifier: BSD-3-Clause */

/* Zeroing and trimming a paged disk.  The rules are those of paged.c. */

#include <errno.h>

#include "disk/bytes.h"
#include "disk/rcu.h"
#include "disk/request.h"

/* A frame that has become all zero is frozen, for finish() to look at again.  It is looked at
 * here, too, so that only those that are worth it are frozen. */
static void scrub(struct paged *paged, slot_t *slot, uint64_t word, struct request *request)
{
    if ((word & ENTRY_PINNED) ||
        !bytes_are_zero(paged_frame(paged, word), paged_page_size(paged)))
        return;
    if (table_freeze(&paged->table, slot, &word))
        left_add(&request->left, paged_page_of(paged, request->offset), word, true);
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
static void unlink_pages(struct paged *paged, uint64_t first, uint64_t end, struct left *left)
{
    for (uint64_t page = first; page < end;) {
        uint64_t words[LEFT_MAX];
        unsigned count;
        rcu_enter();
        page = table_unlink(&paged->table, page, end, words, LEFT_MAX, &count);
        rcu_leave();
        for (unsigned i = 0; i < count; i++)
            left_add(left, 0, words[i], false);
        left_flush(paged, left);
    }
    const uint64_t edges[2] = {first, end - 1};
    for (unsigned i = 0; i < 2; i++) {
        uint64_t word;
        rcu_enter();
        bool frozen = table_freeze_empty(&paged->table, edges[i], &word);
        rcu_leave();
        if (frozen)
            left_add(left, edges[i], word, true);
    }
    left_flush(paged, left);
}

static int zero_edge(struct paged *paged, struct request *request)
{
    size_t at;
    int r;
    struct search search = {0};
    for (;;) {
        rcu_enter();
        r = zero_part(paged, request);
        rcu_leave();
        left_flush(paged, &request->left);
        if ((r != -ENOSPC && r != -ENOMEM) || !paged_make_room(paged, &search))
            break;
    }
    request_advance(request, request_part(paged, request, &at));
    return r == -ENOMEM ? -ENOSPC : r;
}

/* Whole pages go, the parts at either end are zeroed. */
static int zero_range(struct paged *paged, struct request *request)
{
    size_t at, size = paged_page_size(paged), n = request_part(paged, request, &at);
    bool to_end = request->offset + request->count == paged->size;
    int head = 0, tail = 0;
    if (n < size && !(to_end && at == 0))
        head = zero_edge(paged, request);
    if (request->count == 0)
        return head;
    uint64_t first = paged_page_of(paged, request->offset);
    uint64_t end = paged_page_of(paged, request->offset + request->count);
    if (to_end) /* the disk may end within a page: all of that which there is, is covered */
        end = first + request_pages(paged, request);
    if (first < end)
        unlink_pages(paged, first, end, &request->left);
    request_advance(request, least((end - first) << paged->page_shift, request->count));
    if (request->count)
        tail = zero_edge(paged, request);
    return head < 0 ? head : tail;
}

int paged_zero(void *state, uint64_t offset, uint64_t count, unsigned flags)
{
    struct request request;
    request_init(&request, offset, count);
    if (flags & DISK_NO_HOLE)
        return paged_provide(state, offset, count);
    return zero_range(state, &request);
}

/* A trim is a hint: the part of a page that cannot be zeroed for lack of memory stays as it is.
 */
int paged_trim(void *state, uint64_t offset, uint64_t count)
{
    int r = paged_zero(state, offset, count, 0);
    return r == -ENOSPC ? 0 : r;
}
