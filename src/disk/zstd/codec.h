/* SPDX-License-Identifier: BSD-3-Clause */

/* codec - compressing a page, and inflating it
 *
 * libzstd needs a context to compress a page, and a context of another kind to inflate a page.  A
 * context is slow to make, and only one thread at a time can use it.  So the codec keeps one
 * context of each kind for each processor.  If another thread has taken the context, a thread
 * makes a new one.
 *
 * codec_create makes one extra context for inflating.  A thread that cannot make a context waits
 * for the extra one.  The wait is no longer than inflating a page takes.  So inflating never
 * fails for lack of memory.
 *
 * Any thread may call any function except create and destroy.
 */

#ifndef NBDRAM_DISK_ZSTD_CODEC_H
#define NBDRAM_DISK_ZSTD_CODEC_H

#include <stddef.h>

struct codec;

/* Make a codec.  level is a compression level of zstd, from DISK_LEVEL_MIN to DISK_LEVEL_MAX.
 * Returns 0 or -ENOMEM. */
int codec_create(int level, struct codec **codec);
void codec_destroy(struct codec *codec); /* NULL is accepted */

/* Compress a page of `size` bytes into the buffer `out` of `room` bytes.  Returns the size of the
 * compressed page; 0 if the compressed page is larger than the buffer; or -ENOMEM. */
long codec_pack(struct codec *codec, const void *page, size_t size, void *out, size_t room);

/* A context for inflating pages.  It belongs to the caller of codec_unpacker_create, which
 * returns 0 or -ENOMEM. */
struct codec_unpacker;
int codec_unpacker_create(struct codec_unpacker **unpacker);
void codec_unpacker_destroy(struct codec_unpacker *unpacker); /* NULL is accepted */

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
