/* SPDX-License-Identifier: BSD-3-Clause */

/* The page table alone, used by one thread: what is found where, how much memory scattered pages
 * cost, and that all memory comes back.  stress/ tests it with several threads. */

#include "support/support.h"

#include <string.h>

#include "disk/memory/rcu.h"
#include "disk/paged/table.h"

struct bench {
    struct budget budget;
    struct table table;
    uint64_t dropped; /* words of pages */
};

static void bench_make(struct bench *bench, uint64_t pages)
{
    memset(bench, 0, sizeof *bench);
    budget_init(&bench->budget, 64 * MiB, false, "");
    const struct pool_options options = {
        .chunk = 64 * KiB, .capacity = 64 * MiB, .budget = &bench->budget};
    assert_int_equal(table_create(&bench->table, pages, &options, 64 * MiB), 0);
}

static uint64_t page_word(uint64_t page)
{
    return entry_make(ENTRY_FRAME, page & ENTRY_NUMBER_MAX);
}

static void put(struct bench *bench, uint64_t page)
{
    slot_t *slot;
    uint64_t span, hole = 0;
    rcu_enter();
    assert_int_equal(table_make(&bench->table, page, 1, &slot, &span), 0);
    assert_true(slot_swap(table_resolve_thawed(&bench->table, slot), &hole, page_word(page)));
    rcu_leave();
}

static uint64_t get(struct bench *bench, uint64_t page)
{
    uint64_t span;
    rcu_enter();
    slot_t *slot = table_find(&bench->table, page, &span);
    uint64_t word = slot ? slot_load(table_resolve(&bench->table, slot)) : 0;
    rcu_leave();
    return word;
}

static bool count_drop(void *opaque, uint64_t word)
{
    struct bench *bench = opaque;
    assert_int_equal(entry_kind(word), ENTRY_FRAME);
    bench->dropped++;
    return true;
}

/* Unlink the pages [first, end), a few at a time, and release them. */
static void unlink_all(struct bench *bench, uint64_t first, uint64_t end)
{
    while (first < end) {
        uint64_t words[3];
        unsigned count;
        rcu_enter();
        first = table_unlink(&bench->table, first, end, words, 3, &count);
        rcu_leave();
        for (unsigned i = 0; i < count; i++)
            table_release(&bench->table, words[i], count_drop, bench);
    }
}

/* Remove the nodes above a page that have become empty, level by level. */
static void prune(struct bench *bench, uint64_t page)
{
    uint64_t word;
    for (;;) {
        rcu_enter();
        bool frozen = table_freeze_empty(&bench->table, page, &word);
        bool gone = frozen && table_unlink_empty(&bench->table, page, word);
        rcu_leave();
        if (!gone)
            return;
        table_release(&bench->table, word, count_drop, bench);
    }
}

static uint64_t cells(struct bench *bench)
{
    return pool_cells_used(&bench->table.nodes) + pool_cells_used(&bench->table.lones);
}

static const uint64_t tables[] = {1, 2, 16, 17, 256, 1 << 18, (uint64_t)1 << 51};

static void first_and_last_page(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(tables); i++) {
        struct bench bench;
        uint64_t last = tables[i] - 1;
        bench_make(&bench, tables[i]);
        put(&bench, last);
        assert_true(get(&bench, last) == page_word(last));
        if (last) {
            assert_true(get(&bench, 0) == 0);
            put(&bench, 0);
        }
        assert_true(get(&bench, 0) == page_word(0));
        assert_true(get(&bench, last) == page_word(last));
        unlink_all(&bench, 0, tables[i]);
        assert_int_equal(bench.dropped, last ? 2 : 1);
        assert_int_equal(cells(&bench), 0);
        table_destroy(&bench.table);
    }
}

/* A span leads from one page to the next, over holes only. */
static void spans_cover_holes_only(void **state)
{
    static const uint64_t pages[] = {3, 4, 17, 4095, 4096, 70000, 999999999};
    const size_t count = COUNT_OF(pages);
    struct bench bench;
    size_t met = 0;
    (void)state;
    bench_make(&bench, (uint64_t)1 << 51);
    for (size_t i = 0; i < count; i++)
        put(&bench, pages[count - 1 - i]);
    rcu_enter();
    for (uint64_t page = 0; page < (uint64_t)1 << 51;) {
        uint64_t span;
        slot_t *slot = table_find(&bench.table, page, &span);
        assert_true(span > 0);
        for (uint64_t i = 0; slot && i < span; i++) {
            if (slot_load(table_resolve(&bench.table, slot + i)) == 0)
                continue;
            assert_true(met < count && page + i == pages[met]);
            met++;
        }
        page += span;
    }
    rcu_leave();
    assert_int_equal(met, count);
    table_destroy(&bench.table);
}

