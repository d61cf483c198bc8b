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

/* 0 or -ENOMEM. */
int cache_create(size_t page_size, struct disk_cache **cache);
void cache_destroy(struct disk_cache *cache);

/* The context of the cache, for codec_unpack. */
struct codec_unpacker *cache_unpacker(struct disk_cache *cache);

/* Inside the read section in which `word`, a blob's, was found in the page table: the page that
 * it leads to, if it is in the cache; otherwise NULL.  It is good until the next cache_take. */
const void *cache_find(struct disk_cache *cache, const struct blob_log *blobs, uint64_t word);

/* Inside that section, if the page is not in the cache: a place for it, which belongs to no page.
 * After the page was put there, cache_keep makes it the page of that word. */
void *cache_take(struct disk_cache *cache);
void cache_keep(struct disk_cache *cache, const struct blob_log *blobs, uint64_t word);

#endif
