/* SPDX-License-Identifier: BSD-3-Clause */

/* codec - compressing a page, and unpacking it
 *
 * A context of libzstd takes long to make, and only one thread at a time can use it.  So one is
 * kept for each processor; a thread that finds it taken makes another.  For unpacking there is
 * one more, made when the codec is made: a thread that cannot make another waits for that, no
 * longer than unpacking a page takes.  So unpacking never fails for lack of memory.
 *
 * Any thread may call anything except create and destroy.
 */

#ifndef NBDRAM_DISK_ZSTD_CODEC_H
#define NBDRAM_DISK_ZSTD_CODEC_H

#include <stddef.h>

struct codec;

/* level: zstd's, DISK_LEVEL_MIN to DISK_LEVEL_MAX.  0 or -ENOMEM. */
int codec_create(int level, struct codec **codec);
void codec_destroy(struct codec *codec); /* NULL is accepted */

/* Write the compressed form of size bytes to out, which has room for `room` bytes.  Returns its
 * size; 0 if it does not fit; or -ENOMEM. */
long codec_pack(struct codec *codec, const void *page, size_t size, void *out, size_t room);

/* A context for unpacking that belongs to the caller.  0 or -ENOMEM. */
struct codec_unpacker;
int codec_unpacker_create(struct codec_unpacker **unpacker);
void codec_unpacker_destroy(struct codec_unpacker *unpacker); /* NULL is accepted */

/* Write the size bytes of a page that packed_size bytes are the compressed form of.  unpacker is
 * NULL, or the caller's, which no other thread uses meanwhile.
 *
 * 0
 * -ENOMEM   and nothing is written.  It does not occur, except where tests make it occur.
 * -EIO      it is not the compressed form of a page */
int codec_unpack(struct codec *codec, struct codec_unpacker *unpacker, const void *packed,
                 size_t packed_size, void *page, size_t size);

#endif