/* A page that is alone costs one lone and no node, however large the table is. */
static void one_page_is_a_lone(void **state)
{
    struct bench bench;
    (void)state;
    bench_make(&bench, (uint64_t)1 << 51);
    put(&bench, 123456789);
    assert_int_equal(cells(&bench), 1);
    assert_true(get(&bench, 123456788) == 0);
    put(&bench, (uint64_t)1 << 50);
    assert_int_equal(cells(&bench), 3); /* two lones, and a node above both */
    table_destroy(&bench.table);
}

/* Random pages are compared with a list of them.  Trimmed one by one, in random order, they leave
 * nothing. */
static void scattered_pages_come_and_go(void **state)
{
    enum { PAGES = 5000 };
    static uint64_t pages[PAGES];
    struct bench bench;
    struct prng prng;
    (void)state;
    bench_make(&bench, (uint64_t)1 << 51);
    prng_init(&prng, test_seed(), 1);
    for (unsigned i = 0; i < PAGES; i++) {
        pages[i] = ((uint64_t)1 << 51) / PAGES * i + prng_below(&prng, 1000000);
        put(&bench, pages[i]);
    }
    assert_true(pool_cells_used(&bench.table.nodes) < PAGES);
    for (unsigned left = PAGES; left > 0; left--) {
        unsigned i = (unsigned)prng_below(&prng, left);
        assert_true(get(&bench, pages[i]) == page_word(pages[i]));
        unlink_all(&bench, pages[i], pages[i] + 1);
        assert_true(get(&bench, pages[i]) == 0);
        prune(&bench, pages[i]);
        pages[i] = pages[left - 1];
    }
    assert_int_equal(bench.dropped, PAGES);
    assert_int_equal(cells(&bench), 0);
    table_destroy(&bench.table);
}

/* Pages outside of the range stay, on both sides of every power of the fan-out. */
static void unlinking_keeps_to_its_range(void **state)
{
    const uint64_t pages = 5000;
    struct prng prng;
    (void)state;
    prng_init(&prng, test_seed(), 2);
    for (unsigned round = 0; round < 50; round++) {
        struct bench bench;
        uint64_t first = prng_below(&prng, pages),
                 end = first + prng_below(&prng, pages - first + 1);
        bench_make(&bench, pages);
        for (uint64_t page = 0; page < pages; page++)
            put(&bench, page);
        unlink_all(&bench, first, end);
        assert_int_equal(bench.dropped, end - first);
        for (uint64_t page = 0; page < pages; page++)
            assert_true(get(&bench, page) == (page >= first && page < end ? 0 : page_word(page)));
        table_destroy(&bench.table);
    }
}

/* After an empty node was frozen, and before it is removed, a page is put there. */
static void making_a_slot_thaws_the_node(void **state)
{
    struct bench bench;
    uint64_t word;
    (void)state;
    bench_make(&bench, 1 << 18);
    put(&bench, 5);
    put(&bench, 6);
    unlink_all(&bench, 5, 7);
    rcu_enter();
    assert_true(table_freeze_empty(&bench.table, 5, &word));
    rcu_leave();
    put(&bench, 7);
    rcu_enter();
    assert_false(table_unlink_empty(&bench.table, 5, word));
    rcu_leave();
    assert_true(get(&bench, 7) == page_word(7));
    table_destroy(&bench.table);
}

/* After a thaw and a second freeze the word differs from the word of the first freeze. */
static void each_freeze_is_another(void **state)
{
    struct bench bench;
    slot_t *slot;
    uint64_t span, first, second;
    (void)state;
    bench_make(&bench, 100);
    put(&bench, 1);
    rcu_enter();
    slot = table_resolve(&bench.table, table_find(&bench.table, 1, &span));
    first = slot_load(slot);
    assert_true(table_freeze(&bench.table, slot, &first));
    second = first;
    assert_false(table_freeze(&bench.table, slot, &second));
    assert_true(slot_swap(slot, &second, entry_thawed(second)));
    second = slot_load(slot);
    assert_true(table_freeze(&bench.table, slot, &second));
    assert_true(first != second);
    assert_int_equal(entry_number(first), entry_number(second));
    rcu_leave();
    table_destroy(&bench.table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_and_last_page),
        cmocka_unit_test(spans_cover_holes_only),
        cmocka_unit_test(one_page_is_a_lone),
        cmocka_unit_test(scattered_pages_come_and_go),
        cmocka_unit_test(unlinking_keeps_to_its_range),
        cmocka_unit_test(making_a_slot_thaws_the_node),
        cmocka_unit_test(each_freeze_is_another),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
