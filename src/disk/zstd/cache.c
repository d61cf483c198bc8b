/* SPDX-License-Identifier: BSD-3-Clause */

/* An entry of the cache keeps two values from the time when its page was inflated: the word of
 * the page, and the number of segments that the blob log had given back to the pool.  A thread
 * that looks for a page reads both values again, inside one section: first the word in the page
 * table, then the counter of segments.  The entry is used only if both are still the same.  Its
 * bytes are then those of the page, for these reasons:
 *
 *  1. A blob's word contains nothing but the blob's number, which is its place in the log.  A
 *     blob never changes.  So the same number can lead to other bytes only after the blob's
 *     segment was given back and taken again.
 *  2. The section in which the page was inflated kept the blob from being dropped.  The entry's
 *     counter was read inside that section.  So the segment can have been given back only after
 *     the counter was read.
 *  3. If the segment was given back then, four steps followed in this order: the counter grew,
 *     the segment was taken again, another blob was stored at the same number, and that blob's
 *     word was swapped into the page table (release).  A thread that finds this word (acquire)
 *     and then reads the counter reads a greater value than the entry has.
 *
 * There is one counter for the whole log.  So when any segment is given back, all entries become
 * useless.  This seldom happens while a client reads: before a segment is given back, clients
 * must write about as much as fills a segment.
 */

#include "disk/zstd/cache.h"

#include <errno.h>
#include <stdlib.h>

#define ENTRIES 8

struct entry {
    uint64_t word;     /* the word of the page's blob, or 0 if the entry is empty */
    uint64_t recycled; /* value of blob_log_recycled when the page was inflated */
    uint64_t used_at;  /* value of `clock` when the entry was last used */
};

struct disk_cache {
    struct codec_unpacker *unpacker;
    size_t page_size;
    uint64_t clock;      /* how often the entries of this cache were used so far, in total */
    struct entry *taken; /* the entry that the last cache_take chose */
    struct entry entries[ENTRIES];
    char pages[]; /* ENTRIES pages, one for each entry */
};

uint64_t cache_size(size_t page_size)
{
    return sizeof(struct disk_cache) + ENTRIES * page_size;
}

int cache_create(size_t page_size, struct disk_cache **made)
{
    struct disk_cache *cache = calloc(1, sizeof *cache + ENTRIES * page_size);
    if (!cache)
        return -ENOMEM;
    cache->page_size = page_size;
    int r = codec_unpacker_create(&cache->unpacker);
    if (r < 0) {
        free(cache);
        return r;
    }
    *made = cache;
    return 0;
}

void cache_destroy(struct disk_cache *cache)
{
    codec_unpacker_destroy(cache->unpacker);
    free(cache);
}

struct codec_unpacker *cache_unpacker(struct disk_cache *cache)
{
    return cache->unpacker;
}

static void *page_of(struct disk_cache *cache, const struct entry *entry)
{
    return cache->pages + (size_t)(entry - cache->entries) * cache->page_size;
}

const void *cache_find(struct disk_cache *cache, const struct blob_log *blobs, uint64_t word)
{
    for (unsigned i = 0; i < ENTRIES; i++) {
        struct entry *entry = &cache->entries[i];
        if (entry->word != word)
            continue;
        if (entry->recycled != blob_log_recycled(blobs))
            return NULL;
        entry->used_at = ++cache->clock;
        return page_of(cache, entry);
    }
    return NULL;
}

/* Empty the entry that was not used for the longest time, and return its buffer. */
void *cache_take(struct disk_cache *cache)
{
    struct entry *oldest = &cache->entries[0];
    for (unsigned i = 1; i < ENTRIES; i++)
        if (cache->entries[i].used_at < oldest->used_at)
            oldest = &cache->entries[i];
    oldest->word = 0;
    cache->taken = oldest;
    return page_of(cache, oldest);
}

void cache_keep(struct disk_cache *cache, const struct blob_log *blobs, uint64_t word)
{
    *cache->taken = (struct entry){
        .word = word, .recycled = blob_log_recycled(blobs), .used_at = ++cache->clock};
}
