/* SPDX-License-Identifier: BSD-3-Clause */

/* codec - compressing a page and back
 *
 * libzstd's contexts are dear to make and cannot be shared: a few are kept, one per processor,
 * and whoever finds none makes one.  Any thread may call anything but create and destroy; nothing
 * waits.
 */

#ifndef NBDRAM_DISK_ZSTD_CODEC_H
#define NBDRAM_DISK_ZSTD_CODEC_H

#include <stddef.h>

struct codec;

int codec_create(int level, struct codec **codec);
void codec_destroy(struct codec *codec); /* NULL is accepted */

/* The size of the compressed form, written to out; 0 if it does not fit into room; -ENOMEM. */
long codec_pack(struct codec *codec, const void *page, size_t size, void *out, size_t room);

/* Write a whole page from its compressed form.  -ENOMEM. */
int codec_unpack(struct codec *codec, const void *packed, size_t packed_size, void *page,
                 size_t size);

#endif
