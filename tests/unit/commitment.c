/* SPDX-License-Identifier: BSD-3-Clause */

/* If the kernel limits how much memory is committed (vm.overcommit_memory is 2), a disk gives the
 * commitment back together with the memory.
 *
 * The setting is the machine's, so the test does not change it.  Instead the pools are told that
 * it is 2, and reserve address space without MAP_NORESERVE: then the kernel counts writable
 * memory as committed with every setting.  /proc/self/smaps marks such memory with "ac". */

#include "support/support.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "disk/memory/pool.h"
#include "os/memory.h"
#include "text/reason.h"

#define CHUNK (256 * KiB)
#define CELL (4 * KiB)
#define CHUNKS 16
#define CELLS (CHUNKS * CHUNK / CELL)
#define DISK (64 * MiB)
#define ALLOWANCE (8 * MiB) /* for a chunk of each pool, and for malloc */

bool __wrap_os_memory_commit_is_limited(void);
bool __wrap_os_memory_commit_is_limited(void)
{
    return true;
}

static bool refuses; /* os_memory_uncommit fails */

int __real_os_memory_uncommit(void *base, size_t length);
int __wrap_os_memory_uncommit(void *base, size_t length);
int __wrap_os_memory_uncommit(void *base, size_t length)
{
    return refuses ? -ENOMEM : __real_os_memory_uncommit(base, length);
}

int __wrap_os_memory_reserve(size_t length, size_t align, bool huge, void **base);
int __wrap_os_memory_reserve(size_t length, size_t align, bool huge, void **base)
{
    char *p = mmap(NULL, length + align, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return -ENOMEM;
    size_t before = (align - (uintptr_t)p % align) % align;
    if (before)
        munmap(p, before);
    munmap(p + before + length, align - before);
    *base = p + before;
    os_memory_huge(*base, length, huge);
    return 0;
}

/* The bytes from `start` to `end` that the kernel counts as committed. */
static uint64_t committed_within(uintptr_t start, uintptr_t end)
{
    char line[512];
    uintptr_t from = 0, to = 0, low, high;
    uint64_t sum = 0;
    FILE *smaps = fopen("/proc/self/smaps", "re");
    if (!smaps)
        skip();
    while (fgets(line, sizeof line, smaps)) {
        if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " ", &low, &high) == 2) {
            from = low < start ? start : low > end ? end : low;
            to = high < start ? start : high > end ? end : high;
        } else if (strncmp(line, "VmFlags:", 8) == 0 && strstr(line, " ac")) {
            sum += to - from;
        }
    }
    fclose(smaps);
    return sum;
}

static uint64_t committed(void)
{
    return committed_within(0, UINTPTR_MAX);
}

static uint64_t committed_of(const struct pool *pool)
{
    return committed_within((uintptr_t)pool->base, (uintptr_t)pool->base + CHUNKS * CHUNK);
}

/* Skip the test if the kernel (or an emulator) does not say what it counts. */
static void need_marks(void)
{
    size_t length = 4 * MiB;
    uint64_t before = committed();
    void *p = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(p != MAP_FAILED);
    bool seen = committed() == before + length;
    munmap(p, length);
    if (!seen)
        skip();
}

struct bench {
    struct budget budget;
    struct pool pool;
    uint64_t held; /* cells in use */
};

static void bench_make(struct bench *bench)
{
    *bench = (struct bench){.held = 0};
    budget_init(&bench->budget, 2 * CHUNKS * CHUNK, false, "");
    const struct pool_options options = {.cell = CELL,
                                         .chunk = CHUNK,
                                         .capacity = CHUNKS * CHUNK,
                                         .huge = true,
                                         .budget = &bench->budget};
    assert_int_equal(pool_create(&options, &bench->pool), 0);
}

static void expect_whole(struct bench *bench)
{
    struct reason reason;
    if (pool_check(&bench->pool, &reason) < 0)
        fail_msg("%s", reason.text);
}

static void bench_end(struct bench *bench)
{
    expect_whole(bench);
    pool_destroy(&bench->pool);
    budget_destroy(&bench->budget);
}

/* Write the number of each cell into it, as long as there are cells. */
static void take_all(struct bench *bench)
{
    uint64_t cell;
    while (pool_take(&bench->pool, BUDGET_GROW, &cell) == 0) {
        memset(pool_at(&bench->pool, cell), 0x5a, CELL);
        bench->held++;
    }
}

static void give_chunk(struct bench *bench, uint64_t chunk)
{
    for (uint64_t i = 0; i < CHUNK / CELL; i++)
        pool_give(&bench->pool, chunk * (CHUNK / CELL) + i);
    bench->held -= CHUNK / CELL;
}

static void whole_pool_is_given_back(void **state)
{
    struct bench bench;
    (void)state;
    need_marks();
    bench_make(&bench);
    assert_int_equal(committed_of(&bench.pool), 0);
    for (unsigned round = 0; round < 3; round++) {
        take_all(&bench);
        assert_int_equal(bench.held, CELLS);
        assert_int_equal(committed_of(&bench.pool), CHUNKS * CHUNK);
        for (unsigned i = 0; i < CHUNKS; i++)
            give_chunk(&bench, i);
        pool_shrink(&bench.pool);
        assert_int_equal(committed_of(&bench.pool), 0);
        expect_whole(&bench);
    }
    bench_end(&bench);
}

