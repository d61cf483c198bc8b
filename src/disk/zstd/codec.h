/* SPDX-License-Identifier: BSD-3-Clause */

/* codec - compressing a page, and unpacking it
 *
 * libzstd needs a context to compress a page, and one of another kind to unpack a page.  A
 * context is slow to make, and only one thread at a time can use it.  So the codec keeps one
 * context of each kind for each processor.  If another thread has taken the context, a thread
 * makes a new one.
 *
 * codec_create makes one extra context for unpacking.  A thread that cannot make a context waits
 * for the extra one.  The wait is no longer than unpacking a page takes.  So unpacking never
 * fails for lack of memory.
 *
 * Any thread may call any function except create and destroy.
 */

#ifndef NBDRAM_DISK_ZSTD_CODEC_H
#define NBDRAM_DISK_ZSTD_CODEC_H

#include <stddef.h>

struct codec;

/* level is a compression level of zstd, from DISK_LEVEL_MIN to DISK_LEVEL_MAX.  Returns 0 or
 * -ENOMEM. */
int codec_create(int level, struct codec **codec);
void codec_destroy(struct codec *codec); /* NULL is accepted */

/* Compress a page of `size` bytes into `out`, which has space for `room` bytes.  Returns the size
 * of the compressed form; 0 if that does not fit; or -ENOMEM. */
long codec_pack(struct codec *codec, const void *page, size_t size, void *out, size_t room);

/* A context for unpacking that the caller owns.  codec_unpacker_create returns 0 or -ENOMEM. */
struct codec_unpacker;
int codec_unpacker_create(struct codec_unpacker **unpacker);
void codec_unpacker_destroy(struct codec_unpacker *unpacker); /* NULL is accepted */

/* Unpack a page of `size` bytes.  Its compressed form is the packed_size bytes at packed.
 * unpacker may be NULL.  If it is not, no other thread may use it during the call.
 *
 * 0         the page is unpacked
 * -ENOMEM   nothing is written; only tests cause this error
 * -EIO      the bytes are not the compressed form of a page */
int codec_unpack(struct codec *codec, struct codec_unpacker *unpacker, const void *packed,
                 size_t packed_size, void *page, size_t size);

#endif
