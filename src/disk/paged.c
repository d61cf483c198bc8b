/* SPDX-License-Identifier: BSD-3-Clause */

/* The sparse and the zstd allocator: requests on a disk kept in pages.
 *
 * No lock is taken on the way to a page: requests walk the table inside a read section and copy
 * in place.  What a page's word (entry.h) may become, and who makes it so:
 *
 *                        write, provide
 *               .---------------------------------.
 *               |                                 v      freeze       squeeze, scrub
 *     0 (hole) -'      BLOB --write, zero---->  FRAME <------------> FRAME|frozen ----.
 *       ^                ^                        |       write                |      |
 *       |                '------------------------|----------------------------'      |
 *       '---------------- trim, zero of the whole page -------------------------------'
 *
 * Rules, numbered as in DESIGN.md, which says why:
 *
 *  1. A hole or a blob becomes a frame by compare-and-swap of a frame that already holds what the
 *     page will hold, the write included.  Who loses gives his frame back and uses the winner's.
 *  2. Zeroing or trimming that covers a whole page unlinks it.
 *  3. What is taken away because of what it holds is frozen first, a grace period is waited for,
 *     and the swap names the exact word: a frame all zero (scrub, below), a cold one (squeeze.c),
 * an empty node (table.c).  A writer that meets a frozen word thaws it before he writes.
 *  4. What a page held is let go (to reclaim) only after the swap that replaces it.
 *  5. A section never waits: no memory is a reason to leave it, make room outside, and come back.
 *  6. A frame is filled before it is swapped in: nobody sees what it held before.
 *
 * Who may run beside whom, on one page, all inside sections:
 *
 *               read     write             zero part          zero, trim whole   freeze, finish
 *     read      -        bytes of either   bytes of either    old, or zeroes     same bytes
 *     write              rule 1            bytes of either    rule 2             thaws, rule 3
 *     zero part                            bytes of either    rule 2             thaws, rule 3
 *     trim whole                                              one swap wins      exact word gone
 *     freeze                                                                     generation
 * differs
 *
 * Destroy runs beside nobody.  Extents is a read that looks at words only.
 */

#include "disk/paged.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "disk/allocator.h"
#include "disk/bytes.h"
#include "disk/squeeze.h"
#include "os/memory.h"

#define SPARSE_PAGE_SHIFT 12
#define ZSTD_PAGE_SHIFT 14

/* A section that copies for long holds up every grace period. */
#define SECTION_BYTES ((uint64_t)1 << 20)
#define SECTION_STEPS 4096 /* steps through the table, where nothing is copied */

/* A range being worked off.  `left` collects; a section ends when it may not hold one page's. */
struct request {
    uint64_t offset;
    uint64_t count;
    char *to;         /* read */
    const char *from; /* write; NULL for zeroes */
    bool provide;     /* DISK_NO_HOLE */
    struct left left;
};

