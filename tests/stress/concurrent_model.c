/* SPDX-License-Identifier: BSD-3-Clause */

/* Writers that share pages, concurrently with everything that takes pages away.
 *
 * Rule 3 of paged.c: a page that is taken away because of what it holds (it is all zero, or is to
 * be compressed) must not take a write to other bytes of it along.  So many writers use few
 * pages, each with bytes of its own:
 *
 *     page    |0 1 2 3 4 5|...........|0 1 2 3 4 5|...........|0 1 2 ...     4 groups to a page,
 *              '-- cells: one of each writer, 1 to 64 bytes --'             one cell of each
 *
 * and each writer remembers what its cells hold.  Most cells are zero most of the time, so that
 * pages become all zero, and not all zero, again and again: each time the page is frozen, and
 * thawed by the next write.  Meanwhile
 *
 *     settlers   call disk_settle without a pause: freezes, compression, grace periods
 *     trimmers   trim and zero whole pages, of the odd pages only
 *
 * To know what a cell may hold after a trim, a trimmer counts in begun[page] before it trims, and
 * in done[page] afterwards; the writer reads both counters before and after what it does.
 *
 *     each trim that has begun was done before the oldest write to the cell     the bytes
 *     more trims are done than had begun after the latest write to the cell     zeroes
 *     else                                                       each byte is one or the other
 *
 * On even pages the first is always true: every acknowledged byte must be there.
 *
 * Some copies are held up half-way (support/pause.h).  Without that a writer is between "the page
 * is there" and "my bytes are in it" for nanoseconds, and none of the faults below was caught
 * reliably.
 *
 * Of three writers, one uses loans (support/loan.h), and one the forms that never wait
 * (support/attempt.h).
 *
 * Seen to catch, each time in six runs on two busy processors:
 *
 *     no grace period (-DNBDRAM_BREAK_GRACE)        all shapes on 2, 8 and 16 pages
 *     no generations (-DNBDRAM_BREAK_GENERATION)    two to five shapes, always "8 pages apart"
 *
 * and, tried once each: a writer that does not thaw, a frame swapped in before it is filled, a
 * finish that accepts any word as its own.  An index that is taken away under a writer is caught
 * only now and then; paused_copy.c catches it.
 */

#include "support/attempt.h"
#include "support/loan.h"
#include "support/pause.h"
#include "support/support.h"

#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GROUPS = 4, CELL_MAX = 64, WRITERS_MAX = 8, PAGES_MAX = 2048, HELD_UP_ONE_IN = 12 };

/* Widths of cells, by page: cells that share a word of memory with others, and cells that
 * straddle words. */
static const uint32_t widths[] = {16, 1, 5, 64};

struct shape {
    const char *name;
    const struct allocator *allocator;
    uint32_t pages;
    uint64_t apart; /* see page_offset; 0: the pages are adjacent */
    uint64_t limit;
    unsigned writers, settlers, trimmers;
    uint32_t one_in; /* 1 / the share of the operations that this shape runs */
};

struct cell {
    uint8_t bytes[CELL_MAX];
    uint64_t since; /* done[page] before the oldest write to the cell */
    uint64_t until; /* begun[page] after the latest write */
};

/* Shared by all threads of a run. */
struct run {
    const struct shape *shape;
    struct disk *disk;
    uint64_t page_size;
    uint64_t ops_each;
    atomic_bool stop;
    _Atomic uint64_t refused; /* writes that were refused for lack of room */

    _Atomic uint64_t begun[PAGES_MAX], done[PAGES_MAX]; /* trims of whole pages */

    pthread_mutex_t lock; /* guards what follows */
    bool failed;
    char what[400]; /* the first failure */
};

struct worker {
    struct run *run;
    pthread_t thread;
    unsigned number;
    struct prng prng;
    struct cell *cells; /* of a writer: [page][group] */
    struct pause pause; /* the buffer that pages are read into, and some cells written from */
    uint64_t op;
};

/* The ways of a writer. */

enum way { PLAINLY, BY_LOANS, BY_ATTEMPTS, WAYS };

static enum way way_of(const struct worker *w)
{
    return w->number % WAYS;
}

static int read_disk(struct worker *w, uint64_t offset, size_t count, void *buf)
{
    return way_of(w) == BY_LOANS ? loan_read(w->run->disk, offset, count, buf)
                                 : disk_read(w->run->disk, offset, count, buf);
}

static int write_disk(struct worker *w, uint64_t offset, size_t count, const void *buf)
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

