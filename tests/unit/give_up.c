/* SPDX-License-Identifier: BSD-3-Clause */

/* Requests that wait for room, while what they wait for does not go on: disk_give_up_waiting
 * refuses them, and those that come later.  A release of many pages holds nobody for longer than
 * need be.
 *
 * The linker puts functions named __wrap_ in place of the engine's.  Two of them say for what the
 * writer has begun to wait.  In os_thread_background the compressor stays before it begins, and
 * in pool_give the thread that releases pages stays.  So only giving up can end the writer's
 * wait.
 *
 * Seen to fail, by not returning: an engine that does not wake the writer; a writer that waits
 * for the lock which reclaim's thread holds while it releases pages; and a disk_destroy that
 * releases page by page.
 */

#include "support/support.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "disk/memory/pool.h"
#include "disk/memory/reclaim.h"
#include "os/check.h"
#include "os/thread.h"

static _Thread_local bool is_writer, is_in_reclaim;
static atomic_bool waits_for_reclaim, waits_for_compressor, holds_compressor;

int __real_pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *lock);
int __wrap_pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *lock);
int __wrap_pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *lock)
{
    if (is_writer)
        atomic_store(is_in_reclaim ? &waits_for_reclaim : &waits_for_compressor, true);
    return __real_pthread_cond_wait(condition, lock);
}

bool __real_reclaim_await(struct reclaim *reclaim, uint64_t released);
bool __wrap_reclaim_await(struct reclaim *reclaim, uint64_t released);
bool __wrap_reclaim_await(struct reclaim *reclaim, uint64_t released)
{
    is_in_reclaim = true;
    bool is_complete = __real_reclaim_await(reclaim, released);
    is_in_reclaim = false;
    return is_complete;
}

void __real_os_thread_background(void);
void __wrap_os_thread_background(void);
void __wrap_os_thread_background(void)
{
    while (atomic_load(&holds_compressor))
        sched_yield();
    __real_os_thread_background();
}

/* When releases are to be held, those by other threads than the test's are counted.  After
 * `pass` of them, their thread stays here while is_held. */
static _Thread_local bool is_tests_thread;
static atomic_bool counts_releases, is_held;
static atomic_uint releases, pass;

void __real_pool_give(struct pool *pool, uint64_t cell);
void __wrap_pool_give(struct pool *pool, uint64_t cell);
void __wrap_pool_give(struct pool *pool, uint64_t cell)
{
    if (atomic_load(&counts_releases) && !is_tests_thread && !is_writer) {
        unsigned before = atomic_fetch_add(&releases, 1);
        while (atomic_load(&is_held) && before >= atomic_load(&pass))
            sched_yield();
    }
    __real_pool_give(pool, cell);
}

static void hold_releases(void)
{
    is_tests_thread = true;
    atomic_store(&releases, 0);
    atomic_store(&pass, 0);
    atomic_store(&is_held, true);
    atomic_store(&counts_releases, true);
    atomic_store(&waits_for_reclaim, false);
}

static void let_releases_go_on(void)
{
    atomic_store(&is_held, false);
    atomic_store(&counts_releases, false);
}

#define PIECE (64 * KiB)

static int write_until_refused(struct disk *disk, uint64_t *offset)
{
    struct prng prng;
    uint8_t *bytes = malloc(PIECE);
    int err = bytes ? 0 : -ENOMEM;
    prng_init(&prng, test_seed(), 1);
    for (; err == 0 && *offset < disk_size(disk); *offset += PIECE) {
        fill_text(&prng, bytes, PIECE);
        err = disk_write(disk, *offset, PIECE, bytes);
    }
    free(bytes);
    return err;
}

struct writer {
    struct disk *disk;
    int err;
};

static void *writer_main(void *opaque)
{
    struct writer *writer = opaque;
    uint64_t offset = 0;
    is_writer = true;
    writer->err = write_until_refused(writer->disk, &offset);
    return NULL;
}

static void a_writer_behind_the_compressor_is_refused(void **state)
{
    struct writer writer;
    pthread_t thread;
    uint64_t offset = 0;
    (void)state;
    atomic_store(&holds_compressor, true);
    writer.disk = disk_made(&allocator_zstd, GiB, 4 * MiB);
    assert_int_equal(pthread_create(&thread, NULL, writer_main, &writer), 0);
    while (!atomic_load(&waits_for_compressor))
        sched_yield();
    disk_give_up_waiting(writer.disk);
    pthread_join(thread, NULL);
    atomic_store(&holds_compressor, false);
    assert_int_equal(writer.err, -ENOSPC);
    assert_int_equal(write_until_refused(writer.disk, &offset), -ENOSPC);
    disk_end(writer.disk);
}

