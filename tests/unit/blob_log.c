/* SPDX-License-Identifier: BSD-3-Clause */

/* The log of blobs: what was stored can be found, and dead segments are freed. */

#include "support/support.h"

#include <string.h>

#include "disk/zstd/blob_log.h"

#define CHUNK (64 * KiB)

struct bench {
    struct budget budget;
    struct blob_log blobs;
};

static void bench_make(struct bench *bench, uint64_t limit)
{
    budget_init(&bench->budget, limit, false, "");
    const struct pool_options options = {
        .chunk = CHUNK, .capacity = limit, .budget = &bench->budget};
    assert_int_equal(blob_log_create(&bench->blobs, &options), 0);
}

static void blobs_keep_their_bytes(void **state)
{
    enum { BLOBS = 500 };
    static uint64_t numbers[BLOBS];
    static uint8_t bytes[20000];
    struct bench bench;
    struct blob_log_stats stats;
    struct prng prng;
    (void)state;
    bench_make(&bench, 64 * MiB);
    prng_init(&prng, test_seed(), 1);
    fill_random(&prng, bytes, sizeof bytes);
    for (unsigned i = 0; i < BLOBS; i++)
        assert_int_equal(blob_log_store(&bench.blobs, i, bytes + i, 1 + i * 37, &numbers[i]), 0);
    blob_log_stats(&bench.blobs, &stats);
    assert_int_equal(stats.count, BLOBS);
    for (unsigned i = 0; i < BLOBS; i++) {
        const struct blob *blob = blob_log_at(&bench.blobs, numbers[i]);
        assert_int_equal(blob->page, i);
        assert_int_equal(blob->size, 1 + i * 37);
        assert_memory_equal(blob->bytes, bytes + i, blob->size);
        blob_log_drop(&bench.blobs, numbers[i]);
    }
    blob_log_stats(&bench.blobs, &stats);
    assert_int_equal(stats.count, 0);
    assert_int_equal(stats.bytes, 0);
    blob_log_destroy(&bench.blobs);
}

/* Nine blobs in ten die.  To empty segments as compressor.c does must end, with little more
 * memory than the live blobs need. */
static void emptied_segments_go_back(void **state)
{
    enum { BLOBS = 2000 };
    static uint64_t numbers[BLOBS];
    static uint8_t bytes[4000];
    struct bench bench;
    uint64_t number;
    bool wasteful = false;
    (void)state;
    bench_make(&bench, 64 * MiB);
    for (unsigned i = 0; i < BLOBS; i++) {
        memset(bytes, (int)i, sizeof bytes);
        assert_int_equal(blob_log_store(&bench.blobs, i, bytes, sizeof bytes, &numbers[i]), 0);
    }
    assert_false(blob_log_worst(&bench.blobs, BLOB_LOG_TIDY, &number));
    for (unsigned i = 0; i < BLOBS; i++)
        if (i % 10 != 0)
            wasteful = blob_log_drop(&bench.blobs, numbers[i]);
    assert_true(wasteful);
    while (blob_log_worst(&bench.blobs, BLOB_LOG_TIDY, &number)) {
        do {
            const struct blob *blob = blob_log_at(&bench.blobs, number);
            uint64_t page = blob->page, moved;
            if (page % 10 != 0 || numbers[page] != number)
                continue;
            assert_int_equal(blob_log_store(&bench.blobs, page, blob->bytes, blob->size, &moved),
                             0);
            numbers[page] = moved;
            blob_log_drop(&bench.blobs, number);
        } while (blob_log_next(&bench.blobs, &number));
    }
    pool_shrink(&bench.blobs.segments);
    assert_true(atomic_load(&bench.budget.used) < BLOBS / 10 * 4016 * 17 / 16 + 4 * CHUNK);
    for (unsigned i = 0; i < BLOBS; i += 10) {
        memset(bytes, (int)i, sizeof bytes);
        assert_memory_equal(blob_log_at(&bench.blobs, numbers[i])->bytes, bytes, sizeof bytes);
    }
    blob_log_destroy(&bench.blobs);
}

/* Blobs die at random.  Each segment that is chosen has almost the most dead bytes: 1/64 of a
 * segment less at most. */
static void the_worst_segment_is_chosen(void **state)
{
    enum { BLOBS = 40000 };
    static uint64_t numbers[BLOBS];
    static const uint8_t bytes[1000];
    struct bench bench;
    struct prng prng;
    uint64_t number;
    unsigned chosen = 0;
    (void)state;
    bench_make(&bench, 64 * MiB);
    prng_init(&prng, test_seed(), 3);
    for (unsigned i = 0; i < BLOBS; i++)
        assert_int_equal(blob_log_store(&bench.blobs, i, bytes, sizeof bytes, &numbers[i]), 0);
    for (unsigned left = BLOBS; left > 0;) {
        unsigned i = (unsigned)prng_below(&prng, left);
        blob_log_drop(&bench.blobs, numbers[i]);
        numbers[i] = numbers[--left];
        if (left % 64 != 0 || !blob_log_worst(&bench.blobs, BLOB_LOG_TIDY, &number))
            continue;
        uint32_t most = 0;
        for (uint64_t k = 0; k < bench.blobs.table_size; k++) {
            const struct segment *segment = &bench.blobs.table[k];
            if (segment->in_use && k != bench.blobs.open && segment->used - segment->live > most)
                most = segment->used - segment->live;
        }
        const struct segment *found = &bench.blobs.table[number * BLOB_UNIT / CHUNK];
        assert_true(found->used - found->live + CHUNK / 64 >= most);
        while (blob_log_next(&bench.blobs, &number))
            ;
        chosen++;
    }
    assert_true(chosen > 100);
    blob_log_destroy(&bench.blobs);
}

static void full_log_refuses(void **state)
{
    static uint8_t bytes[10000];
    struct bench bench;
    uint64_t number, stored = 0;
    int r;
    (void)state;
    bench_make(&bench, 4 * CHUNK + CHUNK / 2); /* half a chunk is more than the overhead */
    while ((r = blob_log_store(&bench.blobs, stored, bytes, sizeof bytes, &number)) == 0)
        stored++;
    assert_int_equal(r, -ENOSPC);
    assert_int_equal(stored, 4 * (CHUNK / 10016));
    blob_log_destroy(&bench.blobs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blobs_keep_their_bytes),
        cmocka_unit_test(emptied_segments_go_back),
        cmocka_unit_test(the_worst_segment_is_chosen),
        cmocka_unit_test(full_log_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
