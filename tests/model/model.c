/* SPDX-License-Identifier: BSD-3-Clause */

/* A million random operations on each allocator, and on an array that has to hold the same.
 *
 * The array consists of windows: one over a small disk, so that every byte is touched thousands
 * of times; and some hundred over a disk of 2^63-1 bytes, around all places where the page table
 * gains a level, so that requests of exabytes meet pages that are there.
 *
 * Sometimes the model also knows that a page must be reported as a hole or as data:
 *
 *     cleared as a whole        HOLE, until anything but zeroes is written to it
 *     zeroed with NO_HOLE       DATA, until all that was zeroed so has been trimmed, or zeroed
 *                               without NO_HOLE, at once or in parts
 *     anything else             either may be reported; a hole has to be zero in the array
 *
 * Half of the reads and writes are by loans (support/loan.h).
 *
 * If a byte is wrong, the last operations that touched it are printed.
 */

#include "support/loan.h"
#include "support/support.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FLAT_SIZE (4 * MiB + 2345) /* ends in the middle of a page */
#define LONGEST ((size_t)256 << 10)
#define POOL (LONGEST + ((size_t)1 << 20))
#define HISTORY ((size_t)1 << 16)

struct window {
    uint64_t base, size;
    uint8_t *bytes;
    bool *is_reserved; /* for each byte: it was zeroed with NO_HOLE, and not cleared since */
    bool *is_hole;     /* for each page that lies in the window as a whole */
};

enum kind {
    READ,
    WRITE,
    WRITE_ZEROES,
    FILL,
    FILL_ZEROES,
    ZERO,
    ZERO_NO_HOLE,
    TRIM,
    EXTENTS,
    SETTLE
};
static const char *const kind_names[] = {"read",        "write", "write zeroes", "fill",
                                         "fill zeroes", "zero",  "zero NO_HOLE", "trim",
                                         "extents",     "settle"};

struct op {
    uint64_t number, offset, count;
    enum kind kind;
};

struct model {
    struct disk *disk;
    const struct allocator *allocator;
    uint64_t page;
    struct prng prng;

    struct window *windows; /* in order, with gaps between them */
    size_t window_count;

    uint8_t *random, *text, *zeroes, *back; /* what is written, and the buffer for reads */
    uint64_t places[16];                    /* where operations were, for more of them */

    struct op *history; /* the last operations that changed something: a ring */
    uint64_t ops, changes;
};

/* Failing. */

static void complain(struct model *m, uint64_t byte, const char *what)
{
    print_error("%s: %s at byte %" PRIu64 " (byte %" PRIu64 " of page %" PRIu64 ") after %" PRIu64
                " operations; NBDRAM_TEST_SEED=0x%" PRIx64 "\n",
                m->allocator->name, what, byte, byte % m->page, byte / m->page, m->ops,
                test_seed());
    uint64_t page_start = byte / m->page * m->page;
    int left = 16;
    for (uint64_t back = 1; back <= HISTORY && back <= m->changes && left > 0; back++) {
        const struct op *op = &m->history[(m->changes - back) % HISTORY];
        bool near = op->kind == SETTLE ||
                    (op->offset < page_start + m->page && op->offset + op->count > page_start);
        if (!near)
            continue;
        bool touches = op->offset <= byte && byte < op->offset + op->count;
        print_error("  %c %" PRIu64 ": %s %" PRIu64 "+%" PRIu64 "\n", touches ? '*' : ' ',
                    op->number, kind_names[op->kind], op->offset, op->count);
        left--;
    }
    fail();
}

static void record(struct model *m, enum kind kind, uint64_t offset, uint64_t count)
{
    m->history[m->ops % HISTORY] = (struct op){m->ops, offset, count, kind};
    m->ops++;
}

/* What the model knows. */

