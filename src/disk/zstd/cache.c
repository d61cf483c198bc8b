/* SPDX-License-Identifier: BSD-3-Clause */

/* An entry is good if two things are still as they were when the page was inflated: the page's
 * word, and the number of segments that the log has given back.  Both are looked at inside the
 * section in which the word was found, the word first.  This is exact:
 *
 *  1. A blob's word contains nothing but the blob's number, which is its place in the log.  A
 *     blob never changes, and its segment is only appended to.  So a number leads to other bytes
 *     only after its segment was given back, and taken again.
 *  2. When the page was inflated, the word was in the table, and that section was still open when
 *     the counter was read.  So the blob had not been dropped by then, and its segment was given
 *     back only after the counter was read, if at all.
 *  3. If the segment was given back, the counter went up before the segment was taken again,
 *     before another blob was stored at that number, and before that blob's word was swapped into
 *     the table (release).  A section that finds this word (acquire) and then reads the counter
 *     reads a higher number.
 *
 * There is one counter for the whole log, so one segment that is given back makes all entries
 * useless.  That seldom happens while a client reads: it takes as many writes as fill a segment.
 */

#include "disk/zstd/cache.h"

#include <errno.h>
#include <stdlib.h>

#define ENTRIES 8
#define CONTEXT_BYTES (96u << 10) /* of a decompression context: libzstd has 94 KiB */

struct entry {
    uint64_t word;     /* the blob's word; 0: the entry is empty */
    uint64_t recycled; /* value of blob_log_recycled when the page was inflated */
    uint64_t used_at;  /* value of `clock` when the entry was last used */
};

struct disk_cache {
    struct codec_unpacker *unpacker;
    size_t page_size;
    uint64_t clock;      /* counts the uses of all entries */
    struct entry *taken; /* the entry that cache_take has chosen last */
    struct entry entries[ENTRIES];
    char pages[]; /* ENTRIES pages, one for each entry */
};

uint64_t cache_size(size_t page_size)
{
    return sizeof(struct disk_cache) + ENTRIES * page_size + CONTEXT_BYTES;
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

/* Choose the entry that was not used for the longest time. */
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
