/* SPDX-License-Identifier: BSD-3-Clause */

/* Threads share a pool that is too small for them.
 *
 *     takers     take cells, mark each with a random number, verify the mark later, and give the
 *                cell back; or pass it on to another taker, which verifies it and gives it back
 *     shrinker   calls pool_shrink without a pause, so that cells come and go between the states
 *                free and absent
 *     checker    calls pool_check without a pause, while the others work
 *
 * The takers together want more than the budget allows: each round has to meet the end of it.
 * `taken` has a flag for each cell, which shows that a cell is handed out twice even if its bytes
 * do not.  After each round all cells are given back, and nothing may be charged to the budget
 * any more.
 *
 * Seen to catch, each in the first round: a taken cell that stays free, a discard that leaves its
 * granules free or takes one too many, a magazine used without its lock or emptied after it, a
 * discard that does not pay the budget back, and invariants 3, 5 and 6 not kept.
 */

#include "support/support.h"

#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "disk/memory/pool.h"
#include "text/reason.h"

#define CHUNK (256 * KiB)
#define LIMIT (16 * CHUNK)

enum { TAKERS = 4, ROUNDS = 5, MARK_EVERY = 512 };
enum { STEP_MAX = 16 }; /* cells taken or given in one step */

struct held {
    uint64_t cell, mark;
};

/* What all threads of a run share. */
struct run {
    size_t cell_size;
    uint64_t cell_count;
    uint64_t ops_each;
    struct budget budget;
    struct pool pool;
    atomic_bool stop;
    _Atomic uint64_t refused; /* takes that met the end of the budget */
    _Atomic uint64_t shrinks, checks;
    _Atomic uint8_t *taken; /* by cell: a taker has it */

    pthread_mutex_t lock; /* guards what follows */
    struct held *passed;  /* cells on their way to another taker */
    uint64_t passed_count;
    char failure[400]; /* the first one; empty: none */
};

struct taker {
    struct run *run;
    pthread_t thread;
    struct prng prng;
    struct held *held;
    uint64_t held_count, held_max;
};

