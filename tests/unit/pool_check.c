/* SPDX-License-Identifier: BSD-3-Clause */

/* pool_check finds planted faults.
 *
 * Each test makes a pool in which every kind of chunk and every state of a cell occurs, breaks
 * one invariant of pool_inside.h by hand, and expects pool_check to name it.  Then it repairs the
 * pool, because pool_destroy verifies the invariants, too, in some builds.
 *
 *     chunk   0        1      2        3         4      5
 *             hollow   full   vacant   partial   full   fresh
 */

#include "support/support.h"

#include <stdlib.h>
#include <string.h>

#include "disk/memory/bitmap.h"
#include "disk/memory/pool_inside.h"
#include "os/memory.h"
#include "text/reason.h"

enum { CELLS_PER_GRANULE = 4, GRANULES = 64, TOUCHED = 5, CHUNKS = 8 };
enum { CELLS_PER_CHUNK = CELLS_PER_GRANULE * GRANULES };

struct sample {
    struct budget budget;
    struct pool pool;
    struct pool_inside *in;
    struct magazine *magazine; /* one that holds cells */
};

/* One way to break a pool. */
struct fault {
    const char *invariant; /* what the reason has to begin with */
    void (*plant)(struct sample *sample);
};

static void give_all(struct sample *sample, uint64_t first, uint64_t count)
{
    for (uint64_t cell = first; cell < first + count; cell++)
        pool_give(&sample->pool, cell);
}

static void expect_whole(struct sample *sample)
{
    struct reason reason = {""};
    if (pool_check(&sample->pool, &reason) < 0)
        fail_msg("%s", reason.text);
}

static void sample_make(struct sample *sample)
{
    size_t granule = os_page_size();
    uint64_t cell;
    budget_init(&sample->budget, CHUNKS * GRANULES * granule, false, "");
    const struct pool_options options = {.cell = granule / CELLS_PER_GRANULE,
                                         .chunk = GRANULES * granule,
                                         .capacity = CHUNKS * GRANULES * granule,
                                         .huge = true,
                                         .budget = &sample->budget};
    assert_int_equal(pool_create(&options, &sample->pool), 0);
    sample->in = sample->pool.inside;
    for (unsigned i = 0; i < TOUCHED * CELLS_PER_CHUNK; i++)
        assert_int_equal(pool_take(&sample->pool, BUDGET_GROW, &cell), 0);
    give_all(sample, 0, CELLS_PER_CHUNK / 4);
    give_all(sample, 2 * CELLS_PER_CHUNK, CELLS_PER_CHUNK);
    for (unsigned i = 0; i < GRANULES; i++)
        give_all(sample, 3 * CELLS_PER_CHUNK + i * CELLS_PER_GRANULE, CELLS_PER_GRANULE - 1);
    pool_shrink(&sample->pool);
    assert_int_equal(pool_take(&sample->pool, BUDGET_GROW, &cell), 0);
    sample->magazine = sample->in->magazines;
    while (sample->magazine->count == 0)
        sample->magazine++;
}

/* A copy of everything that the faults change. */
struct snapshot {
    struct chunk chunks[CHUNKS];
    uint64_t free_bits[CHUNKS * CELLS_PER_CHUNK / 64];
    uint64_t absent_bits[CHUNKS];
    struct chunk *lists[CHUNK_LISTS];
    uint64_t chunk_count, fresh, free, resident, leftover, used;
    uint64_t cells[MAGAZINE_CELLS];
    unsigned count;
};

static void snapshot_take(struct snapshot *to, struct sample *from)
{
    const struct pool_inside *in = from->in;
    memcpy(to->chunks, in->chunks, sizeof to->chunks);
    memcpy(to->free_bits, in->free_bits, sizeof to->free_bits);
    memcpy(to->absent_bits, in->absent_bits, sizeof to->absent_bits);
    memcpy(to->lists, in->lists, sizeof to->lists);
    memcpy(to->cells, from->magazine->cells, sizeof to->cells);
    to->chunk_count = in->chunk_count;
    to->fresh = in->fresh;
    to->free = in->free;
    to->resident = in->resident;
    to->leftover = in->leftover;
    to->used = atomic_load(&from->budget.used);
    to->count = from->magazine->count;
}

