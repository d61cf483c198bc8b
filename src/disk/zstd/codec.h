/* SPDX-License-Identifier: BSD-3-Clause */

/* codec - compressing a page, and inflating it
 *
 * libzstd needs a context to compress a page, and a context of another kind to inflate a page.  A
 * context is slow to make, and only one thread at a time can use it.  So the codec keeps one
 * context of each kind for each processor.  If another thread has taken the context, a thread
 * makes a new one.
 *
 * codec_create makes one more context of each kind: the common contexts.  All others are charged
 * to the disk's budget, and are not made if the budget does not allow it.  A thread that cannot
 * have another context waits for the common one.  The wait is no longer than compressing or
 * inflating a page takes.  So inflating never fails for lack of memory.  For compressing, threads
 * use the common context first, because such a context is large (530 KiB at level 3).
 *
 * Any thread may call any function except create and destroy.
 */

#ifndef NBDRAM_DISK_ZSTD_CODEC_H
#define NBDRAM_DISK_ZSTD_CODEC_H

#include <stddef.h>
#include <stdint.h>

#include "disk/memory/budget.h"

struct codec;

/* Make a codec.  level is a compression level of zstd, from DISK_LEVEL_MIN to DISK_LEVEL_MAX.
 * budget must outlive the codec.  Returns 0 or -ENOMEM. */
int codec_create(int level, struct budget *budget, struct codec **codec);
void codec_destroy(struct codec *codec); /* NULL is accepted */

/* Compress a page of `size` bytes into the buffer `out` of `room` bytes.  Returns the size of the
 * compressed page; 0 if the compressed page is larger than the buffer; or -ENOMEM. */
long codec_pack(struct codec *codec, const void *page, size_t size, void *out, size_t room);

/* A context for inflating pages.  It belongs to the caller of codec_unpacker_create, which
 * charges it to the budget.  codec_unpacker_create returns 0 or -ENOMEM. */
struct codec_unpacker;
int codec_unpacker_create(struct codec_unpacker **unpacker);
void codec_unpacker_destroy(struct codec_unpacker *unpacker); /* NULL is accepted */

/* The number of bytes that a context for inflating pages takes: some 94 KiB. */
uint64_t codec_unpacker_size(const struct codec *codec);

/* Inflate a page of `size` bytes.  The compressed page is at `packed` and has packed_size bytes.
 * unpacker is a context that no other thread uses during the call, or NULL.
 *
 * 0         the page is inflated
 * -ENOMEM   nothing is written; only tests cause this error
 * -EIO      the bytes at `packed` are not a compressed page
 */
int codec_unpack(struct codec *codec, struct codec_unpacker *unpacker, const void *packed,
                 size_t packed_size, void *page, size_t size);

#endif
