/* SPDX-License-Identifier: BSD-3-Clause */

/* codec - compressing a page, and unpacking it
 *
 * A context of libzstd takes long to make, and only one thread at a time can use it.  So one
 * context of each kind is kept for each processor; a thread that finds it taken makes another.
 * For unpacking there is one extra context, made when the codec is made.  A thread that cannot
 * make a context waits for this one, no longer than unpacking a page takes.  So unpacking never
 * fails for lack of memory.
 *
 * Any thread may call any function except create and destroy.
 */

#ifndef NBDRAM_DISK_ZSTD_CODEC_H
#define NBDRAM_DISK_ZSTD_CODEC_H

#include <stddef.h>

struct codec;

/* level is zstd's, from DISK_LEVEL_MIN to DISK_LEVEL_MAX.  Returns 0 or -ENOMEM. */
int codec_create(int level, struct codec **codec);
void codec_destroy(struct codec *codec); /* NULL is accepted */

/* Write the compressed form of a page of size bytes to out, which has room for `room` bytes.
 * Returns the size of the compressed form; 0 if it does not fit; or -ENOMEM. */
long codec_pack(struct codec *codec, const void *page, size_t size, void *out, size_t room);

/* A context for unpacking that belongs to the caller.  codec_unpacker_create returns 0 or
 * -ENOMEM. */
struct codec_unpacker;
int codec_unpacker_create(struct codec_unpacker **unpacker);
void codec_unpacker_destroy(struct codec_unpacker *unpacker); /* NULL is accepted */

/* Unpack a page of size bytes from its compressed form, which has packed_size bytes.  unpacker is
 * NULL, or belongs to the caller; then no other thread uses it during the call.
 *
 * 0         the page is unpacked
 * -ENOMEM   nothing is written.  This error occurs only where tests make it occur.
 * -EIO      the bytes are not the compressed form of a page */
int codec_unpack(struct codec *codec, struct codec_unpacker *unpacker, const void *packed,
                 size_t packed_size, void *page, size_t size);

#endif
