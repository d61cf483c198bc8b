/* SPDX-License-Identifier: BSD-3-Clause */

/* rival - a thread that changes a disk once, in the middle of what another thread does to it */

#ifndef NBDRAM_TESTS_RIVAL_H
#define NBDRAM_TESTS_RIVAL_H

#include <stddef.h>
#include <stdint.h>

#include "disk/disk.h"

enum deed {
    WRITE,        /* disk_write */
    ZERO,         /* disk_zero */
    ZERO_NO_HOLE, /* disk_zero with DISK_NO_HOLE */
    TRIM,         /* disk_trim */
    FILL,         /* loan_write */
    DEEDS,        /* how many there are */
};

struct rival {
    struct disk *disk;
    enum deed deed;
    size_t offset, count;
    uint8_t byte; /* what it leaves in each byte of the range */
    int err;      /* what came of it: 0 or -errno */
};

/* Run a rival in a thread of its own, and wait for it.  None of its deeds waits for a grace
 * period, so the caller may be in a read section.  `opaque` is a struct rival: this can be the
 * `meanwhile` of a struct source (loan.h). */
void rival_run(void *opaque);

#endif
