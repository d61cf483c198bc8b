/* SPDX-License-Identifier: BSD-3-Clause */

/* limit=: several threads fill a disk at once. */

#include "support/blocks.h"
#include "support/support.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#define SIZE (1 * TiB)

/* The disk is full, some pages are trimmed, and several threads write half as many at once.  None
 * of these writes is refused because the memory is still on its way, in the hands of another
 * thread. */
enum { REFILLERS = 8, TRIMMED = 64 }; /* pages */

struct refill {
    struct disk *disk;
    uint64_t rounds;
    pthread_barrier_t begin, end;
    _Atomic unsigned next; /* page, in this round */
    _Atomic unsigned refused;
};

static void *refill_in_thread(void *opaque)
{
    struct refill *refill = opaque;
    uint8_t page[4096];
    memset(page, 0x77, sizeof page);
    for (uint64_t round = 0; round < refill->rounds; round++) {
        pthread_barrier_wait(&refill->begin);
        unsigned i;
        while ((i = atomic_fetch_add(&refill->next, 1)) < TRIMMED / 2)
            if (disk_write(refill->disk, i * sizeof page, sizeof page, page) != 0)
                atomic_fetch_add(&refill->refused, 1);
        pthread_barrier_wait(&refill->end);
    }
    return NULL;
}

static void trimmed_room_is_had_by_several(void **state)
{
    static uint8_t page[4096];
    struct refill refill = {.rounds = test_ops(5000)};
    pthread_t threads[REFILLERS];
    uint64_t n = 0;
    refill.disk = disk_made(allocator_of(state), SIZE, LIMIT);
    memset(page, 0x55, sizeof page);
    while (disk_write(refill.disk, n * sizeof page, sizeof page, page) == 0)
        n++;
    assert_true(n > 1024);
    pthread_barrier_init(&refill.begin, NULL, REFILLERS + 1);
    pthread_barrier_init(&refill.end, NULL, REFILLERS + 1);
    for (unsigned i = 0; i < REFILLERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, refill_in_thread, &refill), 0);
    for (uint64_t round = 0; round < refill.rounds; round++) {
        for (uint64_t i = 0; i < TRIMMED; i++) /* may fail: the index may have taken their room */
            (void)disk_write(refill.disk, i * sizeof page, sizeof page, page);
        disk_trim(refill.disk, 0, TRIMMED * sizeof page);
        atomic_store(&refill.next, 0);
        pthread_barrier_wait(&refill.begin);
        pthread_barrier_wait(&refill.end);
    }
    for (unsigned i = 0; i < REFILLERS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(refill.refused, 0);
    disk_end(refill.disk);
}

#define FILLERS 4

struct filler {
    struct disk *disk;
    pthread_t thread;
    uint64_t first, n;
    enum content content;
    int err;
    bool intact;
};

static void *fill_in_thread(void *opaque)
{
    struct filler *filler = opaque;
    while (filler->n < BLOCKS_MAX && filler->err == 0) {
        filler->err = block_write(filler->disk, filler->first + filler->n, filler->content);
        filler->n += filler->err == 0;
    }
    filler->intact = true;
    for (uint64_t i = 0; i < filler->n; i++)
        if (!block_is_there(filler->disk, filler->first + i, filler->content))
            filler->intact = false;
    return NULL;
}

static uint64_t fill_together(struct disk *disk, struct filler *fillers, enum content content)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < FILLERS; i++) {
        fillers[i] =
            (struct filler){.disk = disk, .first = (i + 1) * BLOCKS_MAX, .content = content};
        assert_int_equal(pthread_create(&fillers[i].thread, NULL, fill_in_thread, &fillers[i]),
                         0);
    }
    for (unsigned i = 0; i < FILLERS; i++) {
        pthread_join(fillers[i].thread, NULL);
        sum += fillers[i].n;
    }
    return sum;
}

static void *rewrite_in_thread(void *opaque)
{
    struct filler *filler = opaque;
    struct prng prng;
    prng_init(&prng, test_seed(), filler->first);
    for (uint64_t i = 0; i < filler->n && filler->err == 0; i++) {
        uint64_t number = filler->first + prng_below(&prng, filler->n);
        filler->err = disk_write(filler->disk, number * BLOCK + 100, 4, "else");
    }
    return NULL;
}

/* Each thread takes the room that another one makes.  There is enough for all. */
static void rewrite_together(struct filler *fillers)
{
    for (unsigned i = 0; i < FILLERS; i++) {
        fillers[i].err = 0;
        assert_int_equal(pthread_create(&fillers[i].thread, NULL, rewrite_in_thread, &fillers[i]),
                         0);
    }
    for (unsigned i = 0; i < FILLERS; i++)
        pthread_join(fillers[i].thread, NULL);
    for (unsigned i = 0; i < FILLERS; i++)
        assert_int_equal(fillers[i].err, 0);
}

static void several_fill_at_once(void **state)
{
    const struct allocator *allocator = allocator_of(state);
    enum content content = allocator == &allocator_zstd ? TEXT : RANDOM;
    struct disk *disk = disk_made(allocator, SIZE, LIMIT);
    struct filler fillers[FILLERS];
    unsigned rounds = content == TEXT ? 2 : 5; /* compression is slow */
    for (unsigned round = 0; round < rounds; round++) {
        uint64_t sum = fill_together(disk, fillers, content);
        assert_true(sum * BLOCK > LIMIT * 3 / 4);
        assert_within_limit(disk);
        for (unsigned i = 0; i < FILLERS; i++) {
            assert_int_equal(fillers[i].err, -ENOSPC);
            assert_true(fillers[i].intact);
            assert_blocks(disk, fillers[i].first, fillers[i].n, content);
        }
        if (content == TEXT)
            rewrite_together(fillers);
        assert_within_limit(disk);
        assert_int_equal(disk_trim(disk, 0, SIZE), 0);
    }
    disk_end(disk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_OF(trimmed_room_is_had_by_several, sparse),
        TEST_OF_PAGED(several_fill_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
