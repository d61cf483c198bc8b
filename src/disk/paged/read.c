/* SPDX-License-Identifier: BSD-3-Clause */

/* Reading from a paged disk, and telling where its holes are.  The rules are those of paged.c. */

#include "disk/memory/rcu.h"
#include "disk/paged/request.h"
#include "disk/zstd/compressor.h"
#include "os/bytes.h"

/* Reading. */

static int read_blob(struct paged *paged, uint64_t word, const struct request *request)
{
    size_t at, n = request_part(paged, request, &at);
    if (n == paged_page_size(paged))
        return compressor_inflate(paged->compressor, word, request->to);
    char page[PAGE_SIZE_MAX];
    int r = compressor_inflate(paged->compressor, word, page);
    memcpy(request->to, page + at, n);
    return r;
}

/* The first of slot[0..span), and those that go along with it.  Advances. */
static int read_pages(struct paged *paged, slot_t *slot, uint64_t span, struct request *request)
{
    size_t at, n = request_part(paged, request, &at);
    slot_t *page = table_resolve(&paged->table, slot);
    uint64_t word = slot_load(page);
    int r = 0;
    if (entry_kind(word) == ENTRY_FRAME) {
        if (page == slot)
            n = request_parts(paged, request, paged_frames_in_a_row(slot, span, word, false));
        bytes_load(request->to, (const char *)paged_frame(paged, word) + at, n);
    } else if (entry_kind(word) == ENTRY_BLOB) {
        r = read_blob(paged, word, request);
    } else {
        memset(request->to, 0, n);
    }
    if (r == 0)
        request_advance(request, n);
    return r;
}

static void read_hole(struct paged *paged, uint64_t span, struct request *request)
{
    size_t n = request_parts(paged, request, least(span, request_pages(paged, request)));
    memset(request->to, 0, n);
    request_advance(request, n);
}

static int read_some(struct paged *paged, struct request *request)
{
    uint64_t started_at = request->offset;
    int r = 0;
    while (r == 0 && request->count && !request_must_leave(request, started_at)) {
        uint64_t span;
        slot_t *slot = table_find(&paged->table, paged_page_of(paged, request->offset), &span);
        if (slot)
            r = read_pages(paged, slot, span, request);
        else
            read_hole(paged, span, request);
    }
    return r;
}

int paged_read(void *state, uint64_t offset, size_t count, void *buf)
{
    struct paged *paged = state;
    struct request request;
    int r = 0;
    request_init(&request, offset, count);
    request.to = buf;
    while (r == 0 && request.count) {
        rcu_enter();
        r = read_some(paged, &request);
        rcu_leave();
    }
    return r;
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
        uint64_t span, page = paged_page_of(paged, request->offset);
        slot_t *slot = table_find(&paged->table, page, &span);
        uint64_t run = slot ? 1 : least(span, request_pages(paged, request));
        for (uint64_t i = 0; i < (slot ? span : 1) && request->count; i++) {
            if (extents->count == max)
                return;
            bool hole = !slot || slot_load(table_resolve(&paged->table, slot + i)) == 0;
            uint64_t end = (paged_page_of(paged, request->offset) + run) << paged->page_shift;
            uint64_t n = least(end - request->offset, request->count);
            extents_add(extents, request->offset, n, hole);
            request_advance(request, n);
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

int paged_extents(void *state, uint64_t offset, uint64_t count, disk_extent_fn *fn, void *opaque)
{
    struct request request;
    struct extents extents;
    request_init(&request, offset, count);
    extents.count = 0;
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
