/* SPDX-License-Identifier: BSD-3-Clause */

/* loan - reading and writing a disk by its loans, as a server does
 *
 * Any thread may call these functions, as disk_read and disk_write.
 */

#ifndef NBDRAM_TESTS_LOAN_H
#define NBDRAM_TESTS_LOAN_H

#include "support/support.h"

/* What a fill receives from: a buffer of which it gets `most` bytes. */
struct source {
    const uint8_t *from;
    size_t most;
    int err;     /* not 0: receive nothing, and return this */
    uint8_t old; /* not 0: count bytes of this value among those that are offered */

    /* If not NULL, called in the middle of the fill, before anything is received. */
    void (*meanwhile)(void *opaque);
    void *opaque;

    /* Results. */
    unsigned calls;
    int pieces;        /* entries of iov */
    size_t offered;    /* bytes */
    size_t recycled;   /* of these, how many were `old` before */
    const char *wrong; /* not NULL: what is wrong with iov */
};

/* Call disk_fill with a source, whose results are set. */
ssize_t loan_fill(struct disk *disk, uint64_t offset, size_t count, struct source *source);

/* As disk_write: call disk_fill again and again, receive a random part of what it offers each
 * time, and call disk_write where nothing can be lent. */
int loan_write(struct disk *disk, uint64_t offset, size_t count, const void *buf,
               struct prng *prng);

/* As disk_read: call disk_lend, and disk_read for what is compressed.  -EPROTO: the pieces are
 * wrong. */
int loan_read(struct disk *disk, uint64_t offset, size_t count, void *buf);

#endif