static uint64_t min(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t page_of(const struct paged *paged, uint64_t offset)
{
    return offset >> paged->page_shift;
}

/* How much of the request lies in its first page, and from where in that. */
static size_t part_of_page(const struct paged *paged, const struct request *request, size_t *at)
{
    size_t size = paged_page_size(paged);
    *at = request->offset & (size - 1);
    return min(size - *at, request->count);
}

static uint64_t pages_left(const struct paged *paged, const struct request *request)
{
    return page_of(paged, request->offset + request->count - 1) -
           page_of(paged, request->offset) + 1;
}

static void advance(struct request *request, uint64_t n)
{
    request->offset += n;
    request->count -= n;
    if (request->to)
        request->to += n;
    if (request->from)
        request->from += n;
}

/* Pages side by side often have frames side by side: how many of slot[0..span), the first of
 * which holds `word`, can be copied as one.  One copy of 64 KiB takes 3/4 of the time of 16 of 4
 * KiB. */
static uint64_t frames_in_a_row(slot_t *slot, uint64_t span, uint64_t word, bool to_write)
{
    uint64_t n = 1;
    for (; n < span; n++) {
        uint64_t next = slot_load(&slot[n]);
        if (entry_number(next) != entry_number(word) + n ||
            !(to_write ? entry_writable(next) : entry_kind(next) == ENTRY_FRAME))
            break;
    }
    return n;
}

/* The part of the request that lies in its first n pages. */
static size_t part_of_pages(const struct paged *paged, const struct request *request, uint64_t n)
{
    size_t at, size = paged_page_size(paged);
    part_of_page(paged, request, &at);
    return min(n * size - at, request->count);
}

static bool must_leave(const struct request *request, uint64_t started_at)
{
    return request->offset - started_at >= SECTION_BYTES || request->left.count + 2 > LEFT_MAX;
}

/* Words. */

static uint64_t young(uint64_t word)
{
    return entry_thawed(entry_aged(word, 0));
}

static void count_hot(struct paged *paged, bool before, bool after)
{
    if (paged->squeeze && before != after)
        squeeze_count(paged->squeeze, after ? 1 : -1);
}

bool paged_swap(struct paged *paged, slot_t *slot, uint64_t *word, uint64_t desired)
{
    if (!slot_swap(slot, word, desired))
        return false;
    count_hot(paged, entry_hot(*word), entry_hot(desired));
    *word = desired;
    return true;
}

/* A page's word that was taken out a grace period ago, or never got in. */
static void drop(void *opaque, uint64_t word)
{
    struct paged *paged = opaque;
    if (entry_kind(word) == ENTRY_BLOB) {
        squeeze_drop(paged->squeeze, word);
    } else {
        count_hot(paged, entry_hot(word), false);
        pool_give(&paged->frames, entry_number(word));
    }
}

/* Turning a hole or a blob into a frame. */

/* What the page is going to hold: what it held, with n bytes from `at` on written over. */
static int fill(struct paged *paged, void *frame, uint64_t word, size_t at, size_t n,
                const char *from)
{
    size_t size = paged_page_size(paged);
    if (entry_kind(word) == ENTRY_BLOB && n < size) {
        int r = squeeze_inflate(paged->squeeze, word, frame);
        if (r < 0)
            return r;
    } else {
        bytes_zero(frame, at);
        bytes_zero((char *)frame + at + n, size - at - n);
    }
    if (from)
        bytes_store((char *)frame + at, from, n);
    else
        bytes_zero((char *)frame + at, n);
    return 0;
}

/* Rules 1, 4 and 6.  *word is what stands in the slot afterwards, whoever put it there. */
static int replace(struct paged *paged, slot_t *slot, uint64_t *word, struct request *request)
{
    uint64_t cell;
    size_t at, n = part_of_page(paged, request, &at);
    int r = pool_take(&paged->frames, &cell);
    if (r < 0)
        return r;
    uint64_t made = entry_make(ENTRY_FRAME, cell) | (request->provide ? ENTRY_PINNED : 0);
    r = fill(paged, paged_frame(paged, made), *word, at, n, request->from);
    uint64_t before = *word;
    if (r == 0 && slot_swap(slot, word, made)) {
        count_hot(paged, false, entry_hot(made));
        if (before)
            left_add(&request->left, page_of(paged, request->offset), before, false);
        *word = made;
        return 0;
    }
    pool_give(&paged->frames, cell);
    return r;
}

/* Writing.  Each of these does the request's part of its first page. */

static int write_page(struct paged *paged, slot_t *slot, struct request *request)
{
    size_t at, n = part_of_page(paged, request, &at);
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
            paged_swap(paged, slot, &word, young(word));
        else
            r = replace(paged, slot, &word, request);
        if (r < 0)
            return r;
    }
}

/* Zeroes with the memory behind them: the page is pinned before it is zeroed, so that no scrub
 * can take it in between. */
static int provide_page(struct paged *paged, slot_t *slot, struct request *request)
{
    size_t at, n = part_of_page(paged, request, &at);
    uint64_t word = slot_load(slot);
    for (;;) {
        int r = 0;
        if (entry_writable(word) && (word & ENTRY_PINNED)) {
            bytes_zero((char *)paged_frame(paged, word) + at, n);
            return 0;
        }
        if (entry_kind(word) == ENTRY_FRAME)
            paged_swap(paged, slot, &word, young(word) | ENTRY_PINNED);
        else
            r = replace(paged, slot, &word, request);
        if (r < 0)
            return r;
    }
}

/* Whether writing zeroes to the request's part of its first page would change nothing: there is
 * no reason to make nodes for it either. */
