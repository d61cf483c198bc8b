/* SPDX-License-Identifier: BSD-3-Clause */

/* Each check of a disk is seen to find a planted fault: a disk passes, one thing is changed, the
 * check names it, the change is taken back, and the disk passes again. */

#include "support/support.h"

#include <string.h>

#include "disk/disk.h"
#include "disk/memory/budget.h"
#include "disk/memory/rcu.h"
#include "disk/paged/paged.h"
#include "disk/zstd/compressor.h"
#include "text/reason.h"

/* A paged disk of 64 Ki pages, without the front (disk.c) that hides its inside:
 *
 *     pages 0 to 31   dense: a node for 0 to 15, and one for 16 to 31
 *     page FAR        alone under its part of the table: a lone
 *
 * Page TRIMMED is a hole again.  With zstd the even ones of these are blobs, and the odd ones hot
 * frames. */
enum { PAGES = 65536, DENSE = 32, TRIMMED = 30, FAR = 40000 };

struct patient {
    const struct allocator *allocator;
    struct budget budget;
    struct paged *paged;
    char bytes[PAGE_SIZE_MAX];

    /* How to take the fault back. */
    void *changed;
    size_t size;
    uint64_t old;
    struct pool *pool;
    uint64_t cell;
    uint64_t charged;
};

static void put_page(struct patient *patient, uint64_t page)
{
    size_t size = patient->allocator->page_size;
    assert_int_equal(patient->allocator->write(patient->paged, page * size, size, patient->bytes),
                     0);
}

static void patient_make(struct patient *patient, const struct allocator *allocator)
{
    const struct disk_options options = {.size = (uint64_t)PAGES * allocator->page_size,
                                         .level = DISK_LEVEL_DEFAULT};
    void *state = NULL;
    struct prng prng;
    memset(patient, 0, sizeof *patient);
    patient->allocator = allocator;
    prng_init(&prng, test_seed(), 1);
    fill_text(&prng, patient->bytes, sizeof patient->bytes);
    assert_int_equal(budget_init(&patient->budget, 64 * MiB, allocator->packs, ""), 0);
    assert_int_equal(allocator->create(&options, &patient->budget, &state), 0);
    patient->paged = state;
    assert_int_equal(allocator->start(state), 0);
    for (uint64_t page = 0; page < DENSE; page++)
        put_page(patient, page);
    put_page(patient, FAR);
    assert_int_equal(allocator->settle(state), 0);
    if (allocator->packs) /* from here on the threads must not touch hot pages */
        patient->paged->cold.store->stop(patient->paged->cold.state);
    for (uint64_t page = 1; page < DENSE; page += 2)
        put_page(patient, page);
    assert_int_equal(
        allocator->trim(state, (uint64_t)TRIMMED * allocator->page_size, allocator->page_size),
        0);
}

/* Inside. */

static slot_t *slot_of(struct patient *patient, uint64_t page)
{
    uint64_t span;
    slot_t *slot = table_find(&patient->paged->table, page, &span);
    assert_non_null(slot);
    return table_resolve(&patient->paged->table, slot);
}

/* The word that leads to the lowest node or lone on the way to page. */
static slot_t *slot_above(struct patient *patient, uint64_t page)
{
    struct table *table = &patient->paged->table;
    slot_t *slot = &table->root;
    for (unsigned level = table->height - 1; level > 0; level--) {
        if (entry_kind(*slot) != ENTRY_NODE)
            break;
        slot = node_slot(table_node(table, *slot), level, page);
    }
    assert_true(entry_kind(*slot) == ENTRY_NODE || entry_kind(*slot) == ENTRY_LONE);
    return slot;
}

static struct lone *lone_of_far(struct patient *patient)
{
    slot_t *slot = slot_above(patient, FAR);
    assert_int_equal(entry_kind(*slot), ENTRY_LONE);
    return table_lone(&patient->paged->table, *slot);
}

static struct blob_log *blobs_of(struct patient *patient)
{
    struct compressor *compressor = patient->paged->cold.state;
    return &compressor->blobs;
}

