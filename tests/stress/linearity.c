/* SPDX-License-Identifier: BSD-3-Clause */

/* Threads that read, write, zero and trim the same few sectors at once.  Afterwards their logs
 * are judged.
 *
 * In concurrent_model.c each writer has bytes of its own, and knows at once what they should be.
 * Here all workers write over each other, and what a read may see follows from the times at which
 * the requests began and ended (support/history.h, support/linearity.h).
 *
 *     window      a few pages, across the border of two nodes of the page table
 *     requests    1 to 64 sectors anywhere in the window, or whole pages; of three workers, one
 *                 uses loans (support/loan.h), and one the forms that never wait
 *                 (support/attempt.h); some copies are held up half-way (support/pause.h)
 *     settler     calls disk_settle without a pause
 *
 * A round is some thousand requests of each worker; then they stop, and the round is judged.
 *
 * Seen to catch, each time, in each shape with pages: pages that are there before their bytes are
 * (-DNBDRAM_BREAK_ORDER), no grace periods (-DNBDRAM_BREAK_GRACE).
 */

#include "support/linearity.h"
#include "support/attempt.h"
#include "support/loan.h"
#include "support/pause.h"
#include "support/settling.h"
#include "support/support.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

enum { WORKERS = 5, ROUND_EACH = 4000, HELD_UP_ONE_IN = 64 };

struct shape {
    const char *name;
    const struct allocator *allocator;
    uint32_t pages;  /* in the window */
    uint32_t one_in; /* 1 / the share of the operations that this shape runs */
};

struct run {
    struct disk *disk;
    uint64_t base; /* offset of the window */
    uint32_t page; /* sectors */
    struct history history;
    _Atomic int error; /* of any request that failed */
};

struct worker {
    struct run *run;
    struct log *log;
    pthread_t thread;
    unsigned number;
    struct prng prng;
    struct pause pause; /* its buffer is that of all requests */
};

enum way { PLAINLY, BY_LOANS, BY_ATTEMPTS, WAYS };

static enum way way_of(const struct worker *w)
{
    return w->number % WAYS;
}

/* One request. */

static int write_disk(struct worker *w, uint64_t offset, size_t count, const uint8_t *buf)
{
    switch (way_of(w)) {
    case BY_LOANS:
        return loan_write(w->run->disk, offset, count, buf, &w->prng);
    case BY_ATTEMPTS:
        return attempt_write(w->run->disk, offset, count, buf);
    default:
        return disk_write(w->run->disk, offset, count, buf);
    }
}

static int zero_disk(struct worker *w, uint64_t offset, size_t count, uint8_t *buf)
{
    struct disk *disk = w->run->disk;
    bool attempts = way_of(w) == BY_ATTEMPTS;
    uint64_t dice = prng_below(&w->prng, 16);
    unsigned flags = dice == 14 ? DISK_NO_HOLE : 0;
    if (dice < 7)
        return (attempts ? attempt_trim : disk_trim)(disk, offset, count);
    if (dice < 15)
        return (attempts ? attempt_zero : disk_zero)(disk, offset, count, flags);
    memset(buf, 0, count);
    return write_disk(w, offset, count, buf);
}

static int read_disk(struct worker *w, uint64_t offset, size_t count, uint8_t *buf)
{
    return way_of(w) == BY_LOANS ? loan_read(w->run->disk, offset, count, buf)
                                 : disk_read(w->run->disk, offset, count, buf);
}

static int make_request(struct worker *w, const struct event *event, uint8_t *buf)
{
    uint64_t offset = w->run->base + (uint64_t)event->first * SECTOR;
    size_t count = (size_t)event->count * SECTOR;
    switch (event->kind) {
    case EVENT_WRITE:
        return write_disk(w, offset, count, buf);
    case EVENT_ZERO:
        return zero_disk(w, offset, count, buf);
    case EVENT_READ:
        return read_disk(w, offset, count, buf);
    }
    return -EINVAL;
}

