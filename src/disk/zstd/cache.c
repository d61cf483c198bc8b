/* SPDX-License-Identifier: BSD-3-Clause */

/* An entry is good if the page's word is the one that it was when the page was inflated, and the
 * log has given back no segment since.  Both are looked at inside the section in which the word
 * was found, the word first.  This is exact:
 *
 *  1. A blob's word says nothing but its number, which is its place in the log.  A blob never
 *     changes, and its segment is only appended to.  So a number leads to other bytes only after
 *     its segment was given back, and taken again.
 *  2. When the page was inflated, the word was in the table, and that section was still open when
 *     the counter was read.  So the blob was not dropped before, and its segment was given back
 *     after that, if at all.
 *  3. If it was, the counter went up before the segment was taken again, before another blob was
 *     stored at that number, and before that blob's word was swapped into the table (release).  A
 *     section that finds this word (acquire) and then reads the counter reads a higher number.
 *
 * The counter is one for the whole log: one segment that is given back makes all entries useless.
 * That is seldom next to reads: it takes as many writes as fill a segment.
 */

#include "disk/zstd/cache.h"

#include <errno.h>
#include <stdlib.h>

#define ENTRIES 8

struct entry {
    uint64_t word;     /* 0: none */
    uint64_t recycled; /* blob_log_recycled, when the page was inflated */
    uint64_t used_at;  /* value of `clock` */
};

struct disk_cache {
    struct codec_unpacker *unpacker;
    size_t page_size;
    uint64_t clock;      /* counts uses */
    struct entry *taken; /* the last that cache_take has chosen */
    struct entry entries[ENTRIES];
    char pages[]; /* ENTRIES of them */
};

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

/* The entry that was used longest ago. */
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