static struct blob *blob_of(struct patient *patient, uint64_t page)
{
    struct blob_log *blobs = blobs_of(patient);
    uint64_t word = *slot_of(patient, page);
    assert_int_equal(entry_kind(word), ENTRY_BLOB);
    return (struct blob *)(blobs->segments.base + entry_number(word) * BLOB_UNIT);
}

static struct segment *segment_of(struct patient *patient)
{
    return &blobs_of(patient)->table[blobs_of(patient)->open];
}

/* Planting, and taking it back. */

static void set(struct patient *patient, void *at, size_t size, uint64_t value)
{
    assert_true(size <= sizeof patient->old); /* little-endian or not: the same bytes come back */
    patient->changed = at;
    patient->size = size;
    memcpy(&patient->old, at, size);
    if (size == sizeof(uint64_t))
        memcpy(at, &value, size);
    else if (size == sizeof(uint32_t))
        memcpy(at, &(uint32_t){(uint32_t)value}, size);
    else
        memcpy(at, &(uint8_t){(uint8_t)value}, size);
}

#define SET(patient, place, value) set(patient, &(place), sizeof(place), value)
#define ADD(patient, place, n) SET(patient, place, (uint64_t)(place) + (n))

static void set_word(struct patient *patient, slot_t *slot, uint64_t word)
{
    set(patient, slot, sizeof *slot, word);
}

static void leak(struct patient *patient, struct pool *pool)
{
    patient->pool = pool;
    assert_int_equal(pool_take(pool, BUDGET_GROW, &patient->cell), 0);
}

static void take_back(struct patient *patient)
{
    if (patient->changed)
        memcpy(patient->changed, &patient->old, patient->size);
    if (patient->pool)
        pool_give(patient->pool, patient->cell);
    budget_give(&patient->budget, patient->charged);
    patient->changed = NULL;
    patient->pool = NULL;
    patient->charged = 0;
}

/* The faults of the table. */

static void no_kind(struct patient *patient)
{
    set_word(patient, slot_of(patient, 3), 7);
}

static void hole_with_bits(struct patient *patient)
{
    set_word(patient, slot_of(patient, TRIMMED), ENTRY_FROZEN);
}

static void node_with_age(struct patient *patient)
{
    slot_t *slot = slot_above(patient, 3);
    set_word(patient, slot, entry_aged(*slot, 1));
}

static void pinned_lone(struct patient *patient)
{
    slot_t *slot = slot_above(patient, FAR);
    set_word(patient, slot, *slot | ENTRY_PINNED);
}

static void pinned_and_frozen(struct patient *patient)
{
    slot_t *slot = slot_of(patient, 3);
    set_word(patient, slot, *slot | ENTRY_PINNED | ENTRY_FROZEN);
}

static void page_above_level_0(struct patient *patient)
{
    set_word(patient, slot_above(patient, 3), *slot_of(patient, 3));
}

static void node_at_level_0(struct patient *patient)
{
    set_word(patient, slot_of(patient, 3), *slot_above(patient, 20));
}

static void lone_below_lone(struct patient *patient)
{
    set_word(patient, &lone_of_far(patient)->slot, *slot_above(patient, FAR));
}

static void lone_of_page_elsewhere(struct patient *patient)
{
    SET(patient, lone_of_far(patient)->page, 3);
}

static void page_beyond_the_disk(struct patient *patient)
{
    SET(patient, patient->paged->table.pages, FAR);
}

static void node_of_two(struct patient *patient)
{
    set_word(patient, slot_above(patient, 20), *slot_above(patient, 3));
}

static void node_never_made(struct patient *patient)
{
    set_word(patient, slot_above(patient, 3), entry_make(ENTRY_NODE, ENTRY_NUMBER_MAX));
}

static void lost_node(struct patient *patient)
{
    set_word(patient, slot_above(patient, 3), 0);
}

static void leaked_node(struct patient *patient)
{
    leak(patient, &patient->paged->table.nodes);
}

static void leaked_lone(struct patient *patient)
{
    leak(patient, &patient->paged->table.lones);
}

