/* SPDX-License-Identifier: BSD-3-Clause */

/* No request asks the machine: a thread of the budget's own does, and nothing else opens a file.
 *
 * The machine is nearly full here: at each look it has some megabytes left, so that the disk
 * often has no credit.  Requests of all kinds are made by one thread, which counts the files
 * that it opens itself.
 *
 * Seen to catch: budget_take and disk_could_provide that ask by themselves, and a budget_refresh
 * that does not leave it to the thread. */

#include "support/loan.h"
#include "support/support.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "os/machine.h"

#define SIZE (64 * MiB)
#define BLOCK (256 * KiB)

static _Thread_local bool is_requesting; /* this thread is in a request */
static _Thread_local unsigned opened;    /* files, meanwhile */
static _Atomic unsigned looks;           /* at the machine, by any thread */

/* Programs with large files call fopen64. */
FILE *__real_fopen64(const char *path, const char *mode);
FILE *__wrap_fopen64(const char *path, const char *mode);
FILE *__wrap_fopen64(const char *path, const char *mode)
{
    opened += is_requesting;
    return __real_fopen64(path, mode);
}

int __real_os_memory_room(const char *root, struct os_memory_room *room);
int __wrap_os_memory_room(const char *root, struct os_memory_room *room);
int __wrap_os_memory_room(const char *root, struct os_memory_room *room)
{
    int r = __real_os_memory_room(root, room);
    atomic_fetch_add(&looks, 1);
    room->total = 512 * MiB; /* so the reserve is 32 MiB, and the keepback 8 MiB */
    room->available = 160 * MiB;
    return r;
}

static int ignore_extent(void *opaque, uint64_t offset, uint64_t count, bool hole)
{
    (void)opaque, (void)offset, (void)count, (void)hole;
    return 0;
}

/* One request of each kind, in the block at offset. */
static void make_requests(struct disk *disk, uint64_t offset, struct prng *prng, uint8_t *buf)
{
    struct source source = {.from = buf, .most = BLOCK};
    uint64_t done;
    size_t written;
    fill_random(prng, buf, BLOCK);
    is_requesting = true;
    assert_true(disk_could_provide(disk, SIZE));
    assert_int_equal(disk_write(disk, offset, BLOCK, buf), 0);
    assert_int_equal(disk_read(disk, offset, BLOCK, buf), 0);
    assert_int_equal(loan_read(disk, offset, BLOCK, buf), 0);
    assert_int_equal(disk_zero(disk, offset, BLOCK, 0), 0);
    assert_true(loan_fill(disk, offset, BLOCK, &source) != -ENOSPC);
    assert_int_equal(disk_trim(disk, offset, BLOCK), 0);
    disk_try_write(disk, offset, BLOCK, buf, &written);
    disk_try_zero(disk, offset, BLOCK, DISK_NO_HOLE, &done);
    disk_try_trim(disk, offset, BLOCK, &done);
    assert_int_equal(disk_zero(disk, offset, BLOCK, DISK_NO_HOLE), 0);
    assert_int_equal(disk_extents(disk, offset, BLOCK, ignore_extent, NULL), 0);
    stats_of(disk);
    is_requesting = false;
}

static void make_requests_everywhere(struct disk *disk)
{
    struct prng prng;
    uint8_t *buf = buffer_made(BLOCK);
    prng_init(&prng, test_seed(), 1);
    opened = 0;
    for (uint64_t offset = 0; offset < SIZE; offset += BLOCK)
        make_requests(disk, offset, &prng, buf);
    free(buf);
    assert_int_equal(opened, 0);
}

static void no_request_opens_a_file(void **state)
{
    struct disk *disk = disk_made(allocator_of(state), SIZE, 0);
    atomic_store(&looks, 0);
    make_requests_everywhere(disk);
    if (allocator_of(state) != &allocator_malloc) /* that one takes its memory when it is made */
        assert_true(atomic_load(&looks) > 0);
    disk_end(disk);
}

static void no_thread_asks_with_a_limit(void **state)
{
    struct disk *disk = disk_made(allocator_of(state), SIZE, 2 * SIZE);
    atomic_store(&looks, 0);
    make_requests_everywhere(disk);
    assert_int_equal(atomic_load(&looks), 0);
    disk_end(disk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_OF_ALL(no_request_opens_a_file),
        TEST_OF_ALL(no_thread_asks_with_a_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
