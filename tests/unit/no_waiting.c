/* SPDX-License-Identifier: BSD-3-Clause */

/* The forms that never wait: disk_try_write, disk_try_zero, disk_try_trim and disk_fill.
 *
 * The linker puts the functions named __wrap_ in place of those by which a thread waits or asks
 * the system.  They count the calls that the test's own thread makes while it is `watched`.  In
 * most tests another thread stays in a read section, so that no grace period ends: a form that
 * waited for one would not return.
 *
 * Seen to fail: forms that note for reclaim what they did without having reserved memory for it
 * (without_memory), and a fill that does not look whether writers have outrun the compressor.
 */

#include "support/holder.h"
#include "support/loan.h"
#include "support/support.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "disk/zstd/codec.h"
#include "os/machine.h"

static _Thread_local bool is_watched, has_no_memory;
static _Thread_local unsigned waits;

#define WRAP(type, function, parameters, arguments)                                              \
    type __real_##function parameters;                                                           \
    type __wrap_##function parameters;                                                           \
    type __wrap_##function parameters                                                            \
    {                                                                                            \
        waits += is_watched;                                                                     \
        return __real_##function arguments;                                                      \
    }

void __real_urcu_bp_synchronize_rcu(void);
void __wrap_urcu_bp_synchronize_rcu(void);
void __wrap_urcu_bp_synchronize_rcu(void)
{
    waits += is_watched;
    if (!is_watched) /* it would wait for ever */
        __real_urcu_bp_synchronize_rcu();
}

WRAP(int, pthread_cond_wait, (pthread_cond_t * condition, pthread_mutex_t *lock),
     (condition, lock))
WRAP(int, pthread_cond_timedwait,
     (pthread_cond_t * condition, pthread_mutex_t *lock, const struct timespec *until),
     (condition, lock, until))
WRAP(int, os_memory_discard, (void *base, size_t count), (base, count))
WRAP(int, os_memory_room, (const char *root, struct os_memory_room *room), (root, room))

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_malloc(size_t size)
{
    return has_no_memory ? NULL : __real_malloc(size);
}

/* A disk, half of which is written. */

#define LIMIT (4 * MiB)
#define HALF (MiB + 5 * 4096)

struct stage {
    struct disk *disk;
    size_t page;
    struct prng prng;
    struct holder holder;
    uint8_t *bytes, *found; /* 2 * LIMIT each */
};

static void stage_make(struct stage *stage, const struct allocator *allocator)
{
    memset(stage, 0, sizeof *stage);
    stage->disk = disk_made(allocator, 64 * MiB, LIMIT);
    stage->page = disk_page_size(stage->disk);
    prng_init(&stage->prng, test_seed(), 1);
    stage->bytes = buffer_made(2 * LIMIT);
    stage->found = buffer_made(2 * LIMIT);
    fill_random(&stage->prng, stage->bytes, 2 * LIMIT);
    for (size_t i = 0; i < 2 * LIMIT; i += 512) /* no sector ends with a zero */
        stage->bytes[i + 511] |= 1;
}

static void stage_free(struct stage *stage)
{
    free(stage->bytes);
    free(stage->found);
    disk_end(stage->disk);
}

static void watch(struct stage *stage)
{
    holder_start(&stage->holder, stage->disk);
    waits = 0;
    is_watched = true;
}

static void end_watch(struct stage *stage)
{
    is_watched = false;
    has_no_memory = false;
    holder_release(&stage->holder);
    holder_join(&stage->holder);
    assert_int_equal(waits, 0);
}

static void assert_holds(struct stage *stage, uint64_t offset, size_t count, const void *bytes)
{
    assert_int_equal(disk_read(stage->disk, offset, count, stage->found), 0);
    assert_memory_equal(stage->found, bytes, count);
}

/* Write from offset 0 on, until a form that does not wait refuses more.  Returns how much is
 * there. */
static uint64_t fill_up(struct stage *stage)
{
    size_t done;
    int err = disk_try_write(stage->disk, 0, 2 * LIMIT, stage->bytes, &done);
    assert_int_equal(err, -EAGAIN);
    assert_true(done > 0 && done < 2 * LIMIT);
    assert_int_equal(done % stage->page, 0);
    return done;
}