/* The faults of the pages. */

static void frame_of_two(struct patient *patient)
{
    set_word(patient, slot_of(patient, 3), *slot_of(patient, 5));
}

/* The last frame of the first chunk. */
static void frame_not_in_use(struct patient *patient)
{
    uint64_t cell = patient->paged->pool_options.chunk / patient->allocator->page_size - 1;
    set_word(patient, slot_of(patient, TRIMMED), entry_make(ENTRY_FRAME, cell));
}

static void lost_page(struct patient *patient)
{
    set_word(patient, slot_of(patient, 3), 0);
}

static void leaked_frame(struct patient *patient)
{
    leak(patient, &patient->paged->frames);
}

static void hot_miscounted(struct patient *patient)
{
    ADD(patient, patient->paged->hot, 1);
}

static void age_without_store(struct patient *patient)
{
    set_word(patient, slot_of(patient, 3), entry_aged(*slot_of(patient, 3), 1));
}

static void blob_without_store(struct patient *patient)
{
    set_word(patient, slot_of(patient, 3), entry_make(ENTRY_BLOB, 1));
}

static void budget_overcharged(struct patient *patient)
{
    patient->charged = 4096;
    assert_int_equal(budget_take(&patient->budget, patient->charged, BUDGET_GROW), 0);
}

/* The faults of the blobs. */

static void frozen_blob(struct patient *patient)
{
    set_word(patient, slot_of(patient, 2), *slot_of(patient, 2) | ENTRY_FROZEN);
}

static void blob_of_two(struct patient *patient)
{
    set_word(patient, slot_of(patient, TRIMMED), *slot_of(patient, 2));
}

static void blob_in_between(struct patient *patient)
{
    uint64_t number = entry_number(*slot_of(patient, 2));
    set_word(patient, slot_of(patient, 2), entry_make(ENTRY_BLOB, number + 1));
}

static void blob_of_other_page(struct patient *patient)
{
    ADD(patient, blob_of(patient, 2)->page, 1);
}

static void blob_too_long(struct patient *patient)
{
    ADD(patient, blob_of(patient, 2)->size, BLOB_UNIT);
}

static void segment_miscounts_used(struct patient *patient)
{
    ADD(patient, segment_of(patient)->used, BLOB_UNIT / 2);
}

static void segment_overflows(struct patient *patient)
{
    SET(patient, segment_of(patient)->used, UINT32_MAX);
}

static void segment_miscounts_live(struct patient *patient)
{
    ADD(patient, segment_of(patient)->live, BLOB_UNIT);
}

static void held_segment(struct patient *patient)
{
    SET(patient, segment_of(patient)->held, true);
}

static void leaked_segment(struct patient *patient)
{
    leak(patient, &blobs_of(patient)->segments);
}

static void open_segment_on_a_list(struct patient *patient)
{
    SET(patient, blobs_of(patient)->lists[3], blobs_of(patient)->open);
}

static void segments_miscounted(struct patient *patient)
{
    ADD(patient, blobs_of(patient)->segment_count, 1);
}

static void blobs_miscounted(struct patient *patient)
{
    ADD(patient, blobs_of(patient)->blob_count, 1);
}

static void used_miscounted(struct patient *patient)
{
    ADD(patient, blobs_of(patient)->used, 1);
}

static void live_miscounted(struct patient *patient)
{
    ADD(patient, blobs_of(patient)->live, 1);
}

/* Tests. */

struct fault {
    void (*plant)(struct patient *patient);
    const char *found; /* part of the reason */
};

