/* SPDX-License-Identifier: BSD-3-Clause */

/* loan - a disk read and written by way of its loans, as a server does it
 *
 * Any thread may call, as disk_read and disk_write.
 */

#ifndef NBDRAM_TESTS_LOAN_H
#define NBDRAM_TESTS_LOAN_H

#include "support/support.h"

/* Where a fill receives from: a buffer of which `most` bytes are there to be had. */
struct source {
    const uint8_t *from;
    size_t most;
    int err; /* not 0: receive nothing, and return this */

    /* If not NULL, called in the middle of the fill, before anything is received. */
    void (*meanwhile)(void *opaque);
    void *opaque;

    /* What came of it. */
    unsigned calls;
    int pieces;        /* entries of iov */
    size_t offered;    /* bytes */
    size_t recycled;   /* of these, those that held... */
    uint8_t old;       /* ...this before */
    const char *wrong; /* not NULL: iov was not as it should be */
};

/* disk_fill from a source; *source tells afterwards what was offered. */
ssize_t loan_fill(struct disk *disk, uint64_t offset, size_t count, struct source *source);

/* As disk_write: disk_fill again and again, each time receiving a random part of what is offered,
 * and disk_write where there is nothing to be lent. */
int loan_write(struct disk *disk, uint64_t offset, size_t count, const void *buf,
               struct prng *prng);

/* As disk_read: with disk_lend, and disk_read of what is packed.  -EPROTO: the pieces are not as
 * they should be. */
int loan_read(struct disk *disk, uint64_t offset, size_t count, void *buf);

#endif