static void all_is_done_where_there_is_room(void **state)
{
    struct stage stage;
    size_t done = 77;
    uint64_t zeroed = 77;
    stage_make(&stage, allocator_of(state));
    watch(&stage);
    assert_int_equal(disk_try_write(stage.disk, 100, 64 * KiB, stage.bytes, &done), 0);
    assert_int_equal(done, 64 * KiB);
    assert_int_equal(disk_try_zero(stage.disk, 50, 5000, 0, &zeroed), 0);
    assert_int_equal(zeroed, 5000);
    assert_int_equal(disk_try_zero(stage.disk, MiB + 1, 70000, DISK_NO_HOLE, &zeroed), 0);
    assert_int_equal(zeroed, 70000);
    assert_int_equal(disk_try_trim(stage.disk, 0, 64 * MiB, &zeroed), 0);
    assert_int_equal(zeroed, 64 * MiB);
    end_watch(&stage);
    assert_true(stage.page > 0);
    stage_free(&stage);
}

static void outside_of_the_disk(void **state)
{
    struct disk *disk = disk_made(allocator_of(state), MiB, 0);
    size_t done;
    uint64_t zeroed;
    char bytes[2] = {1, 1};
    assert_int_equal(disk_try_write(disk, MiB - 1, 2, bytes, &done), -ENOSPC);
    assert_int_equal(disk_try_zero(disk, MiB, 1, 0, &zeroed), -ENOSPC);
    assert_int_equal(disk_try_trim(disk, MiB, 1, &zeroed), -EINVAL);
    assert_int_equal(disk_try_write(disk, MiB, 0, bytes, &done), 0);
    assert_int_equal(done, 0);
    disk_end(disk);
}

/* On a full disk.  The waiting forms go on where these have stopped. */
static void a_full_disk(void **state)
{
    struct stage stage;
    size_t done;
    uint64_t zeroed;
    stage_make(&stage, allocator_of(state));
    watch(&stage);
    uint64_t full = fill_up(&stage), last = full - stage.page / 2;
    assert_int_equal(disk_try_write(stage.disk, last, stage.page, stage.bytes, &done), -EAGAIN);
    assert_int_equal(done, stage.page / 2); /* what lies in the last page that is there */
    assert_int_equal(disk_try_zero(stage.disk, full, 1, DISK_NO_HOLE, &zeroed), -EAGAIN);
    assert_int_equal(zeroed, 0);
    struct source source = {.from = stage.bytes, .most = stage.page};
    assert_int_equal(loan_fill(stage.disk, full, stage.page, &source), -ENOBUFS);
    assert_int_equal(source.calls, 0);
    assert_true(all_hole(stage.disk, full, 64 * MiB - full));
    assert_holds(&stage, 0, last, stage.bytes);
    end_watch(&stage);
    assert_int_equal(disk_trim(stage.disk, 0, full / 2 / stage.page * stage.page), 0);
    assert_int_equal(disk_write(stage.disk, full, stage.page, stage.bytes), 0);
    assert_holds(&stage, full, stage.page, stage.bytes);
    stage_free(&stage);
}

/* Pages in frames: pinned, as the compressor of zstd would take others away meanwhile. */
static void writes_to_frames_are_never_refused(void **state)
{
    struct stage stage;
    size_t done;
    stage_make(&stage, allocator_of(state));
    assert_int_equal(disk_zero(stage.disk, 0, HALF, DISK_NO_HOLE), 0);
    watch(&stage);
    has_no_memory = true;
    while (disk_try_write(stage.disk, 32 * MiB, LIMIT, stage.bytes, &done) == 0)
        ;
    for (unsigned i = 0; i < 1000; i++) {
        size_t at = prng_below(&stage.prng, HALF), n = 1 + prng_below(&stage.prng, HALF - at);
        struct source source = {.from = stage.bytes + at, .most = n};
        if (prng_one_in(&stage.prng, 2)) {
            assert_int_equal(disk_try_write(stage.disk, at, n, stage.bytes + at, &done), 0);
            assert_int_equal(done, n);
        } else {
            assert_true(loan_fill(stage.disk, at, n, &source) > 0);
        }
    }
    assert_int_equal(disk_try_write(stage.disk, 0, HALF, stage.bytes, &done), 0);
    assert_holds(&stage, 0, HALF, stage.bytes);
    end_watch(&stage);
    stage_free(&stage);
}

/* malloc gives nothing from now on.  Use up the memory that is there for notes: a frame is
 * zeroed, and so frozen, and written again, for as long as the freeze can be noted. */
static void use_up_notes(struct stage *stage)
{
    size_t done;
    uint64_t zeroed;
    unsigned tries = 0;
    int err = 0;
    has_no_memory = true;
    for (; err == 0; tries++) {
        assert_int_equal(disk_try_write(stage->disk, 32 * MiB, 1, "x", &done), 0);
        err = disk_try_zero(stage->disk, 32 * MiB, 1, 0, &zeroed);
    }
    assert_int_equal(err, -EAGAIN);
    assert_int_equal(zeroed, 0);
    assert_int_equal(read_byte(stage->disk, 32 * MiB), 'x');
    assert_true(tries < 10000);
}