static const struct fault of_any[] = {
    {no_kind, "table: invariant 1: page 3: 0x7 has no kind"},
    {hole_with_bits, "table: invariant 1: the hole at page 30 is 0x8"},
    {page_above_level_0, "table: invariant 2: "},
    {node_at_level_0, "is at level 0"},
    {lone_below_lone, "table: invariant 2: "},
    {lone_of_page_elsewhere, "table: invariant 3: "},
    {page_beyond_the_disk, "table: invariant 4: page 40000 is not within the disk"},
    {node_with_age, "table: invariant 6: "},
    {pinned_lone, "table: invariant 6: "},
    {pinned_and_frozen, "table: invariant 6: page 3 "},
    {node_of_two, "two things lead to node "},
    {node_never_made, "something leads to node 1099511627775, and only "},
    {lost_node, "is in use, and nothing leads to it"},
    {leaked_node, "is in use, and nothing leads to it"},
    {leaked_lone, "is in use, and nothing leads to it"},
    {frame_of_two, "two things lead to frame "},
    {frame_not_in_use, "which is not in use"},
    {lost_page, "is in use, and nothing leads to it"},
    {leaked_frame, "is in use, and nothing leads to it"},
    {hot_miscounted, "paged: invariant 3: "},
    {budget_overcharged, "paged: invariant 5: "},
};

static const struct fault of_sparse[] = {
    {age_without_store, "paged: invariant 3: page 3 "},
    {blob_without_store, "paged: invariant 3: page 3 "},
};

static const struct fault of_zstd[] = {
    {frozen_blob, "table: invariant 6: page 2 "},
    {blob_of_two, "blob log: invariant 2: "},
    {blob_of_other_page, "blob log: invariant 2: "},
    {blob_in_between, "blob log: invariant "},
    {blob_too_long, "blob log: invariant "},
    {segment_miscounts_used, "blob log: invariant 1: "},
    {segment_overflows, "blob log: invariant 1: "},
    {segment_miscounts_live, "blob log: invariant 3: "},
    {held_segment, "blob log: invariant 4: "},
    {segments_miscounted, "blob log: invariant 5: "},
    {blobs_miscounted, "blob log: invariant 5: "},
    {used_miscounted, "blob log: invariant 5: "},
    {live_miscounted, "blob log: invariant 5: "},
    {open_segment_on_a_list, "blob log: invariant 7: "},
    {leaked_segment, "segment 1 is in use, and nothing leads to it"},
};

static void assert_passes(struct patient *patient)
{
    struct reason reason;
    int r = patient->allocator->check(patient->paged, &reason);
    if (r < 0)
        fail_msg("%s: %s", patient->allocator->name, reason.text);
}

static void assert_found(struct patient *patient, const struct fault *faults, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct reason reason = {""};
        faults[i].plant(patient);
        int r = patient->allocator->check(patient->paged, &reason);
        if (r != -EUCLEAN || strstr(reason.text, faults[i].found) == NULL)
            fail_msg("fault %zu: %d, \"%s\" where \"%s\" was planted", i, r, reason.text,
                     faults[i].found);
        take_back(patient);
        assert_passes(patient);
    }
}

static void faults_are_found(void **state)
{
    static struct patient patient;
    patient_make(&patient, allocator_of(state));
    assert_passes(&patient);
    assert_found(&patient, of_any, COUNT_OF(of_any));
    if (patient.allocator->packs)
        assert_found(&patient, of_zstd, COUNT_OF(of_zstd));
    else
        assert_found(&patient, of_sparse, COUNT_OF(of_sparse));
    patient.allocator->destroy(patient.paged);
}

/* The malloc allocator has only its budget. */
static void flat_charge_is_checked(void **state)
{
    const struct disk_options options = {.size = 100000};
    struct budget budget;
    struct reason reason;
    void *flat = NULL;
    (void)state;
    assert_int_equal(budget_init(&budget, 1 * MiB, false, ""), 0);
    assert_int_equal(allocator_malloc.create(&options, &budget, &flat), 0);
    assert_int_equal(allocator_malloc.check(flat, &reason), 0);
    budget_give(&budget, 1);
    assert_int_equal(allocator_malloc.check(flat, &reason), -EUCLEAN);
    assert_non_null(strstr(reason.text, "102400 are"));
    assert_int_equal(budget_take(&budget, 1, BUDGET_GROW), 0);
    allocator_malloc.destroy(flat);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_OF(faults_are_found, sparse),
        TEST_OF(faults_are_found, zstd),
        cmocka_unit_test(flat_charge_is_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