static void snapshot_restore(const struct snapshot *from, struct sample *to)
{
    struct pool_inside *in = to->in;
    memcpy(in->chunks, from->chunks, sizeof from->chunks);
    memcpy(in->free_bits, from->free_bits, sizeof from->free_bits);
    memcpy(in->absent_bits, from->absent_bits, sizeof from->absent_bits);
    memcpy(in->lists, from->lists, sizeof from->lists);
    memcpy(to->magazine->cells, from->cells, sizeof from->cells);
    in->chunk_count = from->chunk_count;
    in->fresh = from->fresh;
    in->free = from->free;
    in->resident = from->resident;
    in->leftover = from->leftover;
    in->discards = 0;
    atomic_store(&to->budget.used, from->used);
    to->magazine->count = from->count;
}

static void fault_is_found(void **state)
{
    const struct fault *fault = *state;
    struct sample sample;
    struct snapshot before;
    struct reason reason = {""};
    sample_make(&sample);
    expect_whole(&sample);
    snapshot_take(&before, &sample);
    fault->plant(&sample);
    assert_int_equal(pool_check(&sample.pool, &reason), -EUCLEAN);
    if (strncmp(reason.text, fault->invariant, strlen(fault->invariant)) != 0)
        fail_msg("said \"%s\" and not \"%s\"", reason.text, fault->invariant);
    snapshot_restore(&before, &sample);
    expect_whole(&sample);
    pool_destroy(&sample.pool);
}

/* The picture above is right: else the faults below are planted in the wrong places. */
static void sample_has_every_kind(void **state)
{
    static const enum chunk_list kinds[TOUCHED] = {CHUNK_HOLLOW, CHUNK_FULL, CHUNK_VACANT,
                                                   CHUNK_PARTIAL, CHUNK_FULL};
    struct sample sample;
    (void)state;
    sample_make(&sample);
    assert_int_equal(sample.in->fresh, TOUCHED);
    for (unsigned i = 0; i < TOUCHED; i++)
        assert_int_equal(sample.in->chunks[i].list, kinds[i]);
    assert_true(sample.magazine->count >= 2);
    pool_destroy(&sample.pool);
}

/* Invariant 1: the states of a cell. */

static void absent_cell_is_free(struct sample *sample)
{
    struct chunk *chunk = &sample->in->chunks[0];
    bitmap_set(chunk_free_bits(sample->in, chunk), 0, 1, true);
    chunk->free++;
}

static void magazine_cell_is_free(struct sample *sample)
{
    uint64_t cell = sample->magazine->cells[0];
    struct chunk *chunk = &sample->in->chunks[cell / CELLS_PER_CHUNK];
    bitmap_set(chunk_free_bits(sample->in, chunk), cell % CELLS_PER_CHUNK, 1, true);
    chunk->free++;
    sample->in->free++;
}

static void magazine_cell_is_absent(struct sample *sample)
{
    sample->magazine->cells[0] = 2 * CELLS_PER_CHUNK;
}

static void magazine_cell_is_fresh(struct sample *sample)
{
    sample->magazine->cells[0] = TOUCHED * CELLS_PER_CHUNK;
}

static void magazine_cell_is_there_twice(struct sample *sample)
{
    sample->magazine->cells[1] = sample->magazine->cells[0];
}

/* Invariant 2: a chunk's counts and bits. */

static void chunk_counts_too_many_free(struct sample *sample)
{
    sample->in->chunks[3].free++;
}

static void chunk_counts_too_few_absent(struct sample *sample)
{
    sample->in->chunks[0].absent--;
}

static void free_bit_is_lost(struct sample *sample)
{
    bitmap_set(chunk_free_bits(sample->in, &sample->in->chunks[3]), 0, CELLS_PER_CHUNK, false);
}

static void absent_bit_is_lost(struct sample *sample)
{
    bitmap_set(chunk_absent_bits(sample->in, &sample->in->chunks[2]), 7, 1, false);
}

/* Invariant 3: lists. */

static void chunk_names_another_list(struct sample *sample)
{
    sample->in->chunks[1].list = CHUNK_VACANT;
}

