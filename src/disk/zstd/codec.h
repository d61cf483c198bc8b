/* SPDX-License-Identifier: BSD-3-Clause */

/* codec - compressing a page, and unpacking it
 *
 * A context of libzstd takes long to make, and only one thread at a time can use it.  So one is
 * kept for each processor; a thread that finds it taken makes another.  Any thread may call
 * anything except create and destroy.  Nothing waits.
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

/* Write the size bytes of a page that packed_size bytes are the compressed form of.  0 or
 * -ENOMEM. */
int codec_unpack(struct codec *codec, const void *packed, size_t packed_size, void *page,
                 size_t size);

#endif