static int zero_disk(struct worker *w, uint64_t offset, uint64_t count, unsigned flags)
{
    return way_of(w) == BY_ATTEMPTS ? attempt_zero(w->run->disk, offset, count, flags)
                                    : disk_zero(w->run->disk, offset, count, flags);
}

static int trim_disk(struct worker *w, uint64_t offset, uint64_t count)
{
    return way_of(w) == BY_ATTEMPTS ? attempt_trim(w->run->disk, offset, count)
                                    : disk_trim(w->run->disk, offset, count);
}

/* Cells. */

static uint32_t cell_width(uint64_t page)
{
    return widths[page / 2 % COUNT_OF(widths)];
}

static uint64_t cell_place(const struct worker *w, uint64_t page, unsigned group)
{
    uint64_t stride = w->run->page_size / GROUPS;
    return group * stride + w->number * cell_width(page) + page % 3;
}

/* Distant pages come in pairs, and the pages of every other pair are distant, too.  So many nodes
 * lead to one page or to two, and come and go with them. */
static uint64_t page_offset(const struct run *run, uint64_t page)
{
    uint64_t apart = run->shape->apart, number = page;
    if (apart != 0)
        number = page / 2 * 2 * apart + (page % 4 == 3 ? apart : page % 2);
    return number * run->page_size;
}

static uint64_t cell_offset(const struct worker *w, uint64_t page, unsigned group)
{
    return page_offset(w->run, page) + cell_place(w, page, group);
}

static struct cell *cell_at(const struct worker *w, uint64_t page, unsigned group)
{
    return &w->cells[page * GROUPS + group];
}

static uint64_t begun(struct run *run, uint64_t page)
{
    return atomic_load(&run->begun[page]);
}

static uint64_t done(struct run *run, uint64_t page)
{
    return atomic_load(&run->done[page]);
}

/* Failing: the first failure is kept, and all threads stop. */