static bool is_zero_to_hole(struct paged *paged, const struct request *request)
{
    size_t at, n = part_of_page(paged, request, &at);
    uint64_t span;
    return !request->provide && bytes_are_zero(request->from, n) &&
           !table_find(&paged->table, page_of(paged, request->offset), &span);
}

/* The first of slot[0..span), and those that go along with it.  Advances. */
static int put_pages(struct paged *paged, slot_t *slot, uint64_t span, struct request *request)
{
    size_t at, n = part_of_page(paged, request, &at);
    slot_t *page = table_resolve_thawed(&paged->table, slot);
    uint64_t word = slot_load(page);
    int r = 0;
    if (request->provide) {
        r = provide_page(paged, page, request);
    } else if (page == slot && entry_writable(word)) {
        n = part_of_pages(paged, request, frames_in_a_row(slot, span, word, true));
        bytes_store((char *)paged_frame(paged, word) + at, request->from, n);
    } else {
        r = write_page(paged, page, request);
    }
    if (r == 0)
        advance(request, n);
    return r;
}

/* In a section: go on with a write or a provide until it is done, or must leave. */
static int put_some(struct paged *paged, struct request *request)
{
    uint64_t started_at = request->offset;
    size_t at;
    while (request->count && !must_leave(request, started_at)) {
        slot_t *slot;
        uint64_t span;
        if (is_zero_to_hole(paged, request)) {
            advance(request, part_of_page(paged, request, &at));
            continue;
        }
        int r = table_make(&paged->table, page_of(paged, request->offset),
                           pages_left(paged, request), &slot, &span);
        if (r < 0)
            return r;
        while (r == 0 && span && request->count && !must_leave(request, started_at)) {
            uint64_t page = page_of(paged, request->offset);
            r = put_pages(paged, slot, span, request);
            uint64_t done = min(page_of(paged, request->offset) - page, span);
            slot += done;
            span -= done;
        }
        if (r < 0)
            return r;
    }
    return 0;
}

/* Give all that is free, wherever it is, to whoever needs it. */
static void shrink(struct paged *paged)
{
    pool_shrink(&paged->frames);
    pool_shrink(&paged->table.nodes);
    pool_shrink(&paged->table.lones);
    if (paged->squeeze)
        squeeze_shrink(paged->squeeze);
}

/* Outside of a section: try to find memory, harder each time.  False: there is none. */
static bool make_room(struct paged *paged, unsigned attempt)
{
    if (attempt > 0 && !(paged->squeeze && squeeze_make_room(paged->squeeze)))
        return false;
    reclaim_run(&paged->reclaim);
    shrink(paged);
    return true;
}

static int put(struct paged *paged, struct request *request)
{
    unsigned attempt = 0;
    while (request->count) {
        uint64_t before = request->count;
        rcu_enter();
        int r = put_some(paged, request);
        rcu_leave();
        left_flush(paged, &request->left);
        if (request->count < before)
            attempt = 0;
        if (r == -ENOSPC || r == -ENOMEM) {
            if (!make_room(paged, attempt++))
                return -ENOSPC;
        } else if (r < 0) {
            return r;
        }
        if (paged->squeeze)
            squeeze_help(paged->squeeze);
    }
    return 0;
}

static int paged_write(void *state, uint64_t offset, size_t count, const void *buf)
{
    struct request request = {.offset = offset, .count = count, .from = buf};
    return put(state, &request);
}

/* Reading. */

static int read_blob(struct paged *paged, uint64_t word, const struct request *request)
{
    size_t at, n = part_of_page(paged, request, &at);
    if (n == paged_page_size(paged))
        return squeeze_inflate(paged->squeeze, word, request->to);
    char page[PAGE_SIZE_MAX];
    int r = squeeze_inflate(paged->squeeze, word, page);
    memcpy(request->to, page + at, n);
    return r;
}

/* The first of slot[0..span), and those that go along with it.  Advances. */
static int read_pages(struct paged *paged, slot_t *slot, uint64_t span, struct request *request)
{
    size_t at, n = part_of_page(paged, request, &at);
    slot_t *page = table_resolve(&paged->table, slot);
    uint64_t word = slot_load(page);
    int r = 0;
    if (entry_kind(word) == ENTRY_FRAME) {
        if (page == slot)
            n = part_of_pages(paged, request, frames_in_a_row(slot, span, word, false));
        bytes_load(request->to, (const char *)paged_frame(paged, word) + at, n);
    } else if (entry_kind(word) == ENTRY_BLOB) {
        r = read_blob(paged, word, request);
    } else {
        memset(request->to, 0, n);
    }
    if (r == 0)
        advance(request, n);
    return r;
}

