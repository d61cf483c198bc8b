/* SPDX-License-Identifier: BSD-3-Clause */

#include "support/settling.h"

#include "support/pause.h"
#include "support/support.h"

static void *settling_main(void *opaque)
{
    struct settling *settling = opaque;
    do
        settling->err = disk_settle(settling->disk);
    while (settling->is_repeated && settling->err == 0 && !atomic_load(&settling->stop));
    return NULL;
}

static void start(struct settling *settling, struct disk *disk, bool is_repeated)
{
    settling->disk = disk;
    settling->is_repeated = is_repeated;
    atomic_init(&settling->stop, false);
    assert_int_equal(pthread_create(&settling->thread, NULL, settling_main, settling), 0);
}

void settling_start(struct settling *settling, struct disk *disk)
{
    start(settling, disk, false);
    pause_turn();
}

void settling_start_repeated(struct settling *settling, struct disk *disk)
{
    start(settling, disk, true);
}

void settling_end(struct settling *settling)
{
    atomic_store(&settling->stop, true);
    pthread_join(settling->thread, NULL);
    assert_int_equal(settling->err, 0);
}