/* Nothing can be noted for after a grace period.  A trim is refused before it changes
 * anything. */
static void without_memory_for_notes(void **state)
{
    struct stage stage;
    stage_make(&stage, allocator_of(state));
    size_t page = stage.page;
    assert_int_equal(disk_write(stage.disk, 0, HALF, stage.bytes), 0);
    assert_int_equal(disk_write(stage.disk, 32 * MiB, 1, stage.bytes + 511), 0);
    watch(&stage);
    use_up_notes(&stage);
    for (size_t at = 0; at + 2 * page < HALF; at += 2 * page) {
        uint64_t done = 77;
        assert_int_equal(disk_try_trim(stage.disk, at, page, &done), -EAGAIN);
        assert_int_equal(done, 0);
        assert_int_equal(disk_try_zero(stage.disk, at + page, page - 1, 0, &done), 0);
        memset(stage.bytes + at + page, 0, page - 1);
        assert_int_equal(disk_try_zero(stage.disk, at + 2 * page - 1, 1, 0, &done), -EAGAIN);
        assert_int_equal(done, 0);
    }
    assert_holds(&stage, 0, HALF, stage.bytes);
    end_watch(&stage);
    assert_int_equal(disk_trim(stage.disk, 0, HALF), 0);
    stage_free(&stage);
}

/* Compressed pages are written in part, or whole, while malloc gives nothing. */
static void without_memory_compressed_pages(void **state)
{
    struct stage stage;
    (void)state;
    stage_make(&stage, &allocator_zstd);
    size_t page = stage.page;
    fill_text(&stage.prng, stage.bytes, HALF);
    assert_int_equal(disk_write(stage.disk, 0, HALF, stage.bytes), 0);
    assert_int_equal(disk_settle(stage.disk), 0);
    assert_int_equal(disk_write(stage.disk, 32 * MiB, 1, stage.bytes + 511), 0);
    watch(&stage);
    use_up_notes(&stage);
    for (size_t at = 0; at < 20 * page; at += page) {
        bool whole = prng_one_in(&stage.prng, 2);
        size_t from = at + (whole ? 0 : 99), n = whole ? page : 1000, done = 77;
        struct source source = {.from = stage.bytes + HALF, .most = n};
        if (whole && prng_one_in(&stage.prng, 2)) {
            assert_int_equal(loan_fill(stage.disk, from, n, &source), -ENOBUFS);
        } else {
            int err = disk_try_write(stage.disk, from, n, source.from, &done);
            assert_int_equal(err, -EAGAIN);
            assert_int_equal(done, 0);
        }
    }
    assert_holds(&stage, 0, HALF, stage.bytes);
    end_watch(&stage);
    stage_free(&stage);
}

/* Nothing can be compressed while no grace period ends.  So the forms refuse to make more
 * frames hot than writers may, although there is memory; and the waiting form takes over. */
static void the_cold_store_is_outrun(void **state)
{
    struct stage stage;
    size_t done;
    (void)state;
    stage_make(&stage, &allocator_zstd);
    fill_text(&stage.prng, stage.bytes, 2 * LIMIT);
    watch(&stage);
    uint64_t full = fill_up(&stage);
    assert_true(stats_of(stage.disk).memory < LIMIT * 3 / 4);
    struct source source = {.from = stage.bytes, .most = stage.page};
    assert_int_equal(loan_fill(stage.disk, full, stage.page, &source), -ENOBUFS);
    assert_int_equal(source.calls, 0);
    assert_int_equal(disk_try_write(stage.disk, 0, full, stage.bytes, &done), 0);
    end_watch(&stage);
    assert_int_equal(disk_write(stage.disk, full, 2 * LIMIT - full, stage.bytes + full), 0);
    assert_holds(&stage, 0, 2 * LIMIT, stage.bytes);
    stage_free(&stage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_OF_ALL(outside_of_the_disk),
        TEST_OF_PAGED(all_is_done_where_there_is_room),
        TEST_OF_PAGED(a_full_disk),
        TEST_OF_PAGED(writes_to_frames_are_never_refused),
        TEST_OF_PAGED(without_memory_for_notes),
        cmocka_unit_test(without_memory_compressed_pages),
        cmocka_unit_test(the_cold_store_is_outrun),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