static void read_hole(struct paged *paged, uint64_t span, struct request *request)
{
    size_t n = part_of_pages(paged, request, min(span, pages_left(paged, request)));
    memset(request->to, 0, n);
    advance(request, n);
}

static int read_some(struct paged *paged, struct request *request)
{
    uint64_t started_at = request->offset;
    int r = 0;
    while (r == 0 && request->count && !must_leave(request, started_at)) {
        uint64_t span;
        slot_t *slot = table_find(&paged->table, page_of(paged, request->offset), &span);
        if (slot)
            r = read_pages(paged, slot, span, request);
        else
            read_hole(paged, span, request);
    }
    return r;
}

static int paged_read(void *state, uint64_t offset, size_t count, void *buf)
{
    struct paged *paged = state;
    struct request request = {.offset = offset, .count = count, .to = buf};
    int r = 0;
    while (r == 0 && request.count) {
        rcu_enter();
        r = read_some(paged, &request);
        rcu_leave();
    }
    return r;
}

/* Zeroing and trimming. */

/* A frame that has become all zero is frozen, for finish() to look at again.  It is looked at
 * here, too, so that only those that are worth it are frozen. */
static void scrub(struct paged *paged, slot_t *slot, uint64_t word, struct request *request)
{
    if ((word & ENTRY_PINNED) ||
        !bytes_are_zero(paged_frame(paged, word), paged_page_size(paged)))
        return;
    if (table_freeze(&paged->table, slot, &word))
        left_add(&request->left, page_of(paged, request->offset), word, true);
}

