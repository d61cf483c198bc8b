/* SPDX-License-Identifier: BSD-3-Clause */

/* A sweep (pool_shrink_to) over a pool of 64 GiB lets others have the pool's lock after a few
 * chunks.
 *
 * All cells of the pool are in use but one, which the system does not take back.  So a sweep
 * looks at each chunk four times, and finds nothing.  The cells are never touched: the pool takes
 * 64 GiB of address space, and no memory.
 *
 * Whenever the sweep releases the lock, the test does what another thread might do: it gives
 * cells back and takes them, and verifies the pool. */

#include "support/support.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "disk/memory/pool.h"
#include "disk/memory/pool_inside.h"
#include "os/memory.h"
#include "text/reason.h"

#define CHUNK (2 * MiB)
#define CELL (1 * MiB)
#define SIZE (64 * GiB)
#define CHECK_EVERY 1024 /* releases of the lock: a check looks at all chunks */

struct bench {
    struct budget budget;
    struct pool pool;
    uint64_t chunks;
    uint64_t held; /* a cell in use */
};

/* The bench that is being swept; NULL: none. */
static struct bench *swept;
static uint64_t releases; /* of the pool's lock, meanwhile */

/* Calls of the system during a sweep, and those of them with the pool's lock held. */
static struct pool *asked_for;
static unsigned calls, calls_with_lock;

static void count_call(void)
{
    if (!asked_for)
        return;
    calls++;
    if (pthread_mutex_trylock(&asked_for->inside->lock) == 0)
        pthread_mutex_unlock(&asked_for->inside->lock);
    else
        calls_with_lock++;
}

/* The system never takes memory back. */
int __wrap_os_memory_discard(void *base, size_t length);
int __wrap_os_memory_discard(void *base, size_t length)
{
    (void)base, (void)length;
    count_call();
    return -EINVAL;
}

void __real_os_memory_huge(void *base, size_t length, bool allowed);
void __wrap_os_memory_huge(void *base, size_t length, bool allowed);
void __wrap_os_memory_huge(void *base, size_t length, bool allowed)
{
    count_call();
    __real_os_memory_huge(base, length, allowed);
}

static void expect_whole(struct bench *bench)
{
    struct reason reason;
    if (pool_check(&bench->pool, &reason) < 0)
        fail_msg("%s", reason.text);
}

/* Take a cell, and give another one back.  There is none while the system is asked to take
 * back the only free one. */
static void interfere(struct bench *bench)
{
    uint64_t cell;
    if (pool_take(&bench->pool, BUDGET_GROW, &cell) == 0) {
        pool_give(&bench->pool, bench->held);
        bench->held = cell;
    }
    if (releases % CHECK_EVERY == 0)
        expect_whole(bench);
}

int __real_pthread_mutex_unlock(pthread_mutex_t *lock);
int __wrap_pthread_mutex_unlock(pthread_mutex_t *lock);
int __wrap_pthread_mutex_unlock(pthread_mutex_t *lock)
{
    struct bench *bench = swept;
    int r = __real_pthread_mutex_unlock(lock);
    if (!bench || lock != &bench->pool.inside->lock)
        return r;
    swept = NULL;
    releases++;
    interfere(bench);
    swept = bench;
    return r;
}

/* Make a pool of which all cells but the last are in use. */
static void bench_make(struct bench *bench)
{
    assert_int_equal(budget_init(&bench->budget, 2 * SIZE, false, ""), 0);
    const struct pool_options options = {
        .cell = CELL, .chunk = CHUNK, .capacity = SIZE, .budget = &bench->budget};
    assert_int_equal(pool_create(&options, &bench->pool), 0);
    bench->chunks = bench->pool.inside->chunk_count;
    for (uint64_t i = 0; i < 2 * bench->chunks; i++) {
        uint64_t cell;
        int r = pool_take(&bench->pool, BUDGET_GROW, &cell);
        if (r == -ENOMEM) { /* ulimit -d, or a strict vm.overcommit_memory */
            pool_destroy(&bench->pool);
            budget_destroy(&bench->budget);
            skip();
        }
        assert_int_equal(r, 0);
    }
    bench->held = 0;
    pool_give(&bench->pool, 2 * bench->chunks - 1);
}

static void sweep_holds_the_lock_for_few_chunks(void **state)
{
    struct bench bench;
    (void)state;
    bench_make(&bench);
    expect_whole(&bench);
    releases = 0;
    swept = &bench;
    pool_shrink(&bench.pool);
    swept = NULL;
    expect_whole(&bench);
    uint64_t looks = 4 * bench.chunks;
    print_message("# %" PRIu64 " looks at chunks, %" PRIu64 " for each time the lock was held\n",
                  looks, looks / releases);
    assert_true(looks / releases <= POOL_SWEEP_HOLD);
    pool_destroy(&bench.pool);
}

/* A system call can take milliseconds, if others have the process's memory map.  Here each
 * chunk has a part that is free, so huge pages are forbidden in it before that part goes back. */
static void sweep_calls_the_system_without_the_lock(void **state)
{
    enum { CHUNKS = 8, CELLS = CHUNKS * CHUNK / 4096 };
    static uint64_t cells[CELLS];
    struct budget budget;
    struct pool pool;
    (void)state;
    assert_int_equal(budget_init(&budget, SIZE, false, ""), 0);
    const struct pool_options options = {
        .cell = 4096, .chunk = CHUNK, .capacity = SIZE, .huge = true, .budget = &budget};
    assert_int_equal(pool_create(&options, &pool), 0);
    for (unsigned i = 0; i < CELLS; i++)
        assert_int_equal(pool_take(&pool, BUDGET_GROW, &cells[i]), 0);
    for (unsigned i = 0; i < CELLS; i += 2) /* too few for pool_give to start a sweep */
        if (cells[i] % (CHUNK / 4096) < 64)
            pool_untake(&pool, cells[i]);
    calls = calls_with_lock = 0;
    asked_for = &pool;
    pool_shrink(&pool);
    asked_for = NULL;
    assert_true(calls > CHUNKS);
    assert_int_equal(calls_with_lock, 0);
    pool_destroy(&pool);
    budget_destroy(&budget);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sweep_holds_the_lock_for_few_chunks),
        cmocka_unit_test(sweep_calls_the_system_without_the_lock),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
