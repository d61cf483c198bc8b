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

/* About how many bytes of memory a cache takes, including its decompression context. */
uint64_t cache_size(size_t page_size);

/* Returns 0 or -ENOMEM. */
int cache_create(size_t page_size, struct disk_cache **cache);
void cache_destroy(struct disk_cache *cache);

/* The cache's own decompression context, to be passed to codec_unpack. */
struct codec_unpacker *cache_unpacker(struct disk_cache *cache);

/* Find the page of the blob to which `word` leads.  Returns NULL if the page is not in the
 * cache.  Call this inside the read section in which the word was found in the page table.  The
 * returned page is good until the next cache_take. */
const void *cache_find(struct disk_cache *cache, const struct blob_log *blobs, uint64_t word);

/* Add a page that cache_find has not found.  Call cache_take, which empties an entry and returns
 * its buffer.  Inflate the page into the buffer, and call cache_keep with the page's word.  If
 * inflating fails, leave out cache_keep.  All this must be inside the same read section as
 * cache_find. */
void *cache_take(struct disk_cache *cache);
void cache_keep(struct disk_cache *cache, const struct blob_log *blobs, uint64_t word);

#endif