static void give_up(struct worker *w, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static void give_up(struct worker *w, const char *format, ...)
{
    struct run *run = w->run;
    va_list args;
    va_start(args, format);
    pthread_mutex_lock(&run->lock);
    if (!run->failed) {
        int n = snprintf(run->what, sizeof run->what, "thread %u, operation %" PRIu64 ": ",
                         w->number, w->op);
        vsnprintf(run->what + n, sizeof run->what - (size_t)n, format, args);
        run->failed = true;
    }
    pthread_mutex_unlock(&run->lock);
    va_end(args);
    atomic_store(&run->stop, true);
}

static void give_up_on_cell(struct worker *w, uint64_t page, unsigned group, const uint8_t *found)
{
    const uint8_t *wrote = cell_at(w, page, group)->bytes;
    uint32_t width = cell_width(page), at = 0;
    uint8_t again[CELL_MAX] = {0};
    disk_read(w->run->disk, cell_offset(w, page, group), width, again);
    while (at < width - 1 && found[at] == wrote[at])
        at++;
    give_up(w, "byte %" PRIu64 " of page %" PRIu64 ": wrote %02x, found %02x, read again %02x",
            cell_place(w, page, group) + at, page, wrote[at], found[at], again[at]);
}

/* What one writer does with its cells. */

/* done_before, begun_after: the counters before and after the read that returned `found`. */
static bool is_legal(const struct cell *cell, const uint8_t *found, uint32_t width,
                     uint64_t done_before, uint64_t begun_after)
{
    if (begun_after == cell->since)
        return memcmp(found, cell->bytes, width) == 0;
    if (done_before > cell->until)
        return only_zeroes(found, width);
    for (uint32_t i = 0; i < width; i++)
        if (found[i] != cell->bytes[i] && found[i] != 0)
            return false;
    return true;
}

static bool check_cell(struct worker *w, uint64_t page, unsigned group)
{
    uint8_t found[CELL_MAX] = {0};
    uint32_t width = cell_width(page);
    uint64_t before = done(w->run, page);
    int err = read_disk(w, cell_offset(w, page, group), width, found);
    uint64_t after = begun(w->run, page);
    if (err != 0)
        give_up(w, "read fails: %d", err);
    else if (!is_legal(cell_at(w, page, group), found, width, before, after))
        give_up_on_cell(w, page, group, found);
    else
        return true;
    return false;
}

/* Hold up the next copy at the border of the buffer: mostly for less than a grace period takes,
 * sometimes for longer. */
static void pause_some_time(struct worker *w)
{
    uint64_t dice = prng_below(&w->prng, 200);
    uint64_t most_us = dice == 0 ? 20000 : dice < 10 ? 1000 : 20;
    pause_arm(&w->pause, prng_below(&w->prng, most_us));
}

/* Read all cells of the writer in a page at once.  Sometimes the read is held up half-way.  That
 * holds up every grace period, so that what was frozen before one is thawed and frozen again
 * before it ends. */
static bool check_page(struct worker *w, uint64_t page)
{
    size_t size = (size_t)w->run->page_size;
    uint8_t *buf = w->pause.border - prng_below(&w->prng, PAUSE_OPEN);
    uint64_t before = done(w->run, page);
    if (prng_one_in(&w->prng, 4))
        pause_some_time(w);
    int err = read_disk(w, page_offset(w->run, page), size, buf);
    pause_disarm(&w->pause);
    uint64_t after = begun(w->run, page);
    if (err != 0) {
        give_up(w, "read of a page fails: %d", err);
        return false;
    }
    for (unsigned group = 0; group < GROUPS; group++) {
        const uint8_t *found = buf + cell_place(w, page, group);
        if (!is_legal(cell_at(w, page, group), found, cell_width(page), before, after)) {
            give_up_on_cell(w, page, group, found);
            return false;
        }
    }
    return true;
}

/* A page that certainly has bytes of the writer must not be reported as a hole. */
static bool check_extents(struct worker *w, uint64_t page, unsigned group)
{
    struct cell *cell = cell_at(w, page, group);
    uint32_t width = cell_width(page);
    struct extent_list extents;
    list_extents(w->run->disk, cell_offset(w, page, group), width, &extents);
    uint64_t after = begun(w->run, page);
    if (extents.wrong != NULL)
        give_up(w, "extents: %s", extents.wrong);
    else if (extents.holes > 0 && after == cell->since && !only_zeroes(cell->bytes, width))
        give_up(w, "page %" PRIu64 " holds data and is reported as a hole", page);
    else
        return true;
    return false;
}

static void make_bytes(struct worker *w, uint8_t *bytes, uint32_t count)
{
    fill_random(&w->prng, bytes, count);
    for (uint32_t i = 0; i < count; i++)
        bytes[i] |= 1; /* never zero, so that a lost byte shows */
}

enum change { CHANGE_WRITE, CHANGE_WRITE_ZEROES, CHANGE_ZERO, CHANGE_ZERO_NO_HOLE, CHANGE_TRIM };

/* A write that is held up has found the page, and has not yet stored its bytes: everything that
 * takes pages away has to wait for it. */
static int write_held_up(struct worker *w, uint64_t offset, const uint8_t *bytes, uint32_t count)
{
    uint8_t *from = w->pause.border - prng_below(&w->prng, count);
    memcpy(from, bytes, count);
    pause_some_time(w);
    int err = write_disk(w, offset, count, from);
    pause_disarm(&w->pause);
    return err;
}

static int change_disk(struct worker *w, enum change change, uint64_t offset,
                       const uint8_t *bytes, uint32_t count)
{
    if (change == CHANGE_WRITE && prng_one_in(&w->prng, HELD_UP_ONE_IN))
        return write_held_up(w, offset, bytes, count);
    switch (change) {
    case CHANGE_WRITE:
    case CHANGE_WRITE_ZEROES:
        return write_disk(w, offset, count, bytes);
    case CHANGE_ZERO:
        return zero_disk(w, offset, count, 0);
    case CHANGE_ZERO_NO_HOLE:
        return zero_disk(w, offset, count, DISK_NO_HOLE);
    case CHANGE_TRIM:
        return trim_disk(w, offset, count);
    }
    return -EINVAL;
}

/* After a refusal each byte may be old or new: read the cell, and remember what it holds now. */
static void adopt(struct worker *w, uint64_t page, unsigned group, const uint8_t *fresh)
{
    struct cell *cell = cell_at(w, page, group);
    uint32_t width = cell_width(page);
    uint8_t found[CELL_MAX] = {0};
    if (disk_read(w->run->disk, cell_offset(w, page, group), width, found) != 0) {
        give_up(w, "read fails after a refused write");
        return;
    }
    for (uint32_t i = 0; i < width; i++) {
        if (found[i] != cell->bytes[i] && found[i] != fresh[i] &&
            (found[i] != 0 || page % 2 == 0)) {
            give_up_on_cell(w, page, group, found);
            return;
        }
    }
    memcpy(cell->bytes, found, width);
}

/* Change a part of a cell, or the whole cell. */
static void change_cell(struct worker *w, enum change change, uint64_t page, unsigned group,
                        bool whole)
{
    struct cell *cell = cell_at(w, page, group);
    uint32_t width = cell_width(page), from = 0, to = width;
    if (!whole) {
        from = (uint32_t)prng_below(&w->prng, width);
        to = from + 1 + (uint32_t)prng_below(&w->prng, width - from);
    }
    uint8_t fresh[CELL_MAX];
    memcpy(fresh, cell->bytes, width);
    if (change == CHANGE_WRITE)
        make_bytes(w, fresh + from, to - from);
    else
        memset(fresh + from, 0, to - from);

    uint64_t done_before = done(w->run, page);
    int err = change_disk(w, change, cell_offset(w, page, group) + from, fresh + from, to - from);
    if (err == -ENOSPC && w->run->shape->limit != 0) {
        atomic_fetch_add_explicit(&w->run->refused, 1, memory_order_relaxed);
        adopt(w, page, group, fresh);
        cell->until = begun(w->run, page);
        return;
    }
    if (err != 0) {
        give_up(w, "change %d of page %" PRIu64 " fails: %d", (int)change, page, err);
        return;
    }
    memcpy(cell->bytes, fresh, width);
    cell->until = begun(w->run, page);
    if (whole)
        cell->since = done_before;
}

/* Pages 3, 11, 19... are also zeroed with NO_HOLE: such a page does not become a hole when it is
 * all zero. */
static enum change some_clearing(struct worker *w, uint64_t page)
{
    static const enum change ways[] = {CHANGE_ZERO, CHANGE_TRIM, CHANGE_WRITE_ZEROES,
                                       CHANGE_ZERO_NO_HOLE};
    return ways[prng_below(&w->prng, page % 8 == 3 ? 4 : 3)];
}

static void clear_own_cells(struct worker *w, uint64_t page)
{
    for (unsigned group = 0; group < GROUPS; group++)
        if (!only_zeroes(cell_at(w, page, group)->bytes, CELL_MAX))
            change_cell(w, prng_one_in(&w->prng, 2) ? CHANGE_ZERO : CHANGE_TRIM, page, group,
                        true);
}

static void writer_step(struct worker *w)
{
    uint64_t page = prng_below(&w->prng, w->run->shape->pages);
    unsigned group = (unsigned)prng_below(&w->prng, GROUPS);
    uint64_t dice = prng_below(&w->prng, 100);
    if (dice < 25)
        change_cell(w, CHANGE_WRITE, page, group, true);
    else if (dice < 30)
        change_cell(w, CHANGE_WRITE, page, group, false);
    else if (dice < 40)
        change_cell(w, some_clearing(w, page), page, group, true);
    else if (dice < 43)
        change_cell(w, some_clearing(w, page), page, group, false);
    else if (dice < 68)
        clear_own_cells(w, page);
    else if (dice < 92)
        check_cell(w, page, group);
    else if (dice < 96)
        check_page(w, page);
    else
        check_extents(w, page, group);
}

static void *writer(void *opaque)
{
    struct worker *w = opaque;
    for (w->op = 0; w->op < w->run->ops_each && !atomic_load(&w->run->stop); w->op++)
        writer_step(w);
    return NULL;
}

/* The other threads run until the writers are done. */

static void *settler(void *opaque)
{
    struct worker *w = opaque;
    for (w->op = 0; !atomic_load(&w->run->stop); w->op++) {
        int err = disk_settle(w->run->disk);
        struct disk_stats stats = stats_of(w->run->disk);
        if (err != 0)
            give_up(w, "settle fails: %d", err);
        if (stats.limit != 0 && stats.memory > stats.limit)
            give_up(w, "%" PRIu64 " bytes are used, above the limit", stats.memory);
    }
    return NULL;
}

static int trim_page(struct worker *w, uint64_t offset)
{
    struct run *run = w->run;
    switch (prng_below(&w->prng, 3)) {
    case 0:
        return disk_trim(run->disk, offset, run->page_size);
    case 1:
        return disk_zero(run->disk, offset, run->page_size, 0);
    default:
        return attempt_trim(run->disk, offset, run->page_size);
    }
}

/* Trim or zero whole odd pages, and sometimes all odd pages of a row. */
static void *trimmer(void *opaque)
{
    struct worker *w = opaque;
    struct run *run = w->run;
    for (w->op = 0; !atomic_load(&run->stop); w->op++) {
        uint64_t page = prng_below(&w->prng, run->shape->pages / 2) * 2 + 1;
        uint64_t offset = page_offset(run, page);
        atomic_fetch_add(&run->begun[page], 1);
        int err = trim_page(w, offset);
        atomic_fetch_add(&run->done[page], 1);
        if (err != 0)
            give_up(w, "trim of page %" PRIu64 " fails: %d", page, err);
        for (int i = 0; i < 20; i++) /* else nothing would ever stay in these pages */
            sched_yield();
    }
    return NULL;
}

/* Running. */

static void worker_make(struct worker *w, struct run *run, unsigned number)
{
    *w = (struct worker){.run = run, .number = number};
    prng_init(&w->prng, test_seed(), number);
    w->cells = calloc((size_t)run->shape->pages * GROUPS, sizeof *w->cells);
    assert_non_null(w->cells);
    pause_make(&w->pause);
}

static void worker_start(struct worker *w, void *(*body)(void *))
{
    assert_int_equal(pthread_create(&w->thread, NULL, body, w), 0);
}

static void check_at_rest(struct run *run, struct worker *writers)
{
    for (unsigned i = 0; i < run->shape->writers; i++)
        for (uint64_t page = 0; page < run->shape->pages; page++)
            if (!run->failed && check_page(&writers[i], page))
                check_extents(&writers[i], page, (unsigned)(page % GROUPS));
}

static void run_shape(struct run *run, const struct shape *shape)
{
    struct worker writers[WRITERS_MAX], others[WRITERS_MAX];
    unsigned other_count = shape->settlers + shape->trimmers;
    memset(run, 0, sizeof *run);
    run->shape = shape;
    pthread_mutex_init(&run->lock, NULL);
    run->ops_each = test_ops(12000000) / shape->one_in / shape->writers;
    struct disk *probe = disk_made(shape->allocator, 1, 0);
    run->page_size = disk_page_size(probe);
    disk_end(probe);
    run->disk = disk_made(shape->allocator, page_offset(run, shape->pages), shape->limit);

    for (unsigned i = 0; i < shape->writers; i++)
        worker_make(&writers[i], run, i);
    for (unsigned i = 0; i < other_count; i++)
        worker_make(&others[i], run, WRITERS_MAX + i);
    for (unsigned i = 0; i < other_count; i++)
        worker_start(&others[i], i < shape->settlers ? settler : trimmer);
    for (unsigned i = 0; i < shape->writers; i++)
        worker_start(&writers[i], writer);
    for (unsigned i = 0; i < shape->writers; i++)
        pthread_join(writers[i].thread, NULL);
    atomic_store(&run->stop, true);
    for (unsigned i = 0; i < other_count; i++)
        pthread_join(others[i].thread, NULL);

    check_at_rest(run, writers);
    if (disk_settle(run->disk) != 0)
        give_up(&writers[0], "the last settle fails");
    check_at_rest(run, writers);
    for (unsigned i = 0; i < shape->writers; i++) {
        free(writers[i].cells);
        pause_free(&writers[i].pause);
    }
    for (unsigned i = 0; i < other_count; i++) {
        free(others[i].cells);
        pause_free(&others[i].pause);
    }
    disk_end(run->disk);
    pthread_mutex_destroy(&run->lock);
}

static void shape_test(void **state)
{
    static struct run run;
    run_shape(&run, *state);
    if (run.failed)
        fail_msg("%s: %s; NBDRAM_TEST_SEED=0x%" PRIx64, run.shape->name, run.what, test_seed());
}

static const struct shape shapes[] = {
    /* With few pages every other write meets a frozen page. */
    {"sparse, 2 pages", &allocator_sparse, 2, 0, 0, 4, 1, 0, 6},
    {"sparse, 16 pages", &allocator_sparse, 16, 0, 0, 6, 2, 1, 6},
    {"sparse, 8 pages apart", &allocator_sparse, 8, 10000, 0, 3, 1, 0, 6},
    {"zstd, 2 pages", &allocator_zstd, 2, 0, 0, 4, 1, 0, 8},
    {"zstd, 16 pages", &allocator_zstd, 16, 0, 0, 6, 2, 1, 12},
    {"zstd, 8 pages apart", &allocator_zstd, 8, 10000, 0, 3, 1, 0, 8},
    /* 64 MiB in a quarter of that: pages have to be compressed, and writes may be refused. */
    {"zstd, 2048 pages, limited", &allocator_zstd, 2048, 0, 16 * MiB, 6, 0, 1, 120},
    {"sparse, 2048 pages, limited", &allocator_sparse, 2048, 0, 4 * MiB, 6, 0, 1, 120},
    {"malloc", &allocator_malloc, 16, 0, 0, 6, 0, 1, 120},
};

int main(void)
{
    return run_for_each(shapes, COUNT_OF(shapes), sizeof *shapes, shape_test);
}
