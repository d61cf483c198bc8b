/* SPDX-License-Identifier: BSD-3-Clause */

/* holder - a thread that stays in a read section of a disk, so that no grace period ends */

#ifndef NBDRAM_TESTS_HOLDER_H
#define NBDRAM_TESTS_HOLDER_H

#include <pthread.h>
#include <stdatomic.h>

#include "disk/disk.h"

struct holder {
    struct disk *disk;
    pthread_t thread;
    atomic_bool holds, released;
};

/* Start it; it is in the section when this returns.  Fails the test if there is no thread. */
void holder_start(struct holder *holder, struct disk *disk);

/* Let it leave the section; any thread may call this. */
void holder_release(struct holder *holder);

/* Wait for its end, after holder_release. */
void holder_join(struct holder *holder);

#endif
