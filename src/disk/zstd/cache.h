/* SPDX-License-Identifier: BSD-3-Clause */

/* cache - the pages that were inflated last, for one caller
 *
 * A read of part of a compressed page inflates all of it.  The next read most often wants the
 * next part.  A caller with a cache finds the page there.  A cache also has a decompression
 * context of its own, so that reading through it takes no memory.
 *
 * One thread at a time may use a cache.
 */

#ifndef NBDRAM_DISK_ZSTD_CACHE_H
#define NBDRAM_DISK_ZSTD_CACHE_H

#include <stdint.h>

#include "disk/zstd/blob_log.h"
#include "disk/zstd/codec.h"

struct disk_cache;

/* The bytes of memory that a cache takes, about, its decompression context included. */
uint64_t cache_size(size_t page_size);

/* Returns 0 or -ENOMEM. */
int cache_create(size_t page_size, struct disk_cache **cache);
void cache_destroy(struct disk_cache *cache);

/* The cache's own decompression context, for codec_unpack. */
struct codec_unpacker *cache_unpacker(struct disk_cache *cache);

/* Find the page that `word`, a blob's, leads to.  Returns NULL if the page is not in the cache.
 * Call this inside the read section in which the word was found in the page table.  The returned
 * page is good until the next cache_take. */
const void *cache_find(struct disk_cache *cache, const struct blob_log *blobs, uint64_t word);

/* Inside the same section as cache_find, if that returned NULL: get a place for the page, which
 * belongs to no page yet.  After the page has been written there, cache_keep makes the place that
 * of the page with this word. */
void *cache_take(struct disk_cache *cache);
void cache_keep(struct disk_cache *cache, const struct blob_log *blobs, uint64_t word);

#endif
