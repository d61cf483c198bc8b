/* SPDX-License-Identifier: BSD-3-Clause */

/* settling - disk_settle in a thread of its own */

#ifndef NBDRAM_TESTS_SETTLING_H
#define NBDRAM_TESTS_SETTLING_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "disk/disk.h"

struct settling {
    struct disk *disk;
    pthread_t thread;
    bool is_repeated;
    atomic_bool stop;
    int err;
};

/* Start one disk_settle, which may have to wait for a copy that is held up, and give it a turn
 * (pause.h).  Fails the test if there is no thread. */
void settling_start(struct settling *settling, struct disk *disk);

/* Call disk_settle again and again, until settling_end or an error. */
void settling_start_repeated(struct settling *settling, struct disk *disk);

/* Wait for the end.  Fails the test if disk_settle failed. */
void settling_end(struct settling *settling);

#endif