/* A disk that was full, and whose pages are all being released.  No cell is free yet. */
static struct disk *disk_being_emptied(const struct allocator *allocator)
{
    struct disk *disk = disk_made(allocator, GiB, 4 * MiB);
    uint64_t offset = 0, done;
    assert_int_equal(write_until_refused(disk, &offset), -ENOSPC);
    hold_releases();
    assert_int_equal(disk_try_trim(disk, 0, GiB, &done), 0);
    while (atomic_load(&releases) == 0)
        sched_yield();
    return disk;
}

static void *page_writer_main(void *opaque)
{
    struct writer *writer = opaque;
    char byte = 1;
    is_writer = true;
    writer->err = disk_write(writer->disk, 0, 1, &byte);
    return NULL;
}

/* Like disk_being_emptied, and a write has to wait.  A disk may not be of that kind: when it was
 * full, the compressor was still at work, and has made room for a page since then. */
static struct disk *disk_without_room(const struct allocator *allocator)
{
    for (;;) {
        struct disk *disk = disk_being_emptied(allocator);
        size_t done;
        int err = disk_try_write(disk, 0, 1, "x", &done);
        if (err == -EAGAIN)
            return disk;
        assert_int_equal(err, 0);
        let_releases_go_on();
        disk_end(disk);
    }
}

static void a_writer_behind_a_release_is_refused(void **state)
{
    struct writer writer = {.disk = disk_without_room(allocator_of(state))};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, page_writer_main, &writer), 0);
    while (!atomic_load(&waits_for_reclaim))
        sched_yield();
    disk_give_up_waiting(writer.disk);
    pthread_join(thread, NULL);
    assert_int_equal(writer.err, -ENOSPC);
    let_releases_go_on();
    disk_end(writer.disk);
}

/* The writer needs one page.  Some hundred are released, and then the release stops again. */
static void a_writer_need_not_wait_for_all_of_a_release(void **state)
{
    struct writer writer = {.disk = disk_being_emptied(&allocator_sparse)};
    pthread_t thread;
    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, page_writer_main, &writer), 0);
    while (!atomic_load(&waits_for_reclaim))
        sched_yield();
    atomic_store(&pass, 300);
    pthread_join(thread, NULL);
    assert_int_equal(writer.err, 0);
    assert_int_equal(read_byte(writer.disk, 0), 1);
    let_releases_go_on();
    disk_end(writer.disk);
}

static void *let_releases_go_on_later(void *opaque)
{
    (void)opaque;
    for (unsigned i = 0; i < 1000; i++)
        sched_yield();
    atomic_store(&is_held, false);
    return NULL;
}

/* It frees all memory at once.  (With self_check it first waits for the release, to check the
 * disk.) */
static void destroying_releases_no_pages(void **state)
{
    struct disk *disk = disk_being_emptied(allocator_of(state));
    pthread_t thread;
    if (OS_CHECK_ENABLED) {
        let_releases_go_on();
        disk_end(disk);
        skip();
    }
    assert_int_equal(pthread_create(&thread, NULL, let_releases_go_on_later, NULL), 0);
    disk_destroy(disk);
    pthread_join(thread, NULL);
    assert_true(atomic_load(&releases) < 3);
    let_releases_go_on();
}

/* What needs no room is done as before. */
static void other_requests_go_on(void **state)
{
    struct disk *disk = disk_made(allocator_of(state), 64 * MiB, 4 * MiB);
    uint64_t offset = 0;
    write_byte(disk, 0, 7);
    disk_give_up_waiting(disk);
    assert_int_equal(write_until_refused(disk, &offset), -ENOSPC);
    write_byte(disk, 1, 9);
    assert_int_equal(read_byte(disk, 1), 9);
    assert_int_equal(disk_trim(disk, 0, 64 * MiB), 0);
    assert_int_equal(disk_settle(disk), 0);
    assert_true(all_hole(disk, 0, 64 * MiB));
    write_byte(disk, 1, 9);
    disk_end(disk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_writer_behind_the_compressor_is_refused),
        TEST_OF_PAGED(other_requests_go_on),
        TEST_OF_PAGED(a_writer_behind_a_release_is_refused),
        cmocka_unit_test(a_writer_need_not_wait_for_all_of_a_release),
        TEST_OF_PAGED(destroying_releases_no_pages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
