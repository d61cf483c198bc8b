/* SPDX-License-Identifier: BSD-3-Clause */

/* Reads of compressed pages: how often a page is inflated, and what a read copies out when there
 * is no memory to inflate it.
 *
 * The linker puts the functions named __wrap_ in place of those that the engine would call: they
 * count, and fail on demand.
 *
 * Seen to fail: a cache that does not compare the counter of recycled segments, or not all of the
 * word (recycled_blobs); one that keeps a page that was not inflated (a_page_that).
 */

#include "support/support.h"

#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "disk/zstd/codec.h"

enum { PAGE = 32768, PIECE = 4096, PIECES = PAGE / PIECE, PAGES = 40, KEPT = 8 };

static unsigned inflations;
static bool cannot_unpack, has_no_memory;

int __real_codec_unpack(struct codec *codec, struct codec_unpacker *unpacker, const void *packed,
                        size_t packed_size, void *page, size_t size);
int __wrap_codec_unpack(struct codec *codec, struct codec_unpacker *unpacker, const void *packed,
                        size_t packed_size, void *page, size_t size);
int __wrap_codec_unpack(struct codec *codec, struct codec_unpacker *unpacker, const void *packed,
                        size_t packed_size, void *page, size_t size)
{
    if (cannot_unpack)
        return -ENOMEM;
    inflations++;
    return __real_codec_unpack(codec, unpacker, packed, packed_size, page, size);
}

static unsigned contexts_refused;

ZSTD_DCtx *__real_ZSTD_createDCtx(void);
ZSTD_DCtx *__wrap_ZSTD_createDCtx(void);
ZSTD_DCtx *__wrap_ZSTD_createDCtx(void)
{
    contexts_refused += has_no_memory;
    return has_no_memory ? NULL : __real_ZSTD_createDCtx();
}

/* A disk of compressed pages, what it holds, and a cache. */
struct stage {
    struct disk *disk;
    struct disk_cache *cache;
    struct prng prng;
    uint8_t *bytes, *found;
};

static void write_page(struct stage *stage, unsigned page)
{
    uint8_t *bytes = stage->bytes + (size_t)page * PAGE;
    fill_text(&stage->prng, bytes, PAGE);
    assert_int_equal(disk_write(stage->disk, (uint64_t)page * PAGE, PAGE, bytes), 0);
}

static void settle(struct stage *stage)
{
    assert_int_equal(disk_settle(stage->disk), 0);
    assert_int_equal(stats_of(stage->disk).compressed, PAGES);
    inflations = 0;
}

static int set_up(void **state)
{
    struct stage *stage = calloc(1, sizeof *stage);
    assert_non_null(stage);
    stage->disk = disk_made(&allocator_zstd, 64 * MiB, 0);
    prng_init(&stage->prng, test_seed(), 1);
    stage->bytes = buffer_made((size_t)PAGES * PAGE);
    stage->found = buffer_made((size_t)PAGES * PAGE);
    cannot_unpack = has_no_memory = false;
    for (unsigned page = 0; page < PAGES; page++)
        write_page(stage, page);
    settle(stage);
    assert_int_equal(disk_cache_create(stage->disk, &stage->cache), 0);
    assert_non_null(stage->cache);
    *state = stage;
    return 0;
}

static int tear_down(void **state)
{
    struct stage *stage = *state;
    disk_cache_destroy(stage->disk, stage->cache);
    disk_destroy(stage->disk);
    free(stage->bytes);
    free(stage->found);
    free(stage);
    return 0;
}

static void read_and_compare(struct stage *stage, struct disk_cache *cache, size_t at, size_t n)
{
    memset(stage->found, 0xee, n);
    assert_int_equal(disk_read_cached(stage->disk, cache, at, n, stage->found), 0);
    assert_memory_equal(stage->found, stage->bytes + at, n);
}

static void read_in_pieces(struct stage *stage, unsigned page)
{
    for (size_t i = 0; i < PIECES; i++)
        read_and_compare(stage, stage->cache, (size_t)page * PAGE + i * PIECE, PIECE);
}

static void pieces_of_a_page_inflate_it_once(void **state)
{
    struct stage *stage = *state;
    for (unsigned page = 0; page < PAGES; page++)
        read_in_pieces(stage, page);
    assert_int_equal(inflations, PAGES);
}

static void eight_streams_do_not_disturb_each_other(void **state)
{
    struct stage *stage = *state;
    for (size_t i = 0; i < PIECES; i++)
        for (size_t page = 0; page < KEPT; page++)
            read_and_compare(stage, stage->cache, page * PAGE + i * PIECE, PIECE);
    assert_int_equal(inflations, KEPT);
}

static void a_range_over_pages_is_read_whole(void **state)
{
    struct stage *stage = *state;
    read_and_compare(stage, stage->cache, PIECE, 4 * PAGE);
    assert_int_equal(inflations, 5);
    read_and_compare(stage, stage->cache, 4 * PAGE,
                     PAGE); /* the last page, of which a part was read before */
    assert_int_equal(inflations, 5);
}

static void without_a_cache_each_piece_inflates_its_page(void **state)
{
    struct stage *stage = *state;
    for (size_t i = 0; i < PIECES; i++)
        read_and_compare(stage, NULL, i * PIECE, PIECE);
    assert_int_equal(inflations, PIECES);
}

