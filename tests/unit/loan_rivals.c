/* SPDX-License-Identifier: BSD-3-Clause */

/* What other threads do to a page while a fill receives into it.
 *
 * Seen to catch: a frozen frame that is received into without a thaw, and no grace period
 * (-DNBDRAM_BREAK_GRACE). */

#include "support/holder.h"
#include "support/loan.h"
#include "support/loan_stage.h"
#include "support/pause.h"
#include "support/rival.h"
#include "support/settling.h"
#include "support/support.h"

#include <stdlib.h>
#include <string.h>

/* Each byte is what the fill or the rival put there, or what was there before if neither did. */
static void check_race(struct loan_stage *stage, const struct rival *rival, size_t offset,
                       size_t received)
{
    assert_int_equal(disk_read(stage->disk, 0, stage->size, stage->found), 0);
    for (size_t i = 0; i < stage->size; i++) {
        bool ours = i >= offset && i - offset < received;
        bool theirs = i >= rival->offset && i - rival->offset < rival->count;
        uint8_t is = stage->found[i];
        bool good = ours     ? is == stage->fresh[i - offset] || (theirs && is == rival->byte)
                    : theirs ? is == rival->byte
                             : is == stage->wanted[i];
        if (!good)
            fail_msg("deed %d on %zu+%zu during a fill of %zu+%zu: byte %zu is %02x",
                     (int)rival->deed, rival->offset, rival->count, offset, received, i, is);
    }
}

static void rivals_during_a_fill(void **state)
{
    struct loan_stage stage;
    loan_stage_make(&stage, allocator_of(state));
    size_t page = stage.page;
    for (unsigned round = 0; round < 240; round++) {
        enum loan_ground ground = round % 3 ? (enum loan_ground)(round % 3 - 1) : PACKED;
        struct rival rival = {.disk = stage.disk};
        rival.deed = (enum deed)prng_below(&stage.prng, DEEDS);
        rival.byte = rival.deed == WRITE || rival.deed == FILL ? 0xee : 0;
        rival.offset = (size_t)prng_below(&stage.prng, 8) * page / 2;
        rival.count = 1 + (size_t)prng_below(&stage.prng, 4) * page / 2;
        if (rival.deed == FILL && ground == PACKED)
            rival.offset = rival.offset / page * page, rival.count = 2 * page;
        struct source source = {.meanwhile = rival_run, .opaque = &rival};
        source.from = stage.fresh;
        source.most = (size_t)prng_below(&stage.prng, 4 * page);
        loan_stage_lay(&stage, ground);
        fill_random(&stage.prng, stage.fresh, stage.size);
        size_t offset = page + (ground == PACKED ? 0 : (size_t)prng_below(&stage.prng, page));
        ssize_t r = loan_fill(stage.disk, offset, 3 * page, &source);
        if (r == -ENOBUFS && stage.allocator == &allocator_zstd)
            continue;
        assert_null(source.wrong);
        assert_true(r >= 0);
        assert_int_equal(rival.err, 0);
        check_race(&stage, &rival, offset, (size_t)r);
        if (round % 8 == 0)
            assert_int_equal(disk_settle(stage.disk), 0);
        check_race(&stage, &rival, offset, (size_t)r);
    }
    loan_stage_free(&stage);
}

/* Rule 3: while a page is being received into, the rest of it becomes all zero or cold, so that
 * it is frozen; the fill must thaw it, and its bytes must be there in the end. */
struct housekeeping {
    struct rival rival;
    struct settling settling;
};

static void housekeeping_start(void *opaque)
{
    struct housekeeping *housekeeping = opaque;
    rival_run(&housekeeping->rival);
    settling_start(&housekeeping->settling, housekeeping->rival.disk);
}

static void housekeeping_during_a_fill(void **state)
{
    struct loan_stage stage;
    loan_stage_make(&stage, allocator_of(state));
    size_t page = stage.page, at = 3 * page;
    for (unsigned round = 0; round < 12; round++) {
        bool to_zero = round % 2; /* else it becomes cold, and is compressed */
        struct housekeeping housekeeping = {
            .rival = {stage.disk, ZERO, at + page - 1, to_zero ? 1 : 0, 0, 0}};
        loan_stage_lay(&stage, HOLES);
        if (to_zero)
            assert_int_equal(disk_write(stage.disk, at + page - 1, 1, "x"), 0);
        else
            loan_stage_write_text(&stage, at, page);
        fill_text(&stage.prng, stage.fresh, stage.size);
        struct source source = {
            .most = 2000, .meanwhile = housekeeping_start, .opaque = &housekeeping};
        ssize_t r = loan_stage_fill(&stage, at + round, page / 2, &source);
        if (r == -ENOBUFS && stage.allocator == &allocator_zstd)
            continue;
        assert_int_equal(r, 2000);
        settling_end(&housekeeping.settling);
        assert_int_equal(housekeeping.rival.err, 0);
        loan_stage_check(&stage, "during housekeeping");
        assert_int_equal(disk_settle(stage.disk), 0);
        loan_stage_check(&stage, "after housekeeping");
    }
    loan_stage_free(&stage);
}

static void release_holder(void *opaque)
{
    holder_release(opaque);
    pause_turn();
}

/* Rule 3 again: the page is frozen, and its grace period has begun, before the fill begins. */
static void fill_of_a_frozen_page(void **state)
{
    struct loan_stage stage;
    loan_stage_make(&stage, allocator_of(state));
    size_t page = stage.page, at = 3 * page;
    for (unsigned round = 0; round < 12; round++) {
        struct holder holder;
        struct source source = {.most = page, .meanwhile = release_holder, .opaque = &holder};
        loan_stage_lay(&stage, HOLES);
        fill_text(&stage.prng, stage.fresh, page);
        assert_int_equal(disk_write(stage.disk, at, 1, "x"), 0);
        holder_start(&holder, stage.disk);
        assert_int_equal(disk_zero(stage.disk, at, 1, 0), 0);
        pause_turn(); /* so that the wait begins */
        assert_int_equal(loan_stage_fill(&stage, at, page, &source), page);
        holder_join(&holder);
        loan_stage_check(&stage, "frozen");
        assert_int_equal(disk_settle(stage.disk), 0);
        loan_stage_check(&stage, "frozen, settled");
    }
    loan_stage_free(&stage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_OF_ALL(rivals_during_a_fill),
        TEST_OF_ALL(housekeeping_during_a_fill),
        TEST_OF_PAGED(fill_of_a_frozen_page),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