static void chunk_is_on_no_list(struct sample *sample)
{
    sample->in->lists[CHUNK_HOLLOW] = NULL;
}

static void chunk_is_on_another_list(struct sample *sample)
{
    struct chunk *hollow = sample->in->lists[CHUNK_HOLLOW];
    sample->in->lists[CHUNK_HOLLOW] = sample->in->lists[CHUNK_VACANT];
    sample->in->lists[CHUNK_VACANT] = hollow;
}

static void list_goes_round(struct sample *sample)
{
    struct chunk *chunk = sample->in->lists[CHUNK_FULL];
    chunk->next->next = chunk;
}

static void link_back_is_lost(struct sample *sample)
{
    sample->in->lists[CHUNK_FULL]->next->previous = NULL;
}

/* Invariants 4 and 5: sums. */

static void pool_counts_too_many_free(struct sample *sample)
{
    sample->in->free++;
}

static void pool_counts_too_few_resident(struct sample *sample)
{
    sample->in->resident--;
}

static void budget_was_charged_too_little(struct sample *sample)
{
    budget_give(&sample->budget, 1);
}

static void leftover_is_more_than_free(struct sample *sample)
{
    sample->in->leftover = sample->in->free + 1;
}

/* Invariant 6: huge pages. */

static void hollow_chunk_is_not_split(struct sample *sample)
{
    sample->in->chunks[0].split = false;
}

/* Invariant 7: chunks that were never touched. */

static void fresh_chunk_has_a_free_cell(struct sample *sample)
{
    bitmap_set(chunk_free_bits(sample->in, &sample->in->chunks[TOUCHED]), 1, 1, true);
}

static void fresh_chunk_counts_absent(struct sample *sample)
{
    sample->in->chunks[TOUCHED].absent = 1;
}

static void more_chunks_than_there_are(struct sample *sample)
{
    sample->in->fresh = CHUNKS + 1;
}

/* Invariants 8 and 9: magazines, and what is on its way to the system. */

static void magazine_is_overfull(struct sample *sample)
{
    sample->magazine->count = sample->in->magazine_cells + 1;
}

static void more_discards_than_granules(struct sample *sample)
{
    sample->in->discards = TOUCHED * GRANULES;
}

/* Invariant 10: numbers of cells. */

static void more_cells_than_numbers(struct sample *sample)
{
    sample->in->chunk_count = POOL_CELLS_MAX / CELLS_PER_CHUNK + 1;
}

/* Invariant 11: commitment. */

static void full_chunk_is_not_committed(struct sample *sample)
{
    sample->in->chunks[1].committed = false;
}

#define FAULT(number, function)                                                                  \
    {                                                                                            \
        .name = #function, .test_func = fault_is_found, .initial_state = &(struct fault)         \
        {                                                                                        \
            "pool: invariant " #number ": ", function                                            \
        }                                                                                        \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sample_has_every_kind),
        FAULT(1, absent_cell_is_free),
        FAULT(1, magazine_cell_is_free),
        FAULT(1, magazine_cell_is_absent),
        FAULT(1, magazine_cell_is_fresh),
        FAULT(1, magazine_cell_is_there_twice),
        FAULT(2, chunk_counts_too_many_free),
        FAULT(2, chunk_counts_too_few_absent),
        FAULT(2, free_bit_is_lost),
        FAULT(2, absent_bit_is_lost),
        FAULT(3, chunk_names_another_list),
        FAULT(3, chunk_is_on_no_list),
        FAULT(3, chunk_is_on_another_list),
        FAULT(3, list_goes_round),
        FAULT(3, link_back_is_lost),
        FAULT(4, pool_counts_too_many_free),
        FAULT(4, pool_counts_too_few_resident),
        FAULT(4, budget_was_charged_too_little),
        FAULT(5, leftover_is_more_than_free),
        FAULT(6, hollow_chunk_is_not_split),
        FAULT(7, fresh_chunk_has_a_free_cell),
        FAULT(7, fresh_chunk_counts_absent),
        FAULT(7, more_chunks_than_there_are),
        FAULT(8, magazine_is_overfull),
        FAULT(9, more_discards_than_granules),
        FAULT(10, more_cells_than_numbers),
        FAULT(11, full_chunk_is_not_committed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
