/* SPDX-License-Identifier: BSD-3-Clause */

/* disk_lend: what is lent, and that it stays there while it is lent.  Seen to catch: no grace
 * period (-DNBDRAM_BREAK_GRACE). */

#include "support/loan.h"
#include "support/loan_stage.h"
#include "support/pause.h"
#include "support/rival.h"
#include "support/support.h"

#include <string.h>

static void lends_what_is_there(void **state)
{
    struct disk *disk = disk_made(allocator_of(state), DISK_SIZE_MAX, 0);
    size_t page = disk_page_size(disk);
    uint8_t byte = 7, buf[100];
    struct disk_piece piece;
    assert_int_equal(disk_zero(disk, GiB, 1, DISK_NO_HOLE), 0); /* so that it is not compressed */
    assert_int_equal(disk_write(disk, GiB, 1, &byte), 0);
    disk_lend_begin(disk);
    assert_int_equal(disk_lend(disk, 5, GiB, &piece), 0);
    assert_int_equal(piece.kind, DISK_PIECE_HOLE);
    assert_null(piece.base);
    assert_int_equal(piece.count, GiB - 5);
    assert_int_equal(disk_lend(disk, GiB, 2 * page, &piece), 0);
    assert_int_equal(piece.kind, DISK_PIECE_DATA);
    assert_int_equal(piece.count, page);
    assert_int_equal(*(const uint8_t *)piece.base, 7);
    assert_int_equal(disk_lend(disk, GiB + page - 1, GiB, &piece), 0);
    assert_int_equal(piece.kind, DISK_PIECE_DATA);
    assert_int_equal(piece.count, 1);
    assert_int_equal(disk_read(disk, GiB - 1, sizeof buf, buf),
                     0); /* disk_read is allowed while memory is lent */
    assert_int_equal(buf[0], 0);
    assert_int_equal(buf[1], 7);
    assert_int_equal(*(const uint8_t *)piece.base, 0);
    disk_lend_end(disk);
    disk_end(disk);
}

static void packed_pages(void **state)
{
    struct loan_stage stage;
    struct disk_piece piece;
    loan_stage_make(&stage, allocator_of(state));
    size_t page = stage.page;
    loan_stage_lay(&stage, PACKED);
    disk_lend_begin(stage.disk);
    assert_int_equal(disk_lend(stage.disk, 10, stage.size - 10, &piece), 0);
    assert_int_equal(piece.kind, DISK_PIECE_PACKED);
    assert_null(piece.base);
    assert_int_equal(piece.count, LOAN_STAGE_PAGES * page - 10);
    disk_lend_end(stage.disk);
    loan_stage_check(&stage, "packed");

    struct source source = {.most = SIZE_MAX};
    fill_random(&stage.prng, stage.fresh, stage.size);
    assert_int_equal(loan_stage_fill(&stage, 1, 5 * page, &source), -ENOBUFS);
    assert_int_equal(loan_stage_fill(&stage, 0, page - 1, &source), -ENOBUFS);
    assert_int_equal(stats_of(stage.disk).compressed, LOAN_STAGE_PAGES);
    assert_int_equal(loan_stage_fill(&stage, page, 3 * page + 1, &source), 3 * page);
    loan_stage_check(&stage, "packed, whole pages filled");
    source.most = 100;
    assert_int_equal(loan_stage_fill(&stage, 7 * page, 3 * page + 1, &source), 100);
    loan_stage_check(&stage, "packed, filled in part");
    source.err = -EIO;
    assert_int_equal(loan_stage_fill(&stage, 10 * page, 3 * page, &source), -EIO);
    loan_stage_check(&stage, "packed, not filled");
    assert_int_equal(disk_settle(stage.disk), 0);
    assert_int_equal(stats_of(stage.disk).compressed, LOAN_STAGE_PAGES - 3);
    loan_stage_check(&stage, "settled");
    loan_stage_free(&stage);
}

/* Bytes that are lent stay what they were, whatever happens to the page. */
static void lent_bytes_stay(void **state)
{
    struct loan_stage stage;
    loan_stage_make(&stage, allocator_of(state));
    size_t page = stage.page;
    loan_stage_lay(&stage, PAGES_IN_ORDER);
    for (unsigned round = 0; round < 8; round++) {
        struct disk_piece piece;
        struct rival trim = {stage.disk, TRIM, page, page, 0, 0};
        struct rival write = {stage.disk, WRITE, 20 * page, 20 * page, 0xee, 0};
        assert_int_equal(disk_zero(stage.disk, page, page, DISK_NO_HOLE), 0);
        loan_stage_write_text(&stage, page, page);
        disk_lend_begin(stage.disk);
        int err = disk_lend(stage.disk, page, page, &piece);
        rival_run(&trim);
        pause_turn();
        rival_run(&write);
        bool same = err == 0 && piece.kind == DISK_PIECE_DATA && piece.count == page &&
                    memcmp(piece.base, stage.wanted + page, page) == 0;
        disk_lend_end(stage.disk);
        assert_true(same);
        assert_int_equal(disk_trim(stage.disk, 20 * page, 20 * page), 0);
    }
    loan_stage_free(&stage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_OF_PAGED(lends_what_is_there),
        TEST_OF(packed_pages, zstd),
        TEST_OF_PAGED(lent_bytes_stay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