static size_t window_at(const struct model *m,
                        uint64_t offset) /* the first one that ends after `at` */
{
    size_t low = 0, high = m->window_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (m->windows[middle].base + m->windows[middle].size <= offset)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

enum change { CHANGE_WRITE, CHANGE_CLEAR, CHANGE_RESERVE };

static void learn(struct model *m, struct window *w, uint64_t at, uint64_t count,
                  enum change change)
{
    if (m->allocator == &allocator_malloc || count == 0)
        return;
    if (change != CHANGE_WRITE)
        memset(w->is_reserved + at, change == CHANGE_RESERVE, count);
    for (uint64_t p = at / m->page; p <= (at + count - 1) / m->page; p++) {
        if ((p + 1) * m->page > w->size)
            return;
        bool whole = at <= p * m->page && (p + 1) * m->page <= at + count;
        w->is_hole[p] = change == CHANGE_CLEAR && (whole || w->is_hole[p]);
    }
}

static bool is_any_reserved(const struct model *m, const struct window *w, uint64_t p)
{
    return memchr(w->is_reserved + p * m->page, 1, m->page) != NULL;
}

/* The operations, on a range of one window. */

static void do_read(struct model *m, struct window *w, uint64_t at, size_t count)
{
    uint8_t *back = m->back + at % 64;
    record(m, READ, w->base + at, count);
    bool lent = prng_one_in(&m->prng, 2);
    int err = lent ? loan_read(m->disk, w->base + at, count, back)
                   : disk_read(m->disk, w->base + at, count, back);
    if (err != 0)
        complain(m, w->base + at, "read fails");
    if (memcmp(back, w->bytes + at, count) == 0)
        return;
    size_t bad = 0;
    while (back[bad] == w->bytes[at + bad])
        bad++;
    print_error("%s 0x%02x instead of 0x%02x\n", lent ? "lent" : "read", back[bad],
                w->bytes[at + bad]);
    complain(m, w->base + at + bad, "wrong data");
}

static void do_write(struct model *m, struct window *w, uint64_t at, size_t count)
{
    uint64_t dice = prng_below(&m->prng, 10);
    bool zeroes = dice < 2;
    const uint8_t *from = zeroes ? m->zeroes : dice < 6 ? m->random : m->text;
    from += prng_below(&m->prng, POOL - count);
    bool lent = prng_one_in(&m->prng, 2);
    record(m, (lent ? FILL : WRITE) + zeroes, w->base + at, count);
    int err = lent ? loan_write(m->disk, w->base + at, count, from, &m->prng)
                   : disk_write(m->disk, w->base + at, count, from);
    if (err != 0)
        complain(m, w->base + at, "write fails");
    memcpy(w->bytes + at, from, count);
    if (!zeroes)
        learn(m, w, at, count, CHANGE_WRITE);
}

static void do_zero(struct model *m, struct window *w, uint64_t at, size_t count, enum kind kind)
{
    uint64_t offset = w->base + at;
    record(m, kind, offset, count);
    int err = kind == TRIM ? disk_trim(m->disk, offset, count)
                           : disk_zero(m->disk, offset, count, kind == ZERO ? 0 : DISK_NO_HOLE);
    if (err != 0)
        complain(m, offset, "zero or trim fails");
    memset(w->bytes + at, 0, count);
    learn(m, w, at, count, kind == ZERO_NO_HOLE ? CHANGE_RESERVE : CHANGE_CLEAR);
}

/* Extents are checked as disk_extents reports them.  A failure is kept until it has returned: to
 * fail is to jump, which would leave the disk in the middle of the call. */
struct extent_check {
    struct model *m;
    uint64_t next, end;
    bool any, last_was_hole;
    const char *wrong;
    uint64_t wrong_at;
};

static int blame(struct extent_check *t, uint64_t byte, const char *what)
{
    t->wrong = what;
    t->wrong_at = byte;
    return 1;
}

static int check_extent_in_window(struct extent_check *t, const struct window *w, uint64_t at,
                                  uint64_t count, bool hole)
{
    uint64_t page = t->m->page;
    if (hole && !only_zeroes(w->bytes + at, (size_t)count)) {
        while (w->bytes[at] == 0)
            at++;
        return blame(t, w->base + at, "data is reported as a hole");
    }
    if (t->m->allocator == &allocator_malloc)
        return 0;
    for (uint64_t p = at / page; p <= (at + count - 1) / page; p++) {
        if ((p + 1) * page > w->size)
            break;
        if (hole && is_any_reserved(t->m, w, p))
            return blame(t, w->base + p * page, "a reserved page is reported as a hole");
        if (!hole && w->is_hole[p])
            return blame(t, w->base + p * page, "a page that was freed is reported as data");
    }
    return 0;
}

/* An extent has to be right wherever a window overlaps it; outside of windows there are only
 * holes. */
static int check_extent_in_windows(struct extent_check *t, uint64_t at, uint64_t end, bool hole)
{
    const struct model *m = t->m;
    for (size_t i = window_at(m, at); at < end; i++) {
        const struct window *w = i < m->window_count ? &m->windows[i] : NULL;
        uint64_t gap_end = w != NULL && w->base < end ? w->base : end;
        if (!hole && at < gap_end)
            return blame(t, at, "data where nothing was written");
        if (gap_end == end)
            return 0;
        uint64_t from = at > w->base ? at : w->base;
        uint64_t to = end < w->base + w->size ? end : w->base + w->size;
        if (check_extent_in_window(t, w, from - w->base, to - from, hole) != 0)
            return 1;
        at = to;
    }
    return 0;
}

static int check_extent(void *opaque, uint64_t offset, uint64_t count, bool hole)
{
    struct extent_check *t = opaque;
    if (offset != t->next || count == 0 || count > t->end - offset)
        return blame(t, offset, "extents do not tile");
    if (t->any && hole == t->last_was_hole)
        return blame(t, offset, "neighbouring extents are alike");
    t->any = true;
    t->last_was_hole = hole;
    t->next = offset + count;
    return check_extent_in_windows(t, offset, t->next, hole);
}

static void do_extents(struct model *m, uint64_t offset, uint64_t count)
{
    struct extent_check t = {.m = m, .next = offset, .end = offset + count};
    record(m, EXTENTS, offset, count);
    int err = disk_extents(m->disk, offset, count, check_extent, &t);
    if (t.wrong != NULL)
        complain(m, t.wrong_at, t.wrong);
    if (err != 0)
        complain(m, offset, "extents fail");
    if (t.next != t.end)
        complain(m, t.next, "extents end too early");
}

static void do_settle(struct model *m)
{
    record(m, SETTLE, 0, 0);
    if (disk_settle(m->disk) != 0)
        complain(m, 0, "settle fails");
    disk_verify(m->disk);
}

/* Choosing. */

static uint64_t choose_place(struct model *m, const struct window *w)
{
    uint64_t dice = prng_below(&m->prng, 8);
    uint64_t place = prng_below(&m->prng, w->size);
    if (dice < 2)
        place = m->places[prng_below(&m->prng, 16)] % w->size;
    else if (dice < 4)
        place = place / m->page * m->page;
    else if (dice < 6)
        place = place / m->page * m->page + prng_below(&m->prng, 18) - 9;
    m->places[prng_below(&m->prng, 16)] = place % w->size;
    return place % w->size;
}

static size_t choose_count(struct model *m)
{
    static const uint32_t common[] = {512, 4096, 8192, 16384, 32768, 65536};
    uint64_t dice = prng_below(&m->prng, 1000);
    if (dice < 350)
        return 1 + prng_below(&m->prng, 64);
    if (dice < 600)
        return 1 + prng_below(&m->prng, 6000);
    if (dice < 900)
        return common[prng_below(&m->prng, dice < 800 ? 3 : 6)];
    if (dice < 990)
        return 1 + prng_below(&m->prng, 64 << 10);
    return 1 + prng_below(&m->prng, LONGEST);
}

static void step_in_window(struct model *m, struct window *w)
{
    uint64_t at = choose_place(m, w);
    size_t count = choose_count(m);
    if (count > w->size - at)
        count = (size_t)(w->size - at);
    uint64_t dice = prng_below(&m->prng, 100);
    if (dice < 38)
        do_write(m, w, at, count);
    else if (dice < 68)
        do_read(m, w, at, count);
    else if (dice < 77)
        do_zero(m, w, at, count, ZERO);
    else if (dice < 80)
        do_zero(m, w, at, count, ZERO_NO_HOLE);
    else if (dice < 89)
        do_zero(m, w, at, count, TRIM);
    else
        do_extents(m, w->base + at, count);
}

/* One request over several windows and everything between them. */
static void step_across(struct model *m)
{
    size_t i = (size_t)prng_below(&m->prng, m->window_count);
    size_t j = (size_t)prng_below(&m->prng, m->window_count);
    if (prng_one_in(&m->prng, 2)) /* most often a window close by, or too few pages would stay */
        j = i + prng_below(&m->prng, 3) < m->window_count ? i + prng_below(&m->prng, 3) : i;
    if (j >= m->window_count)
        j = m->window_count - 1;
    if (i > j) {
        size_t swap = i;
        i = j;
        j = swap;
    }
    struct window *first = &m->windows[i], *last = &m->windows[j];
    uint64_t start = choose_place(m, first), end = choose_place(m, last) + 1;
    if (i == j && start >= end)
        return;
    uint64_t offset = first->base + start, count = last->base + end - offset;
    if (!prng_one_in(&m->prng, 8)) {
        do_extents(m, offset, count);
        return;
    }
    bool trim = prng_one_in(&m->prng, 2);
    record(m, trim ? TRIM : ZERO, offset, count);
    int err = trim ? disk_trim(m->disk, offset, count) : disk_zero(m->disk, offset, count, 0);
    if (err != 0)
        complain(m, offset, "zero or trim fails");
    for (size_t k = i; k <= j; k++) {
        struct window *w = &m->windows[k];
        uint64_t from = k == i ? start : 0, to = k == j ? end : w->size;
        memset(w->bytes + from, 0, (size_t)(to - from));
        learn(m, w, from, to - from, CHANGE_CLEAR);
    }
}

static void check_all(struct model *m)
{
    for (size_t i = 0; i < m->window_count; i++) {
        struct window *w = &m->windows[i];
        for (uint64_t at = 0; at < w->size; at += LONGEST)
            do_read(m, w, at, (size_t)(w->size - at < LONGEST ? w->size - at : LONGEST));
    }
    do_extents(m, 0, disk_size(m->disk));
}

/* Making. */

static void *must_have(void *p)
{
    assert_non_null(p);
    return p;
}

static void model_make(struct model *m, const struct allocator *allocator, uint64_t size,
                       uint64_t stream)
{
    *m = (struct model){.allocator = allocator};
    m->disk = disk_made(allocator, size, 0);
    m->page = disk_page_size(m->disk);
    prng_init(&m->prng, test_seed(), stream);
    m->random = must_have(malloc(POOL));
    m->text = must_have(malloc(POOL));
    m->zeroes = must_have(calloc(1, POOL));
    m->back = must_have(malloc(LONGEST + 64));
    m->history = must_have(calloc(HISTORY, sizeof *m->history));
    fill_random(&m->prng, m->random, POOL);
    fill_text(&m->prng, m->text, POOL);
}

static void window_make(struct model *m, uint64_t base, uint64_t size)
{
    struct window *w = &m->windows[m->window_count++];
    w->base = base;
    w->size = size;
    w->bytes = must_have(calloc(1, (size_t)size));
    w->is_reserved = must_have(calloc((size_t)size, 1));
    w->is_hole = must_have(malloc((size_t)(size / m->page) + 1));
    memset(w->is_hole, true, (size_t)(size / m->page) + 1);
}

static void model_free(struct model *m)
{
    disk_end(m->disk);
    for (size_t i = 0; i < m->window_count; i++) {
        free(m->windows[i].bytes);
        free(m->windows[i].is_reserved);
        free(m->windows[i].is_hole);
    }
    free(m->windows);
    free(m->random);
    free(m->text);
    free(m->zeroes);
    free(m->back);
    free(m->history);
}

/* Check the whole disk, before and after it settles, and free the model. */
static void model_end(struct model *m)
{
    check_all(m);
    do_settle(m);
    check_all(m);
    model_free(m);
}

static void small_disk(void **state)
{
    struct model m;
    model_make(&m, allocator_of(state), FLAT_SIZE, allocator_index(allocator_of(state)));
    m.windows = must_have(calloc(1, sizeof *m.windows));
    window_make(&m, 0, FLAT_SIZE);
    uint64_t ops = test_ops(1000000);
    while (m.ops < ops) {
        step_in_window(&m, m.windows);
        if (prng_one_in(&m.prng, 10000))
            do_settle(&m);
    }
    model_end(&m);
}

/* Windows around the places where a table of fan-out 2, 4, ... begins a new node of any level, at
 * the two ends of the disk, and anywhere. */
enum { WINDOWS = 300 };
#define WINDOW_ALIGN (64 * KiB) /* at least a page */
#define WINDOW_SIZE (2 * WINDOW_ALIGN)

static int in_order(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static void make_windows(struct model *m)
{
    uint64_t bases[WINDOWS];
    size_t n = 0;
    assert_true(m->page <= WINDOW_ALIGN);
    bases[n++] = 0;
    bases[n++] = (DISK_SIZE_MAX - WINDOW_SIZE) / WINDOW_ALIGN * WINDOW_ALIGN;
    for (unsigned shift = 18; shift < 63; shift++)
        bases[n++] = ((uint64_t)1 << shift) - WINDOW_ALIGN;
    while (n < WINDOWS) {
        uint64_t base = prng_below(&m->prng, DISK_SIZE_MAX >> prng_below(&m->prng, 40));
        if (prng_one_in(&m->prng, 2)) /* close to another one */
            base = bases[prng_below(&m->prng, n)] + 2 * MiB * prng_below(&m->prng, 200);
        if (base < DISK_SIZE_MAX - MiB)
            bases[n++] = base / WINDOW_ALIGN * WINDOW_ALIGN;
    }
    qsort(bases, n, sizeof *bases, in_order);
    m->windows = must_have(calloc(WINDOWS, sizeof *m->windows));
    uint64_t free_from = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t left = DISK_SIZE_MAX - bases[i];
        if (bases[i] < free_from)
            continue;
        window_make(m, bases[i], left < 2 * WINDOW_SIZE ? left : WINDOW_SIZE);
        free_from = bases[i] + WINDOW_SIZE + WINDOW_ALIGN;
    }
}

static void scattered_disk(void **state)
{
    struct model m;
    model_make(&m, allocator_of(state), DISK_SIZE_MAX,
               100 + allocator_index(allocator_of(state)));
    make_windows(&m);
    uint64_t ops = test_ops(1000000) / 4;
    while (m.ops < ops) {
        if (prng_one_in(&m.prng, 50))
            step_across(&m);
        else
            step_in_window(&m, &m.windows[prng_below(&m.prng, m.window_count)]);
        if (prng_one_in(&m.prng, 10000))
            do_settle(&m);
    }
    model_end(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_OF(small_disk, sparse),     TEST_OF(small_disk, malloc),   TEST_OF(small_disk, zstd),
        TEST_OF(scattered_disk, sparse), TEST_OF(scattered_disk, zstd),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
