/* SPDX-License-Identifier: BSD-3-Clause */

/* Reporting which parts of a paged disk are holes.  All requests keep the rules in paged.h. */

#include "disk/memory/rcu.h"
#include "disk/paged/request.h"
#include "disk/paged/slots.h"

struct extent {
    uint64_t offset, count;
    bool hole;
};

/* A list of extents.  The list is filled inside a read section, and reported after the section.
 * The last extent stays in the list, because the next section may make it longer. */
struct extents {
    struct extent list[64];
    unsigned count;
};

static void add_extent(struct extents *extents, uint64_t offset, uint64_t count, bool hole)
{
    struct extent *last = extents->count ? &extents->list[extents->count - 1] : NULL;
    if (last && last->hole == hole)
        last->count += count;
    else
        extents->list[extents->count++] = (struct extent){offset, count, hole};
}

/* Called inside a section: add extents to the list, until the list is full, the request is done,
 * or the section must end. */
static void gather_extents(struct paged *paged, struct request *request, struct extents *extents)
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
            add_extent(extents, request->offset, n, hole);
            request_advance(request, n);
        }
    }
}

/* Report the extents in the list.  If `kept` is 1, the last extent is not reported and stays in
 * the list.  If `kept` is 0, all extents are reported. */
static int report_extents(struct extents *extents, unsigned kept, disk_extent_fn *fn,
                          void *opaque)
{
    unsigned reported = 0;
    int r = 0;
    while (r == 0 && reported + kept < extents->count) {
        const struct extent *extent = &extents->list[reported++];
        r = fn(opaque, extent->offset, extent->count, extent->hole);
    }
    if (kept && extents->count)
        extents->list[0] = extents->list[extents->count - 1];
    extents->count = kept && extents->count ? 1 : 0;
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
        gather_extents(state, &request, &extents);
        rcu_leave();
        int r = report_extents(&extents, 1, fn, opaque);
        if (r != 0)
            return r;
    }
    return report_extents(&extents, 0, fn, opaque);
}