static void step(struct worker *w)
{
    static const enum event_kind kinds[] = {EVENT_READ, EVENT_READ,  EVENT_READ, EVENT_READ,
                                            EVENT_ZERO, EVENT_WRITE, EVENT_WRITE};
    uint32_t first, count;
    history_range(w->log->history, &w->prng, w->run->page, &first, &count);
    enum event_kind kind = kinds[prng_below(&w->prng, COUNT_OF(kinds))];
    size_t size = (size_t)count * SECTOR, event = log_plan(w->log, kind, first, count);
    uint8_t *buf = w->pause.border - prng_below(&w->prng, size < PAUSE_OPEN ? size : PAUSE_OPEN);
    if (kind == EVENT_WRITE)
        log_fill(w->log, event, buf);
    if (prng_one_in(&w->prng, HELD_UP_ONE_IN))
        pause_arm(&w->pause, prng_below(&w->prng, prng_one_in(&w->prng, 16) ? 2000 : 50));
    log_begin(w->log, event);
    int err = make_request(w, &w->log->events[event], buf);
    pause_disarm(&w->pause);
    log_end(w->log, event, buf);
    if (err != 0)
        atomic_store(&w->run->error, err);
}

static void *worker(void *opaque)
{
    struct worker *w = opaque;
    while (!log_is_full(w->log) && atomic_load(&w->run->error) == 0)
        step(w);
    return NULL;
}

/* Running. */

static void run_round(struct run *run, struct worker *workers, struct verdict *verdict)
{
    history_clear(&run->history);
    assert_int_equal(disk_trim(run->disk, run->base, (uint64_t)run->history.sectors * SECTOR), 0);
    for (unsigned i = 0; i < WORKERS; i++)
        assert_int_equal(pthread_create(&workers[i].thread, NULL, worker, &workers[i]), 0);
    for (unsigned i = 0; i < WORKERS; i++)
        pthread_join(workers[i].thread, NULL);
    assert_int_equal(atomic_load(&run->error), 0);
    linearity_check(&run->history, verdict);
}

static void make_run(struct run *run, const struct shape *shape, uint64_t round_each)
{
    run->disk = disk_made(shape->allocator, 4 * MiB, 0);
    uint32_t page = disk_page_size(run->disk);
    run->page = page / SECTOR;
    run->base = (16 - shape->pages / 2) * (uint64_t)page;
    atomic_init(&run->error, 0);
    history_make(&run->history, shape->pages * run->page, WORKERS, (size_t)round_each);
}

static void run_shape(void **state)
{
    const struct shape *shape = *state;
    struct run run;
    struct worker workers[WORKERS];
    struct verdict verdict = {.is_legal = true};
    struct settling settling;
    uint64_t ops = test_ops(1000000) / shape->one_in / WORKERS;
    uint64_t each = ops < ROUND_EACH ? ops + 1 : ROUND_EACH;
    make_run(&run, shape, each);
    for (unsigned i = 0; i < WORKERS; i++) {
        workers[i] = (struct worker){.run = &run, .log = &run.history.logs[i], .number = i};
        prng_init(&workers[i].prng, test_seed(), i);
        pause_make(&workers[i].pause);
    }
    settling_start_repeated(&settling, run.disk);
    for (uint64_t done = 0; done < ops && verdict.is_legal; done += each)
        run_round(&run, workers, &verdict);
    settling_end(&settling);
    for (unsigned i = 0; i < WORKERS; i++)
        pause_free(&workers[i].pause);
    history_free(&run.history);
    disk_end(run.disk);
    verdict_report(&verdict, shape->name);
}

static const struct shape shapes[] = {
    {"sparse, 2 pages", &allocator_sparse, 2, 8},  {"sparse, 8 pages", &allocator_sparse, 8, 8},
    {"zstd, 1 page", &allocator_zstd, 1, 8},       {"zstd, 4 pages", &allocator_zstd, 4, 8},
    {"malloc, 4 pages", &allocator_malloc, 4, 16},
};

int main(void)
{
    return run_for_each(shapes, COUNT_OF(shapes), sizeof *shapes, run_shape);
}
