/* SPDX-License-Identifier: BSD-3-Clause */

/* cache - the pages that were inflated last, for one caller
 *
 * A read of a part of a compressed page inflates the whole page.  The next read often wants the
 * next part of the same page.  If the caller has a cache, that read finds the inflated page
 * there.  A cache also has its own decompression context, so reading through a cache takes no
 * memory.
 *
 * One thread at a time may use a cache.
 */

#ifndef NBDRAM_DISK_ZSTD_CACHE_H
#define NBDRAM_DISK_ZSTD_CACHE_H

#include <stdint.h>

#include "disk/zstd/blob_log.h"
#include "disk/zstd/codec.h"

struct disk_cache;

/* The number of bytes that a cache takes, not including its decompression context. */
uint64_t cache_size(size_t page_size);

/* Returns 0 or -ENOMEM. */
int cache_create(size_t page_size, struct disk_cache **cache);
void cache_destroy(struct disk_cache *cache);

/* The cache's own decompression context, to be passed to codec_unpack. */
struct codec_unpacker *cache_unpacker(struct disk_cache *cache);

/* Find the inflated page of the blob to which `word` leads.  Returns NULL if the page is not in
 * the cache.  Call this inside the read section in which `word` was found in the page table.  The
 * returned page is valid until the next call of cache_take. */
const void *cache_find(struct disk_cache *cache, const struct blob_log *blobs, uint64_t word);

/* How to add a page that cache_find has not found: call cache_take, which empties an entry and
 * returns the buffer of that entry.  Inflate the page into the buffer.  Then call cache_keep with
 * the word of the page, unless inflating has failed.  Do all this inside the section in which
 * cache_find was called. */
void *cache_take(struct disk_cache *cache);
void cache_keep(struct disk_cache *cache, const struct blob_log *blobs, uint64_t word);

#endif
