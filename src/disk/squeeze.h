/* SPDX-License-Identifier: BSD-3-Clause */

/* squeeze - compression behind the back of the zstd allocator
 *
 * Writes land in frames at the speed of sparse.  Background threads freeze frames that nobody has
 * written for a while, or earlier if there are more than their share of the memory, and put a
 * blob in their place.  A writer that outruns them helps.  Frames that do not compress are left
 * alone until they are written again.
 *
 * Unless said otherwise: any thread may call, not inside a read section.
 */

#ifndef NBDRAM_DISK_SQUEEZE_H
#define NBDRAM_DISK_SQUEEZE_H

#include "disk/disk.h"
#include "disk/paged.h"

struct squeeze;

int squeeze_create(struct paged *paged, int level, const struct pool_options *options,
                   struct squeeze **squeeze);
int squeeze_start(struct squeeze *squeeze);

/* Stop the threads; then free what is left.  The second may be called without the first. */
void squeeze_stop(struct squeeze *squeeze);
void squeeze_destroy(struct squeeze *squeeze); /* NULL is accepted */

/* Tell that frames that wait to be squeezed have become more (1) or fewer (-1).  May be called
 * inside a section. */
void squeeze_count(struct squeeze *squeeze, int change);

/* Inside the section in which a blob's word was found: write its page to `page`.  -ENOMEM. */
int squeeze_inflate(struct squeeze *squeeze, uint64_t word, void *page);

/* A blob's word was taken out of the table a grace period ago. */
void squeeze_drop(struct squeeze *squeeze, uint64_t word);

/* After a write: if writers have outrun the threads, do some of their work. */
void squeeze_help(struct squeeze *squeeze);

/* Wait until at least one more frame has been squeezed, or a segment of blobs emptied; false if
 * there is nothing to be gained. */
bool squeeze_make_room(struct squeeze *squeeze);

/* Wait until all that can be squeezed is, whether cold or not. */
void squeeze_settle(struct squeeze *squeeze);

/* As pool_shrink, for blobs. */
void squeeze_shrink(struct squeeze *squeeze);

void squeeze_stats(struct squeeze *squeeze, struct disk_stats *stats);

#endif
