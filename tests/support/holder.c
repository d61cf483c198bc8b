/* SPDX-License-Identifier: BSD-3-Clause */

#include "support/holder.h"

#include <sched.h>

#include "support/support.h"

static void *holder_main(void *opaque)
{
    struct holder *holder = opaque;
    disk_lend_begin(holder->disk);
    atomic_store(&holder->holds, true);
    while (!atomic_load(&holder->released))
        sched_yield();
    disk_lend_end(holder->disk);
    return NULL;
}

void holder_start(struct holder *holder, struct disk *disk)
{
    holder->disk = disk;
    atomic_init(&holder->holds, false);
    atomic_init(&holder->released, false);
    assert_int_equal(pthread_create(&holder->thread, NULL, holder_main, holder), 0);
    while (!atomic_load(&holder->holds))
        sched_yield();
}

void holder_release(struct holder *holder)
{
    atomic_store(&holder->released, true);
}

void holder_join(struct holder *holder)
{
    assert_int_equal(pthread_join(holder->thread, NULL), 0);
}