/* Chunks in use stay committed, and keep their bytes. */
static void other_chunks_are_kept(void **state)
{
    struct bench bench;
    (void)state;
    need_marks();
    bench_make(&bench);
    take_all(&bench);
    for (unsigned i = 0; i < CHUNKS; i += 2)
        give_chunk(&bench, i);
    pool_shrink(&bench.pool);
    assert_int_equal(committed_of(&bench.pool), CHUNKS / 2 * CHUNK);
    for (uint64_t cell = 0; cell < CELLS; cell++)
        if (cell / (CHUNK / CELL) % 2 == 1)
            assert_int_equal(*(uint8_t *)pool_at(&bench.pool, cell), 0x5a);
    take_all(&bench);
    assert_int_equal(bench.held, CELLS);
    bench_end(&bench);
}

/* A chunk that is given back in two parts goes back with the second. */
static void parts_are_given_back_together(void **state)
{
    const uint64_t half = CHUNK / CELL / 2;
    struct bench bench;
    (void)state;
    need_marks();
    bench_make(&bench);
    take_all(&bench);
    for (uint64_t i = 0; i < half; i++)
        pool_give(&bench.pool, i);
    pool_shrink(&bench.pool);
    assert_int_equal(committed_of(&bench.pool), CHUNKS * CHUNK);
    for (uint64_t i = half; i < 2 * half; i++)
        pool_give(&bench.pool, i);
    pool_shrink(&bench.pool);
    assert_int_equal(committed_of(&bench.pool), (CHUNKS - 1) * CHUNK);
    bench_end(&bench);
}

/* If the kernel refuses (too many mappings), a chunk stays committed, and can be used again. */
static void refused_chunks_stay_committed(void **state)
{
    struct bench bench;
    (void)state;
    need_marks();
    bench_make(&bench);
    take_all(&bench);
    refuses = true;
    give_chunk(&bench, 3);
    pool_shrink(&bench.pool);
    refuses = false;
    assert_int_equal(committed_of(&bench.pool), CHUNKS * CHUNK);
    take_all(&bench);
    assert_int_equal(bench.held, CELLS);
    give_chunk(&bench, 3);
    pool_shrink(&bench.pool);
    assert_int_equal(committed_of(&bench.pool), (CHUNKS - 1) * CHUNK);
    bench_end(&bench);
}

/* Give back all cells of every second chunk or so. */
static void give_some_chunks(struct bench *bench, struct prng *prng, bool *held)
{
    for (uint64_t cell = prng_below(prng, 2) * CHUNK / CELL; cell < CELLS; cell++) {
        if (held[cell])
            pool_give(&bench->pool, cell);
        held[cell] = false;
        if (cell % (CHUNK / CELL) == CHUNK / CELL - 1 && prng_one_in(prng, 2))
            cell += CHUNK / CELL;
    }
}

/* Cells come and go, and whole chunks go.  A cell keeps its bytes while it is in use. */
static void cells_keep_their_bytes(void **state)
{
    static bool held[CELLS];
    struct bench bench;
    struct prng prng;
    uint64_t cell;
    (void)state;
    memset(held, 0, sizeof held);
    bench_make(&bench);
    prng_init(&prng, test_seed(), 0);
    for (uint64_t op = test_ops(100000); op > 0; op--) {
        if (prng_one_in(&prng, 2) && pool_take(&bench.pool, BUDGET_GROW, &cell) == 0) {
            assert_false(held[cell]);
            held[cell] = true;
            memcpy(pool_at(&bench.pool, cell), &cell, sizeof cell);
        }
        cell = prng_below(&prng, CELLS);
        if (held[cell]) {
            assert_memory_equal(pool_at(&bench.pool, cell), &cell, sizeof cell);
            held[cell] = false;
            pool_give(&bench.pool, cell);
        }
        if (prng_one_in(&prng, 1000)) {
            give_some_chunks(&bench, &prng, held);
            pool_shrink(&bench.pool);
            expect_whole(&bench);
        }
    }
    bench_end(&bench);
}

static void discarded_disk_is_given_back(void **state)
{
    need_marks();
    if (!resident_size_is_meaningful())
        skip(); /* sanitizers commit memory of their own */
    struct disk *disk = disk_made(allocator_of(state), DISK, 2 * DISK);
    uint8_t *data = buffer_made(MiB);
    struct prng prng;
    prng_init(&prng, test_seed(), 0);
    fill_random(&prng, data, MiB);
    uint64_t before = committed();
    for (unsigned round = 0; round < 2; round++) {
        for (uint64_t at = 0; at < DISK; at += MiB)
            assert_int_equal(disk_write(disk, at, MiB, data), 0);
        disk_settle(disk);
        uint64_t full = committed();
        assert_true(full >= before + DISK);
        assert_int_equal(disk_trim(disk, 0, DISK), 0);
        disk_settle(disk);
        uint64_t empty = committed();
        print_message("# %" PRIu64 " KiB committed for a full disk, %" PRIu64
                      " for an empty one\n",
                      (full - before) / KiB, empty > before ? (empty - before) / KiB : 0);
        assert_true(empty <= before + ALLOWANCE);
        assert_reads_zero(disk, 0, MiB);
    }
    free(data);
    disk_end(disk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_pool_is_given_back),
        cmocka_unit_test(other_chunks_are_kept),
        cmocka_unit_test(parts_are_given_back_together),
        cmocka_unit_test(refused_chunks_stay_committed),
        cmocka_unit_test(cells_keep_their_bytes),
        TEST_OF_PAGED(discarded_disk_is_given_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
