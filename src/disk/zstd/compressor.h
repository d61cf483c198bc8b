/* SPDX-License-Identifier: BSD-3-Clause */

/* compress - compression behind the back of the zstd allocator
 *
 * Writes land in frames at the speed of sparse.  Background threads freeze frames that nobody has
 * written for a while, or earlier if there are more than their share of the memory, and put a
 * blob in their place.  A writer that outruns them helps.  Frames that do not compress are left
 * alone until they are written again.
 *
 * Unless said otherwise: any thread may call, not inside a read section.
 */

#ifndef NBDRAM_DISK_ZSTD_COMPRESSOR_H
#define NBDRAM_DISK_ZSTD_COMPRESSOR_H

#include "disk/disk.h"
#include "disk/paged/paged.h"

struct compressor;

int compressor_create(struct paged *paged, int level, const struct pool_options *options,
                   struct compressor **compressor);
int compressor_start(struct compressor *compressor);

/* Stop the threads; then free what is left.  The second may be called without the first. */
void compressor_stop(struct compressor *compressor);
void compressor_destroy(struct compressor *compressor); /* NULL is accepted */

/* Tell that frames that wait to be compressed have become more (1) or fewer (-1).  May be called
 * inside a section. */
void compressor_count(struct compressor *compressor, int change);

/* Inside the section in which a blob's word was found: write its page to `page`.  -ENOMEM. */
int compressor_inflate(struct compressor *compressor, uint64_t word, void *page);

/* A blob's word was taken out of the table a grace period ago. */
void compressor_drop(struct compressor *compressor, uint64_t word);

/* After a write: if writers have outrun the threads, do some of their work. */
void compressor_help(struct compressor *compressor);

/* Wait until at least one more frame has been compressed, or a segment of blobs emptied; false if
 * there is nothing to be gained. */
bool compressor_make_room(struct compressor *compressor);

/* Wait until all that can be compressed is, whether cold or not. */
void compressor_settle(struct compressor *compressor);

/* As pool_shrink, for blobs. */
void compressor_shrink(struct compressor *compressor);

void compressor_stats(struct compressor *compressor, struct disk_stats *stats);

#endif
