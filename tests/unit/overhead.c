/* SPDX-License-Identifier: BSD-3-Clause */

/* Memory from malloc counts towards the limit (budget.h, OVERHEAD).  The linker puts the
 * functions named __wrap_ in place of those that the engine calls.  They count what is really
 * there. */

#include "support/support.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "disk/memory/pool.h"
#include "disk/memory/pool_inside.h"
#include "disk/memory/reclaim.h"
#include "disk/zstd/codec.h"

#define PAGE (32 * KiB)
#define CHUNK (64 * KiB)
#define THREADS 3

/* Allocations. */

static atomic_uint_fast64_t mallocs; /* pieces that malloc gave and that were not freed */
static atomic_size_t malloc_size;    /* the size of the last of them */
static atomic_uint_fast64_t callocs; /* bytes that calloc gave */

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_malloc(size_t size)
{
    mallocs++;
    malloc_size = size;
    return __real_malloc(size);
}

void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size)
{
    callocs += count * size;
    return __real_calloc(count, size);
}

void __real_free(void *piece);
void __wrap_free(void *piece);
void __wrap_free(void *piece)
{
    mallocs -= piece != NULL;
    __real_free(piece);
}

/* Contexts. */

static atomic_uint packers, unpackers; /* contexts that exist */

ZSTD_CCtx *__real_ZSTD_createCCtx(void);
ZSTD_CCtx *__wrap_ZSTD_createCCtx(void);
ZSTD_CCtx *__wrap_ZSTD_createCCtx(void)
{
    atomic_fetch_add(&packers, 1);
    return __real_ZSTD_createCCtx();
}

size_t __real_ZSTD_freeCCtx(ZSTD_CCtx *context);
size_t __wrap_ZSTD_freeCCtx(ZSTD_CCtx *context);
size_t __wrap_ZSTD_freeCCtx(ZSTD_CCtx *context)
{
    atomic_fetch_sub(&packers, context != NULL);
    return __real_ZSTD_freeCCtx(context);
}

ZSTD_DCtx *__real_ZSTD_createDCtx(void);
ZSTD_DCtx *__wrap_ZSTD_createDCtx(void);
ZSTD_DCtx *__wrap_ZSTD_createDCtx(void)
{
    atomic_fetch_add(&unpackers, 1);
    return __real_ZSTD_createDCtx();
}

size_t __real_ZSTD_freeDCtx(ZSTD_DCtx *context);
size_t __wrap_ZSTD_freeDCtx(ZSTD_DCtx *context);
size_t __wrap_ZSTD_freeDCtx(ZSTD_DCtx *context)
{
    atomic_fetch_sub(&unpackers, context != NULL);
    return __real_ZSTD_freeDCtx(context);
}

/* If `gathers`, all THREADS threads are inside libzstd at the same time, and stay there while the
 * test looks at them. */
static bool gathers;
static pthread_barrier_t arrival, departure; /* of all threads and the test */
static atomic_size_t packer_size, unpacker_size;

static void gather(void)
{
    if (gathers) {
        pthread_barrier_wait(&arrival);
        pthread_barrier_wait(&departure);
    }
}

size_t __real_ZSTD_compress2(ZSTD_CCtx *context, void *to, size_t room, const void *from,
                             size_t size);
size_t __wrap_ZSTD_compress2(ZSTD_CCtx *context, void *to, size_t room, const void *from,
                             size_t size);
size_t __wrap_ZSTD_compress2(ZSTD_CCtx *context, void *to, size_t room, const void *from,
                             size_t size)
{
    size_t n = __real_ZSTD_compress2(context, to, room, from, size);
    atomic_store(&packer_size, ZSTD_sizeof_CCtx(context));
    gather();
    return n;
}

size_t __real_ZSTD_decompressDCtx(ZSTD_DCtx *context, void *to, size_t room, const void *from,
                                  size_t size);
size_t __wrap_ZSTD_decompressDCtx(ZSTD_DCtx *context, void *to, size_t room, const void *from,
                                  size_t size);
size_t __wrap_ZSTD_decompressDCtx(ZSTD_DCtx *context, void *to, size_t room, const void *from,
                                  size_t size)
{
    size_t n = __real_ZSTD_decompressDCtx(context, to, room, from, size);
    atomic_store(&unpacker_size, ZSTD_sizeof_DCtx(context));
    gather();
    return n;
}