/* Failing: the first failure is kept, and all threads stop. */
static void give_up(struct run *run, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static void give_up(struct run *run, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    pthread_mutex_lock(&run->lock);
    if (run->failure[0] == '\0')
        vsnprintf(run->failure, sizeof run->failure, format, args);
    pthread_mutex_unlock(&run->lock);
    va_end(args);
    atomic_store(&run->stop, true);
}

static void check_pool(struct run *run)
{
    struct reason reason;
    if (pool_check(&run->pool, &reason) < 0)
        give_up(run, "%s", reason.text);
}

/* Marks: one word in every 512 bytes, plain stores and loads, for the thread sanitizer to see. */

static void mark_cell(const struct run *run, const struct held *held)
{
    char *base = pool_at(&run->pool, held->cell);
    for (size_t at = 0; at < run->cell_size; at += MARK_EVERY)
        memcpy(base + at, &held->mark, sizeof held->mark);
}

static bool is_marked(const struct run *run, const struct held *held)
{
    const char *base = pool_at(&run->pool, held->cell);
    for (size_t at = 0; at < run->cell_size; at += MARK_EVERY)
        if (memcmp(base + at, &held->mark, sizeof held->mark) != 0)
            return false;
    return true;
}

/* Takers. */

static void take_one(struct taker *t)
{
    struct run *run = t->run;
    struct held held = {.mark = prng_next(&t->prng)};
    int r = pool_take(&run->pool, BUDGET_GROW, &held.cell);
    if (r == -ENOSPC)
        atomic_fetch_add(&run->refused, 1);
    else if (r < 0)
        give_up(run, "pool_take returns %d", r);
    else if (held.cell >= run->cell_count)
        give_up(run, "there is no cell %" PRIu64, held.cell);
    else if (atomic_exchange(&run->taken[held.cell], 1) != 0)
        give_up(run, "cell %" PRIu64 " was handed out twice", held.cell);
    if (r < 0 || atomic_load(&run->stop))
        return;
    mark_cell(run, &held);
    t->held[t->held_count++] = held;
}

static void give_one(struct run *run, const struct held *held)
{
    if (!is_marked(run, held))
        give_up(run, "cell %" PRIu64 " was changed while it was in use", held->cell);
    atomic_store(&run->taken[held->cell], 0);
    pool_give(&run->pool, held->cell);
}

static void pass_one(struct run *run, const struct held *held)
{
    pthread_mutex_lock(&run->lock);
    run->passed[run->passed_count++] = *held;
    pthread_mutex_unlock(&run->lock);
}

/* Take over a cell that was passed on.  False: there is none. */
static bool receive_one(struct run *run, struct held *held)
{
    pthread_mutex_lock(&run->lock);
    bool found = run->passed_count > 0;
    if (found)
        *held = run->passed[--run->passed_count];
    pthread_mutex_unlock(&run->lock);
    return found;
}

static struct held remove_any(struct taker *t)
{
    uint64_t at = prng_below(&t->prng, t->held_count);
    struct held held = t->held[at];
    t->held[at] = t->held[--t->held_count];
    return held;
}

/* Takers take more often than they give, until they hold all they can.  Now and then one gives
 * most of its cells back at once, so that whole granules become free. */
static void taker_step(struct taker *t)
{
    struct held held;
    uint64_t dice = prng_below(&t->prng, 1000);
    for (uint64_t n = 1 + prng_below(&t->prng, STEP_MAX); n > 0; n--) {
        if (dice < 600 && t->held_count < t->held_max) {
            take_one(t);
        } else if (dice < 950 && t->held_count > 0) {
            held = remove_any(t);
            give_one(t->run, &held);
        } else if (dice < 970 && t->held_count > 0) {
            held = remove_any(t);
            pass_one(t->run, &held);
        } else if (dice < 999) {
            if (receive_one(t->run, &held))
                give_one(t->run, &held);
        } else {
            while (t->held_count > t->held_max / 16)
                give_one(t->run, &t->held[--t->held_count]);
        }
    }
}

static void *taker_main(void *opaque)
{
    struct taker *t = opaque;
    for (uint64_t op = 0; op < t->run->ops_each && !atomic_load(&t->run->stop); op++)
        taker_step(t);
    return NULL;
}

/* The others run until the takers are done. */

static void *shrinker_main(void *opaque)
{
    struct run *run = opaque;
    while (!atomic_load(&run->stop)) {
        pool_shrink(&run->pool);
        atomic_fetch_add(&run->shrinks, 1);
        sched_yield();
    }
    return NULL;
}

static void *checker_main(void *opaque)
{
    struct run *run = opaque;
    while (!atomic_load(&run->stop)) {
        check_pool(run);
        atomic_fetch_add(&run->checks, 1);
        sched_yield();
    }
    return NULL;
}

/* Running. */

static void run_make(struct run *run, size_t cell_size)
{
    memset(run, 0, sizeof *run);
    run->cell_size = cell_size;
    run->cell_count = 2 * LIMIT / cell_size;
    run->ops_each = test_ops(200000) / ROUNDS / TAKERS;
    budget_init(&run->budget, LIMIT, false, "");
    const struct pool_options options = {.cell = cell_size,
                                         .chunk = CHUNK,
                                         .capacity = 2 * LIMIT,
                                         .huge = true,
                                         .budget = &run->budget};
    assert_int_equal(pool_create(&options, &run->pool), 0);
    pthread_mutex_init(&run->lock, NULL);
    run->taken = calloc(run->cell_count, sizeof *run->taken);
    run->passed = calloc(run->cell_count, sizeof *run->passed);
    assert_non_null(run->taken);
    assert_non_null(run->passed);
}

static void run_free(struct run *run)
{
    pool_destroy(&run->pool);
    pthread_mutex_destroy(&run->lock);
    free(run->taken);
    free(run->passed);
}

static void start(pthread_t *thread, void *(*main)(void *), void *arg)
{
    assert_int_equal(pthread_create(thread, NULL, main, arg), 0);
}

/* One round: all threads work, and then all cells are given back. */
static void run_round(struct run *run, struct taker *takers)
{
    pthread_t shrinker, checker;
    struct held held;
    atomic_store(&run->stop, false);
    start(&shrinker, shrinker_main, run);
    start(&checker, checker_main, run);
    for (unsigned i = 0; i < TAKERS; i++)
        start(&takers[i].thread, taker_main, &takers[i]);
    for (unsigned i = 0; i < TAKERS; i++)
        pthread_join(takers[i].thread, NULL);
    atomic_store(&run->stop, true);
    pthread_join(shrinker, NULL);
    pthread_join(checker, NULL);
    check_pool(run);
    for (unsigned i = 0; i < TAKERS; i++)
        while (takers[i].held_count > 0)
            give_one(run, &takers[i].held[--takers[i].held_count]);
    while (receive_one(run, &held))
        give_one(run, &held);
    check_pool(run);
}

static void expect_all_given_back(struct run *run)
{
    struct reason reason = {""};
    assert_int_equal(pool_cells_used(&run->pool), 0);
    pool_shrink(&run->pool);
    check_pool(run);
    assert_int_equal(pool_bytes_charged(&run->pool), 0);
    if (budget_check(&run->budget, 0, &reason) < 0)
        fail_msg("%s", reason.text);
}

static void share_a_pool(size_t cell_size)
{
    static struct run run;
    struct taker takers[TAKERS];
    run_make(&run, cell_size);
    for (unsigned i = 0; i < TAKERS; i++) {
        takers[i] = (struct taker){.run = &run, .held_max = LIMIT / cell_size / 2};
        prng_init(&takers[i].prng, test_seed(), cell_size + i);
        takers[i].held = calloc(takers[i].held_max, sizeof *takers[i].held);
        assert_non_null(takers[i].held);
    }
    for (unsigned round = 0; round < ROUNDS && run.failure[0] == '\0'; round++) {
        run_round(&run, takers);
        if (run.failure[0] == '\0')
            expect_all_given_back(&run);
    }
    for (unsigned i = 0; i < TAKERS; i++)
        free(takers[i].held);
    if (run.failure[0] != '\0')
        fail_msg("cells of %zu bytes: %s", cell_size, run.failure);
    assert_true(run.refused > 0);
    print_message("# %" PRIu64 " takes refused, %" PRIu64 " shrinks, %" PRIu64 " checks\n",
                  run.refused, run.shrinks, run.checks);
    run_free(&run);
}

static void small_cells_share_granules(void **state)
{
    (void)state;
    share_a_pool(1 * KiB);
}

static void each_cell_is_a_granule(void **state)
{
    (void)state;
    share_a_pool(4 * KiB);
}

/* One magazine would hold back too much of the pool, so there are none. */
static void large_cells_have_no_magazines(void **state)
{
    (void)state;
    share_a_pool(64 * KiB);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_cells_share_granules),
        cmocka_unit_test(each_cell_is_a_granule),
        cmocka_unit_test(large_cells_have_no_magazines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
