/* SPDX-License-Identifier: BSD-3-Clause */

#include "support/settling.h"

#include "support/pause.h"
#include "support/support.h"

static void *settling_main(void *opaque)
{
    struct settling *settling = opaque;
    settling->err = disk_settle(settling->disk);
    return NULL;
}

void settling_start(struct settling *settling, struct disk *disk)
{
    settling->disk = disk;
    assert_int_equal(pthread_create(&settling->thread, NULL, settling_main, settling), 0);
    pause_turn();
}

void settling_end(struct settling *settling)
{
    pthread_join(settling->thread, NULL);
    assert_int_equal(settling->err, 0);
}
