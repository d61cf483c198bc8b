/* SPDX-License-Identifier: BSD-3-Clause */

/* Which part of a pinned page is promised, compared with a list of its bytes. */

#include "support/support.h"

#include <string.h>

#include "disk/paged/entry.h"
#include "disk/paged/promise.h"

enum { SIZE_MAX_HERE = 32768, NUMBER = 77 };

struct page {
    size_t size;
    uint64_t word;
    bool promised[SIZE_MAX_HERE];
    struct prng prng;
};

static bool is_pinned(const struct page *page)
{
    return page->word & ENTRY_PINNED;
}

static void page_init(struct page *page, size_t size)
{
    memset(page, 0, sizeof *page);
    page->size = size;
    page->word = entry_make(ENTRY_FRAME, NUMBER);
    prng_init(&page->prng, test_seed(), size);
}

static void promise_range(struct page *page, size_t at, size_t n)
{
    page->word = promise_add(page->word, page->size, at, n);
    memset(page->promised + at, true, n);
    assert_true(is_pinned(page));
}

static void trim_range(struct page *page, size_t at, size_t n)
{
    page->word = promise_remove(page->word, page->size, at, n);
    memset(page->promised + at, false, n);
}

static bool is_anything_promised(const struct page *page)
{
    return memchr(page->promised, 1, page->size) != NULL;
}

/* A pinned frame must look like any other that can be written, and be the same frame. */
static void assert_is_sound(const struct page *page)
{
    assert_true(is_pinned(page) || !is_anything_promised(page));
    assert_true(entry_writable(page->word));
    assert_int_equal(entry_number(page->word), NUMBER);
}

static const size_t sizes[] = {4096, 32768};

/* All orders of pieces of a page, and the page is pinned until the last of them was trimmed. */
static void trim_in_pieces(struct page *page, size_t piece, const size_t *order)
{
    size_t count = page->size / piece;
    promise_range(page, 0, page->size);
    for (size_t i = 0; i < count; i++) {
        assert_true(is_pinned(page));
        trim_range(page, order[i] * piece, piece);
        assert_is_sound(page);
    }
    assert_false(is_pinned(page));
    assert_int_equal(page->word, entry_make(ENTRY_FRAME, NUMBER));
}

static void in_ascending_or_descending_order(void **state)
{
    struct page page;
    size_t up[256], down[256];
    (void)state;
    for (size_t s = 0; s < COUNT_OF(sizes); s++) {
        page_init(&page, sizes[s]);
        for (size_t pieces = 1; pieces <= 256; pieces *= 2) {
            for (size_t i = 0; i < pieces; i++) {
                up[i] = i;
                down[i] = pieces - 1 - i;
            }
            trim_in_pieces(&page, page.size / pieces, up);
            trim_in_pieces(&page, page.size / pieces, down);
        }
    }
}

static void in_any_order(void **state)
{
    struct page page;
    size_t order[16] = {0};
    (void)state;
    page_init(&page, 32768);
    for (unsigned round = 0; round < 1000; round++) {
        for (size_t i = 0; i < 16; i++) {
            size_t j = prng_below(&page.prng, i + 1);
            order[i] = order[j];
            order[j] = i;
        }
        trim_in_pieces(&page, page.size / 16, order);
    }
}

/* What is promised is a part of a page, and goes at once, or from its middle. */
static void a_part_of_a_page(void **state)
{
    struct page page;
    (void)state;
    page_init(&page, 32768);
    promise_range(&page, 4096, 512);
    trim_range(&page, 0, 4096);
    trim_range(&page, 4608, 1000);
    assert_true(is_pinned(&page));
    trim_range(&page, 4096, 512);
    assert_false(is_pinned(&page));
    promise_range(&page, 100, 50); /* not whole units */
    trim_range(&page, 100, 50);
    assert_is_sound(&page);
    trim_range(&page, 0, 256);
    assert_false(is_pinned(&page));
}

static void promised_again(void **state)
{
    struct page page;
    (void)state;
    page_init(&page, 4096);
    promise_range(&page, 0, 4096);
    trim_range(&page, 1024, 1024);
    promise_range(&page, 1024, 1024);
    trim_range(&page, 0, 1024);
    trim_range(&page, 2048, 2048);
    assert_true(is_pinned(&page));
    trim_range(&page, 1024, 1024);
    assert_false(is_pinned(&page));
}

/* A page with anything promised is pinned, whatever was done to it. */
static void never_too_early(void **state)
{
    struct page page;
    unsigned unpinned = 0;
    (void)state;
    for (size_t s = 0; s < COUNT_OF(sizes); s++) {
        page_init(&page, sizes[s]);
        for (uint64_t i = test_ops(200000); i > 0; i--) {
            size_t grain = (size_t)1 << prng_below(&page.prng, 12);
            size_t at = prng_below(&page.prng, page.size / grain) * grain;
            size_t n = grain * (1 + prng_below(&page.prng, (page.size - at) / grain));
            if (prng_one_in(&page.prng, 4))
                promise_range(&page, at, n);
            else
                trim_range(&page, at, n);
            assert_is_sound(&page);
            unpinned += !is_pinned(&page);
        }
    }
    assert_true(unpinned > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(in_ascending_or_descending_order),
        cmocka_unit_test(in_any_order),
        cmocka_unit_test(a_part_of_a_page),
        cmocka_unit_test(promised_again),
        cmocka_unit_test(never_too_early),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