/* Zero the request's part of its first page, which is not all of it. */
static int zero_part(struct paged *paged, struct request *request)
{
    uint64_t span;
    size_t at, n = part_of_page(paged, request, &at);
    slot_t *slot = table_find(&paged->table, page_of(paged, request->offset), &span);
    if (!slot)
        return 0;
    slot = table_resolve(&paged->table, slot);
    uint64_t word = slot_load(slot);
    while (word) {
        int r = 0;
        if (entry_writable(word)) {
            bytes_zero((char *)paged_frame(paged, word) + at, n);
            scrub(paged, slot, word, request);
            return 0;
        }
        if (entry_kind(word) == ENTRY_FRAME)
            paged_swap(paged, slot, &word, young(word));
        else
            r = replace(paged, slot, &word, request);
        if (r < 0)
            return r;
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
    for (unsigned attempt = 0;; attempt++) {
        rcu_enter();
        r = zero_part(paged, request);
        rcu_leave();
        left_flush(paged, &request->left);
        if ((r != -ENOSPC && r != -ENOMEM) || !make_room(paged, attempt))
            break;
    }
    advance(request, part_of_page(paged, request, &at));
    return r == -ENOMEM ? -ENOSPC : r;
}

/* Whole pages go, the parts at either end are zeroed. */
static int zero_range(struct paged *paged, struct request *request)
{
    size_t at, size = paged_page_size(paged), n = part_of_page(paged, request, &at);
    bool to_end = request->offset + request->count == paged->size;
    int head = 0, tail = 0;
    if (n < size && !(to_end && at == 0))
        head = zero_edge(paged, request);
    if (request->count == 0)
        return head;
    uint64_t first = page_of(paged, request->offset);
    uint64_t end = page_of(paged, request->offset + request->count);
    if (to_end) /* the disk may end within a page: all of that which there is, is covered */
        end = first + pages_left(paged, request);
    if (first < end)
        unlink_pages(paged, first, end, &request->left);
    advance(request, min((end - first) << paged->page_shift, request->count));
    if (request->count)
        tail = zero_edge(paged, request);
    return head < 0 ? head : tail;
}

static int paged_zero(void *state, uint64_t offset, uint64_t count, unsigned flags)
{
    struct request request = {.offset = offset, .count = count};
    request.provide = flags & DISK_NO_HOLE;
    return request.provide ? put(state, &request) : zero_range(state, &request);
}

/* A trim is a hint: the part of a page that cannot be zeroed for lack of memory stays as it is.
 */
static int paged_trim(void *state, uint64_t offset, uint64_t count)
{
    int r = paged_zero(state, offset, count, 0);
    return r == -ENOSPC ? 0 : r;
}

/* After a grace period. */

void paged_make_hole(struct paged *paged, slot_t *slot, uint64_t page, uint64_t word,
                     struct left *left)
{
    uint64_t node;
    if (!slot_swap(slot, &word, 0))
        return;
    left_add(left, page, word, false);
    if (table_freeze_empty(&paged->table, page, &node))
        left_add(left, page, node, true);
}

static void finish_frame(struct paged *paged, const struct pending *pending, struct left *left)
{
    uint64_t span;
    slot_t *slot = table_find(&paged->table, pending->page, &span);
    if (!slot)
        return;
    slot = table_resolve(&paged->table, slot);
    uint64_t word = slot_load(slot);
    if (word != pending->word)
        return;
    if (bytes_are_zero(paged_frame(paged, word), paged_page_size(paged)))
        paged_make_hole(paged, slot, pending->page, word, left);
    else
        paged_swap(paged, slot, &word, entry_thawed(word));
}

static void finish_node(struct paged *paged, const struct pending *pending, struct left *left)
{
    uint64_t above;
    if (!table_unlink_empty(&paged->table, pending->page, pending->word))
        return;
    left_add(left, pending->page, pending->word, false);
    if (table_freeze_empty(&paged->table, pending->page, &above))
        left_add(left, pending->page, above, true);
}

static void finish(void *opaque, const struct pending *pending)
{
    struct paged *paged = opaque;
    struct left left = {0};
    if (!pending->frozen) {
        table_release(&paged->table, pending->word, drop, paged);
        return;
    }
    rcu_enter();
    if (entry_kind(pending->word) == ENTRY_FRAME)
        finish_frame(paged, pending, &left);
    else
        finish_node(paged, pending, &left);
    rcu_leave();
    left_flush(paged, &left);
}

/* Extents. */

struct extent {
    uint64_t offset, count;
    bool hole;
};

/* Extents are told outside of sections, a few at a time; the last is kept back, to grow. */
struct extents {
    struct extent list[64];
    unsigned count;
};

static void extents_add(struct extents *extents, uint64_t offset, uint64_t count, bool hole)
{
    struct extent *last = extents->count ? &extents->list[extents->count - 1] : NULL;
    if (last && last->hole == hole)
        last->count += count;
    else
        extents->list[extents->count++] = (struct extent){offset, count, hole};
}

/* In a section: look at words until the list is full. */
static void extents_gather(struct paged *paged, struct request *request, struct extents *extents)
{
    const unsigned max = sizeof extents->list / sizeof extents->list[0];
    for (unsigned steps = 0; steps < SECTION_STEPS && request->count; steps++) {
        uint64_t span, page = page_of(paged, request->offset);
        slot_t *slot = table_find(&paged->table, page, &span);
        uint64_t run = slot ? 1 : min(span, pages_left(paged, request));
        for (uint64_t i = 0; i < (slot ? span : 1) && request->count; i++) {
            if (extents->count == max)
                return;
            bool hole = !slot || slot_load(table_resolve(&paged->table, slot + i)) == 0;
            uint64_t end = (page_of(paged, request->offset) + run) << paged->page_shift;
            uint64_t n = min(end - request->offset, request->count);
            extents_add(extents, request->offset, n, hole);
            advance(request, n);
        }
    }
}

static int extents_tell(struct extents *extents, unsigned keep, disk_extent_fn *fn, void *opaque)
{
    unsigned told = 0;
    int r = 0;
    while (r == 0 && told + keep < extents->count) {
        const struct extent *extent = &extents->list[told++];
        r = fn(opaque, extent->offset, extent->count, extent->hole);
    }
    if (keep && extents->count)
        extents->list[0] = extents->list[extents->count - 1];
    extents->count = keep && extents->count ? 1 : 0;
    return r;
}

static int paged_extents(void *state, uint64_t offset, uint64_t count, disk_extent_fn *fn,
                         void *opaque)
{
    struct request request = {.offset = offset, .count = count};
    struct extents extents = {.count = 0};
    while (request.count) {
        rcu_enter();
        extents_gather(state, &request, &extents);
        rcu_leave();
        int r = extents_tell(&extents, 1, fn, opaque);
        if (r != 0)
            return r;
    }
    return extents_tell(&extents, 0, fn, opaque);
}

/* The disk as a whole. */

/* Chunks of 2 MiB, unless a low limit would then be mostly rounding. */
static size_t chunk_size(uint64_t limit)
{
    size_t chunk = (size_t)2 << 20;
    size_t least = os_page_size() > (64 << 10) ? os_page_size() : 64 << 10;
    while (limit && chunk > least && limit / 32 < chunk)
        chunk /= 2;
    return chunk;
}

static void destroy(void *state)
{
    struct paged *paged = state;
    if (paged->squeeze)
        squeeze_stop(paged->squeeze);
    reclaim_destroy(&paged->reclaim);
    squeeze_destroy(paged->squeeze);
    table_destroy(&paged->table);
    pool_destroy(&paged->frames);
    free(paged);
}

/* Address space for as many bytes as there could ever be memory for; for a small disk, twice what
 * it can hold, since pages that wait for a grace period stand beside their successors. */
static uint64_t capacity(const struct paged *paged, size_t chunk)
{
    uint64_t most = min(budget_ceiling(paged->budget), (uint64_t)1 << 52);
    uint64_t size = min(paged->size, most); /* so that the sum cannot wrap */
    return min(most, 2 * size + 16 * (uint64_t)chunk);
}

static int make_parts(struct paged *paged, const struct disk_options *options)
{
    size_t chunk = chunk_size(options->limit);
    struct pool_options pool = {
        .cell = paged_page_size(paged),
        .chunk = chunk,
        .capacity = capacity(paged, chunk),
        .locked = options->mlock,
        .budget = paged->budget,
    };
    uint64_t pages =
        (paged->size >> paged->page_shift) + (paged->size % paged_page_size(paged) != 0);
    int r = pool_create(&pool, &paged->frames);
    if (r == 0 && options->mlock)
        r = pool_may_lock(&paged->frames, paged->size);
    if (r == 0)
        r = table_create(&paged->table, pages, &pool);
    if (r == 0 && options->allocator == DISK_ZSTD)
        r = squeeze_create(paged, options->level, &pool, &paged->squeeze);
    return r;
}

static int create(const struct disk_options *options, struct budget *budget, void **state)
{
    struct paged *paged = calloc(1, sizeof *paged);
    if (!paged)
        return -ENOMEM;
    paged->size = options->size;
    paged->budget = budget;
    paged->page_shift = options->allocator == DISK_ZSTD ? ZSTD_PAGE_SHIFT : SPARSE_PAGE_SHIFT;
    reclaim_create(&paged->reclaim, finish, paged);
    int r = make_parts(paged, options);
    if (r < 0) {
        destroy(paged);
        return r;
    }
    *state = paged;
    return 0;
}

static int start(void *state)
{
    struct paged *paged = state;
    int r = reclaim_start(&paged->reclaim);
    if (r == 0 && paged->squeeze)
        r = squeeze_start(paged->squeeze);
    return r;
}

static int settle(void *state)
{
    struct paged *paged = state;
    reclaim_run(&paged->reclaim);
    if (paged->squeeze)
        squeeze_settle(paged->squeeze);
    shrink(paged);
    return 0;
}

static void stats(void *state, struct disk_stats *stats)
{
    struct paged *paged = state;
    stats->pages = pool_cells_used(&paged->frames);
    if (paged->squeeze)
        squeeze_stats(paged->squeeze, stats);
    stats->pages += stats->compressed;
}

#define PAGED_ALLOCATOR(shift)                                                                   \
    {                                                                                            \
        .page_size = 1u << (shift), .create = create, .start = start, .destroy = destroy,        \
        .read = paged_read, .write = paged_write, .zero = paged_zero, .trim = paged_trim,        \
        .extents = paged_extents, .settle = settle, .stats = stats,                              \
    }

const struct allocator allocator_sparse = PAGED_ALLOCATOR(SPARSE_PAGE_SHIFT);
const struct allocator allocator_zstd = PAGED_ALLOCATOR(ZSTD_PAGE_SHIFT);