static void a_written_page_is_inflated_again(void **state)
{
    struct stage *stage = *state;
    read_in_pieces(stage, 3);
    write_page(stage, 3);
    read_in_pieces(stage, 3); /* it is in a frame now */
    settle(stage);
    read_in_pieces(stage, 3);
    assert_int_equal(inflations, 1);
}

/* A low limit makes segments of 64 KiB, which hold three of these pages, whose compressed sizes
 * are all alike.  So the word of a page is the same again after some rounds, and leads to other
 * bytes. */
static void recycled_blobs_are_not_mistaken_for_old_ones(void **state)
{
    struct disk *disk = disk_made(&allocator_zstd, MiB, 4 * MiB);
    struct disk_cache *cache;
    struct prng prng;
    uint8_t bytes[PAGE] = {0}, found[PIECE];
    (void)state;
    prng_init(&prng, test_seed(), 2);
    assert_int_equal(disk_cache_create(disk, &cache), 0);
    for (unsigned round = 0; round < 40; round++) {
        fill_random(&prng, bytes, PAGE / 2);
        assert_int_equal(disk_write(disk, 0, PAGE, bytes), 0);
        assert_int_equal(disk_settle(disk), 0);
        assert_int_equal(stats_of(disk).compressed, 1);
        assert_int_equal(disk_read_cached(disk, cache, PIECE, PIECE, found), 0);
        assert_memory_equal(found, bytes + PIECE, PIECE);
    }
    disk_cache_destroy(disk, cache);
    disk_destroy(disk);
}

static void assert_refused(struct stage *stage, struct disk_cache *cache, size_t at, size_t n)
{
    memset(stage->found, 0xee, n);
    cannot_unpack = true;
    assert_int_equal(disk_read_cached(stage->disk, cache, at, n, stage->found), -ENOMEM);
    cannot_unpack = false;
    for (size_t i = 0; i < n; i++)
        assert_int_equal(stage->found[i], 0xee);
}

static void a_page_that_was_not_inflated_is_not_copied_out(void **state)
{
    struct stage *stage = *state;
    assert_refused(stage, NULL, PIECE, PIECE);
    assert_refused(stage, NULL, PAGE, PAGE);
    assert_refused(stage, NULL, PIECE, 3 * PAGE);
    assert_refused(stage, stage->cache, PIECE, PIECE);
    assert_refused(stage, stage->cache, PAGE, PAGE);
    read_in_pieces(stage, 0); /* a page that was not inflated is not in the cache */
    read_in_pieces(stage, 1);
}

/* No context was needed for unpacking yet, so there is none but the one that was made first. */
static void reads_need_no_memory(void **state)
{
    struct stage *stage = *state;
    contexts_refused = 0;
    has_no_memory = true;
    read_and_compare(stage, NULL, PIECE, 3 * PAGE);
    read_and_compare(stage, NULL, 4 * PAGE, PAGE);
    read_in_pieces(stage, 7);
    has_no_memory = false;
    assert_int_equal(contexts_refused, 5);
}

static void allocators_that_pack_nothing_need_no_cache(void **state)
{
    struct disk *disk = disk_made(allocator_of(state), MiB, 0);
    struct disk_cache *cache = (struct disk_cache *)disk;
    uint8_t byte = 1;
    assert_int_equal(disk_cache_create(disk, &cache), 0);
    assert_null(cache);
    assert_int_equal(disk_read_cached(disk, cache, 5, 1, &byte), 0);
    assert_int_equal(byte, 0);
    disk_cache_destroy(disk, cache);
    disk_destroy(disk);
}

/* Caches count towards the limit, and are done without at its end. */
static void caches_are_charged_to_the_budget(void **state)
{
    enum { MANY = 8 };
    struct disk *disk = disk_made(allocator_of(state), 16 * MiB, MiB);
    struct disk_cache *caches[MANY];
    struct disk_stats before, stats;
    unsigned made = 0;
    disk_stats(disk, &before);
    for (unsigned i = 0; i < MANY; i++) {
        assert_int_equal(disk_cache_create(disk, &caches[i]), 0);
        made += caches[i] != NULL;
        disk_stats(disk, &stats);
        assert_true(stats.memory <= MiB);
        assert_true(stats.memory >= before.memory + made * KEPT * (uint64_t)PAGE);
    }
    assert_in_range(made, 1, MANY - 1);
    disk_verify(disk);
    for (unsigned i = 0; i < MANY; i++)
        disk_cache_destroy(disk, caches[i]);
    disk_stats(disk, &stats);
    assert_int_equal(stats.memory, before.memory);
    disk_end(disk);
}

#define TEST_ON_STAGE(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_ON_STAGE(pieces_of_a_page_inflate_it_once),
        TEST_ON_STAGE(eight_streams_do_not_disturb_each_other),
        TEST_ON_STAGE(a_range_over_pages_is_read_whole),
        TEST_ON_STAGE(without_a_cache_each_piece_inflates_its_page),
        TEST_ON_STAGE(a_written_page_is_inflated_again),
        cmocka_unit_test(recycled_blobs_are_not_mistaken_for_old_ones),
        TEST_ON_STAGE(a_page_that_was_not_inflated_is_not_copied_out),
        TEST_ON_STAGE(reads_need_no_memory),
        TEST_OF(allocators_that_pack_nothing_need_no_cache, sparse),
        TEST_OF(allocators_that_pack_nothing_need_no_cache, malloc),
        TEST_OF(caches_are_charged_to_the_budget, zstd),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