struct bench {
    struct budget budget;
    struct codec *codec;
    uint8_t page[PAGE], packed[PAGE];
    size_t packed_size;
};

static void bench_make(struct bench *bench, uint64_t limit)
{
    struct prng prng;
    prng_init(&prng, test_seed(), 0);
    fill_text(&prng, bench->page, PAGE);
    assert_int_equal(budget_init(&bench->budget, limit, true, ""), 0);
    assert_int_equal(codec_create(3, &bench->budget, &bench->codec), 0);
    long n = codec_pack(bench->codec, bench->page, PAGE, bench->packed, PAGE);
    assert_in_range(n, 1, PAGE - 1);
    bench->packed_size = (size_t)n;
    assert_int_equal(packers, 1);
    assert_int_equal(unpackers, 1);
    assert_int_equal(budget_overhead(&bench->budget), 0);
}

static void bench_end(struct bench *bench)
{
    codec_destroy(bench->codec);
    assert_int_equal(packers + unpackers, 0);
    assert_int_equal(budget_overhead(&bench->budget), 0);
    assert_int_equal(atomic_load(&bench->budget.used), 0);
    budget_destroy(&bench->budget);
}

/* In these threads: NULL if the result is right. */

static void *pack_once(void *opaque)
{
    struct bench *bench = opaque;
    uint8_t packed[PAGE];
    long n = codec_pack(bench->codec, bench->page, PAGE, packed, PAGE);
    return n == (long)bench->packed_size ? NULL : bench;
}

static void *unpack_once(void *opaque)
{
    struct bench *bench = opaque;
    uint8_t page[PAGE];
    int r = codec_unpack(bench->codec, NULL, bench->packed, bench->packed_size, page, PAGE);
    return r == 0 && memcmp(page, bench->page, PAGE) == 0 ? NULL : bench;
}

static void start(pthread_t *threads, void *(*main)(void *), struct bench *bench)
{
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, main, bench), 0);
}

static void join(const pthread_t *threads)
{
    for (unsigned i = 0; i < THREADS; i++) {
        void *wrong;
        pthread_join(threads[i], &wrong);
        assert_null(wrong);
    }
}

/* The budget is charged for all contexts but the common ones. */
static void assert_contexts_are_charged(struct bench *bench)
{
    uint64_t real = (packers - 1) * packer_size + (unpackers - 1) * unpacker_size;
    assert_int_equal(budget_overhead(&bench->budget), real);
    assert_int_equal(atomic_load(&bench->budget.used), budget_overhead(&bench->budget));
}

static void contexts_are_charged(void **state)
{
    static struct bench bench;
    pthread_t threads[THREADS];
    (void)state;
    bench_make(&bench, 256 * MiB);
    pthread_barrier_init(&arrival, NULL, THREADS + 1);
    pthread_barrier_init(&departure, NULL, THREADS + 1);
    for (unsigned kind = 0; kind < 2; kind++) {
        gathers = true;
        start(threads, kind == 0 ? pack_once : unpack_once, &bench);
        pthread_barrier_wait(&arrival);
        unsigned others = kind == 0 ? packers : unpackers;
        assert_in_range(others, THREADS, THREADS + 1);
        assert_contexts_are_charged(&bench);
        gathers = false;
        pthread_barrier_wait(&departure);
        join(threads);
        assert_contexts_are_charged(&bench);
    }
    pthread_barrier_destroy(&arrival);
    pthread_barrier_destroy(&departure);
    bench_end(&bench);
}

/* A budget without room for contexts: all threads use the common ones. */
static void without_room_the_common_contexts_serve(void **state)
{
    static struct bench bench;
    pthread_t threads[THREADS];
    (void)state;
    bench_make(&bench, DISK_LIMIT_MIN);
    for (unsigned round = 0; round < 20; round++) {
        start(threads, round % 2 ? pack_once : unpack_once, &bench);
        join(threads);
        assert_int_equal(packers, 1);
        assert_int_equal(unpackers, 1);
        assert_int_equal(budget_overhead(&bench.budget), 0);
    }
    bench_end(&bench);
}

static void drop_item(void *opaque, const struct reclaim_item *item)
{
    (void)opaque;
    (void)item;
}

