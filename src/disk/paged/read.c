/* SPDX-License-Identifier: BSD-3-Clause */

/* Reading from a paged disk.  All requests keep the rules in paged.h. */

#include <string.h>

#include "disk/memory/rcu.h"
#include "disk/paged/request.h"
#include "disk/paged/slots.h"
#include "os/bytes.h"

/* Read the part of the request that lies in its first page.  This page is a blob, to which `word`
 * leads. */
static int read_blob(struct paged *paged, uint64_t word, const struct request *request)
{
    const struct cold *cold = &paged->cold;
    struct disk_cache *cache = request->cache;
    size_t at, n = request_part(paged, request, &at);
    char copy[PAGE_SIZE_MAX];
    const void *page = copy;
    if (n == paged_page_size(paged))
        return cold->store->read(cold->state, cache, word, request->to);
    int r = cache ? cold->store->peek(cold->state, cache, word, &page)
                  : cold->store->read(cold->state, NULL, word, copy);
    if (r == 0)
        memcpy(request->to, (const char *)page + at, n);
    return r;
}

/* Read the page of slot[0].  If the frames of slot[1], slot[2] and so on are adjacent to its
 * frame, read their pages with the same copy, at most up to slot[span - 1].  Then make the
 * request start after the last page that was read. */
static int read_pages(struct paged *paged, slot_t *slot, uint64_t span, struct request *request)
{
    size_t at, n = request_part(paged, request, &at);
    slot_t *page = table_resolve(&paged->table, slot);
    uint64_t word = slot_load(page);
    int r = 0;
    if (entry_kind(word) == ENTRY_FRAME) {
        if (page == slot)
            n = request_parts(paged, request,
                              paged_frames_in_a_row(slot, span, word, FRAME_READ));
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

/* The first `span` pages of the request have no slot: fill the buffer with zeroes for these
 * pages.  Then make the request start after them. */
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
    while (r == 0 && request->count && request->offset - started_at < SECTION_BYTES) {
        uint64_t span;
        slot_t *slot = table_find(&paged->table, paged_page_of(paged, request->offset), &span);
        if (slot)
            r = read_pages(paged, slot, span, request);
        else
            read_hole(paged, span, request);
    }
    return r;
}

int paged_cache_create(void *state, struct disk_cache **cache)
{
    const struct cold *cold = &((struct paged *)state)->cold;
    *cache = NULL;
    return cold->store ? cold->store->cache_create(cold->state, cache) : 0;
}

void paged_cache_destroy(void *state, struct disk_cache *cache)
{
    const struct cold *cold = &((struct paged *)state)->cold;
    cold->store->cache_destroy(cold->state, cache);
}

int paged_read(void *state, struct disk_cache *cache, uint64_t offset, size_t count, void *buf)
{
    struct paged *paged = state;
    struct request request;
    int r = 0;
    request_init(&request, offset, count);
    request.to = buf;
    request.cache = cache;
    while (r == 0 && request.count) {
        rcu_enter();
        r = read_some(paged, &request);
        rcu_leave();
    }
    return r;
}
