/* SPDX-License-Identifier: BSD-3-Clause */

/* settling - disk_settle in a thread of its own, which may not get far while a copy is held up */

#ifndef NBDRAM_TESTS_SETTLING_H
#define NBDRAM_TESTS_SETTLING_H

#include <pthread.h>

#include "disk/disk.h"

struct settling {
    struct disk *disk;
    pthread_t thread;
    int err;
};

/* Start it, and give it a turn (pause.h).  Fails the test if there is no thread. */
void settling_start(struct settling *settling, struct disk *disk);

/* Wait for its end.  Fails the test if disk_settle failed. */
void settling_end(struct settling *settling);

#endif