static void rest(void *opaque)
{
    (void)opaque;
}

static void batches_are_charged(void **state)
{
    struct budget budget;
    struct reclaim reclaim;
    const struct reclaim_item item = {.word = 1};
    (void)state;
    budget_init(&budget, DISK_LIMIT_MIN, false, "");
    assert_int_equal(budget_take(&budget, DISK_LIMIT_MIN, BUDGET_GROW), 0);
    reclaim_create(&reclaim, &budget, drop_item, rest, NULL);
    mallocs = 0;
    for (unsigned i = 0; i < 2000; i++)
        reclaim_add(&reclaim, &item, 1);
    assert_true(mallocs >= 10);
    assert_int_equal(budget_overhead(&budget), mallocs * malloc_size);
    for (unsigned i = 0; i < 5; i++)
        assert_true(reclaim_reserve(&reclaim));
    assert_int_equal(budget_overhead(&budget), mallocs * malloc_size);
    for (unsigned i = 0; i < 5; i++)
        reclaim_add_reserved(&reclaim, &item, 1);
    reclaim_run(&reclaim);
    assert_true(mallocs <= 7);
    assert_int_equal(budget_overhead(&budget), mallocs * malloc_size);
    reclaim_destroy(&reclaim);
    assert_int_equal(mallocs, 0);
    assert_int_equal(budget_overhead(&budget), 0);
    assert_int_equal(atomic_load(&budget.used), DISK_LIMIT_MIN);
    budget_destroy(&budget);
}

/* The records of chunks are made for all chunks at once, and take memory when a chunk is
 * touched.  When all are touched, all of them are charged. */
static void records_of_chunks_are_charged(void **state)
{
    static const size_t sizes[] = {16, 128, 4096, CHUNK};
    enum { CHUNKS = 24 };
    (void)state;
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        struct budget budget;
        struct pool pool;
        uint64_t cell;
        budget_init(&budget, 2 * CHUNKS * CHUNK, false, "");
        const struct pool_options options = {
            .cell = sizes[i], .chunk = CHUNK, .capacity = CHUNKS * CHUNK, .budget = &budget};
        callocs = 0;
        assert_int_equal(pool_create(&options, &pool), 0);
        uint64_t records = callocs - sizeof(struct pool_inside);
        assert_int_equal(budget_overhead(&budget), 0);
        assert_int_equal(pool_take(&pool, BUDGET_GROW, &cell), 0);
        assert_int_equal(budget_overhead(&budget), records / CHUNKS);
        while (pool_take(&pool, BUDGET_GROW, &cell) == 0)
            ;
        assert_int_equal(budget_overhead(&budget), records);
        assert_int_equal(atomic_load(&budget.used), CHUNKS * CHUNK + records);
        pool_destroy(&pool);
        assert_int_equal(budget_overhead(&budget), 0);
        budget_destroy(&budget);
    }
}

/* A disk reports its overhead, and counts it towards the limit.  When the disk is destroyed, the
 * budget verifies that all of it was given back. */
static void disk_counts_its_overhead(void **state)
{
    struct disk *disk = disk_made(allocator_of(state), 16 * MiB, 64 * MiB);
    struct disk_cache *cache;
    struct prng prng;
    uint8_t *data = buffer_made(MiB);
    prng_init(&prng, test_seed(), 0);
    fill_text(&prng, data, MiB);
    assert_int_equal(stats_of(disk).overhead, 0);
    for (uint64_t at = 0; at < 16 * MiB; at += MiB)
        assert_int_equal(disk_write(disk, at, MiB, data), 0);
    disk_settle(disk);
    assert_int_equal(disk_cache_create(disk, &cache), 0);
    struct disk_stats stats = stats_of(disk);
    assert_in_range(stats.overhead, cache ? 8 * PAGE : 1, stats.memory - 1);
    disk_verify(disk);
    disk_cache_destroy(disk, cache);
    free(data);
    disk_end(disk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(contexts_are_charged),
        cmocka_unit_test(without_room_the_common_contexts_serve),
        cmocka_unit_test(batches_are_charged),
        cmocka_unit_test(records_of_chunks_are_charged),
        TEST_OF_PAGED(disk_counts_its_overhead),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
