/* SPDX-License-Identifier: BSD-3-Clause */

/* disk_lend and disk_fill: what is lent, what comes of a fill that receives all, a part or
 * nothing, and what may happen to the pages while they are lent.
 *
 * That everything else goes on around loans is for the model and the stress tests.
 *
 * Seen to catch: a fresh frame whose rest is not cleared, one that is swapped in for a blob
 * though it holds only a part, a frozen frame received into without a thaw, and no grace period
 * (-DNBDRAM_BREAK_GRACE). */

#include "support/loan.h"
#include "support/pause.h"
#include "support/support.h"

#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "disk/memory/pool.h"

#define PAGES 40
#define ODD 777 /* bytes of the last page that the disk has */
#define TURN_US 40000

/* What the disk holds before.  With zstd any page that holds text may turn into a packed one
 * behind one's back, and then a fill that begins in its middle is refused. */
enum ground { HOLES, PAGES_IN_ORDER, EVERY_OTHER_PAGE, PACKED, GROUNDS };

struct stage {
    struct disk *disk;
    const struct allocator *allocator;
    size_t page, size;
    uint8_t *wanted, *found, *fresh; /* size each */
    uint8_t *text;                   /* twice the size */
    struct prng prng;
};

static void stage_make(struct stage *stage, const struct allocator *allocator)
{
    struct disk *probe = disk_made(allocator, 1, 0);
    *stage = (struct stage){.allocator = allocator, .page = disk_page_size(probe)};
    disk_destroy(probe);
    stage->size = PAGES * stage->page + ODD;
    stage->disk = disk_made(allocator, stage->size, 0);
    stage->wanted = calloc(1, stage->size);
    stage->found = malloc(stage->size);
    stage->fresh = malloc(stage->size);
    assert_non_null(stage->wanted);
    assert_non_null(stage->found);
    stage->text = malloc(2 * stage->size);
    assert_non_null(stage->fresh);
    assert_non_null(stage->text);
    prng_init(&stage->prng, test_seed(), allocator_index(allocator));
    fill_text(&stage->prng, stage->text, 2 * stage->size);
}

static void stage_free(struct stage *stage)
{
    disk_destroy(stage->disk);
    free(stage->wanted);
    free(stage->found);
    free(stage->fresh);
    free(stage->text);
}

static void put_text(struct stage *stage, size_t offset, size_t count)
{
    memcpy(stage->wanted + offset, stage->text + prng_below(&stage->prng, stage->size), count);
    assert_int_equal(disk_write(stage->disk, offset, count, stage->wanted + offset), 0);
}

static void lay(struct stage *stage, enum ground ground)
{
    size_t step = ground == EVERY_OTHER_PAGE ? 2 : 1;
    assert_int_equal(disk_trim(stage->disk, 0, stage->size), 0);
    memset(stage->wanted, 0, stage->size);
    for (size_t p = 0; ground != HOLES && p < PAGES; p += step)
        put_text(stage, p * stage->page, stage->page);
    if (ground == PACKED)
        assert_int_equal(disk_settle(stage->disk), 0);
}

static void check(struct stage *stage, const char *how)
{
    for (int lent = 0; lent < 2; lent++) {
        int err = lent ? loan_read(stage->disk, 0, stage->size, stage->found)
                       : disk_read(stage->disk, 0, stage->size, stage->found);
        assert_int_equal(err, 0);
        bool same = memcmp(stage->found, stage->wanted, stage->size) == 0;
        for (size_t i = 0; !same && i < stage->size; i++)
            if (stage->found[i] != stage->wanted[i])
                fail_msg("%s: byte %zu of page %zu is %02x, not %02x", how, i % stage->page,
                         i / stage->page, stage->found[i], stage->wanted[i]);
    }
}

/* Fill, and note what has to be there then. */
static ssize_t fill(struct stage *stage, size_t offset, size_t count, struct source *source)
{
    source->from = stage->fresh;
    ssize_t r = loan_fill(stage->disk, offset, count, source);
    if (source->wrong)
        fail_msg("fill of %zu+%zu: %s", offset, count, source->wrong);
    if (r > 0)
        memcpy(stage->wanted + offset, stage->fresh, (size_t)r);
    return r;
}

/* A part, of all kinds of range, on all kinds of ground. */

static void fill_in_part(struct stage *stage, enum ground ground, size_t offset, size_t count,
                         size_t most)
{
    char how[100];
    snprintf(how, sizeof how, "ground %d, %zu of %zu+%zu", (int)ground, most, offset, count);
    lay(stage, ground);
    fill_random(&stage->prng, stage->fresh, count);
    struct source source = {.most = most};
    ssize_t r = fill(stage, offset, count, &source);
    size_t covered = offset % stage->page + count < stage->page ? 0 : 1;
    if (r == -ENOBUFS) {
        assert_ptr_equal(stage->allocator, &allocator_zstd);
        assert_int_not_equal(ground, HOLES);
        assert_true(offset % stage->page != 0 || !covered);
        assert_int_equal(source.calls, 0);
    } else {
        assert_int_equal(source.calls, 1);
        assert_int_equal(r, most < source.offered ? most : source.offered);
        if (ground == HOLES || stage->allocator != &allocator_zstd)
            assert_true(source.offered == count || source.offered >= 500 * KiB - stage->page ||
                        source.pieces == DISK_FILL_IOV_MAX);
    }
    check(stage, how);
}

static void parts(void **state)
{
    struct stage stage;
    stage_make(&stage, allocator_of(state));
    size_t p = stage.page, end = stage.size;
    const size_t offsets[] = {0, 1, p - 1, 5 * p, 5 * p + p / 2, end - ODD, end - ODD - p + 3};
    const size_t counts[] = {1, p - 1, p, p + 1, 2 * p, 3 * p + 5, 17 * p + 1};
    unsigned n = 0;
    for (enum ground ground = HOLES; ground < GROUNDS; ground++)
        for (size_t i = 0; i < sizeof offsets / sizeof *offsets; i++)
            for (size_t j = 0; j < sizeof counts / sizeof *counts; j++) {
                size_t offset = offsets[i], left = end - offset;
                size_t count = counts[j] < left ? counts[j] : left;
                const size_t mosts[] = {0, 1, p - 1, p, p + 1, count - 1, count};
                for (size_t k = 0; k < sizeof mosts / sizeof *mosts; k++)
                    if (mosts[k] <= count && (ground != PACKED || n++ % 8 == 0))
                        fill_in_part(&stage, ground, offset, count, mosts[k]);
            }
    stage_free(&stage);
}

static void refusals(void **state)
{
    struct stage stage;
    struct disk_piece piece;
    stage_make(&stage, allocator_of(state));
    lay(&stage, EVERY_OTHER_PAGE);
    struct source source = {.most = SIZE_MAX};
    assert_int_equal(fill(&stage, stage.size, 1, &source), -ENOSPC);
    assert_int_equal(fill(&stage, 1, stage.size, &source), -ENOSPC);
    assert_int_equal(fill(&stage, 1, SIZE_MAX, &source), -ENOSPC);
    assert_int_equal(loan_fill(stage.disk, UINT64_MAX, 2, &source), -ENOSPC);
    assert_int_equal(fill(&stage, 0, 0, &source), 0);
    assert_int_equal(fill(&stage, stage.size, 0, &source), 0);
    assert_int_equal(source.calls, 0);
    source.err = -ECONNRESET;
    assert_int_equal(fill(&stage, 0, 9 * stage.page, &source), -ECONNRESET);
    assert_int_equal(source.calls, 1);
    check(&stage, "after refusals");
    disk_lend_begin(stage.disk);
    assert_int_equal(disk_lend(stage.disk, 0, 0, &piece), -EINVAL);
    assert_int_equal(disk_lend(stage.disk, stage.size, 1, &piece), -EINVAL);
    assert_int_equal(disk_lend(stage.disk, 1, stage.size, &piece), -EINVAL);
    assert_int_equal(disk_lend(stage.disk, UINT64_MAX, 2, &piece), -EINVAL);
    disk_lend_end(stage.disk);
    stage_free(&stage);
}

/* Rule 6. */

static ssize_t soil(void *opaque, struct iovec *iov, int iov_count)
{
    (void)opaque;
    for (int i = 0; i < iov_count; i++)
        memset(iov[i].iov_base, 0xa5, iov[i].iov_len);
    return 0;
}

/* Cells in which something stands come back from the pool, and are filled in part.  (They get
 * there through a receiver that does what it must not: over holes, only that comes of it.) */
static void recycled_bytes_are_not_seen(void **state)
{
    struct stage stage;
    stage_make(&stage, allocator_of(state));
    size_t page = stage.page, recycled = 0;
    memset(stage.fresh, 0x5a, stage.size);
    for (unsigned round = 0; round < 200; round++) {
        size_t lent, most = (size_t)prng_below(&stage.prng, 6 * page);
        size_t offset = 3 * page + (size_t)prng_below(&stage.prng, 3) * (page / 2 - 1);
        struct source source = {.most = round % 4 ? most : most / page * page, .old = 0xa5};
        lay(&stage, HOLES);
        assert_int_equal(disk_fill(stage.disk, 0, 30 * page, &lent, soil, NULL), 0);
        assert_true(fill(&stage, offset, 7 * page, &source) >= 0);
        recycled += source.recycled;
        check(&stage, "recycled");
        put_text(&stage, offset + 2 * page, 2 * page); /* beside what was filled */
        check(&stage, "recycled, then written");
    }
    assert_true(recycled > 0); /* or nothing was put to the test */
    stage_free(&stage);
}

/* What is a hole. */

static void zeroes_leave_holes(void **state)
{
    struct stage stage;
    stage_make(&stage, allocator_of(state));
    size_t page = stage.page;
    struct source all = {.most = SIZE_MAX}, nothing = {.most = 0}, broken = {.err = -EIO};
    assert_int_equal(disk_settle(stage.disk), 0);
    uint64_t memory = stats_of(stage.disk).memory;
    memset(stage.fresh, 0, stage.size);
    for (size_t at = 0; at < 7 * page; at += page / 2 + 1) {
        assert_true(fill(&stage, at, 9 * page, &all) > 0);
        memset(stage.fresh, 1, stage.size);
        assert_int_equal(fill(&stage, at, 9 * page, &nothing), 0);
        assert_int_equal(fill(&stage, at, 9 * page, &broken), -EIO);
        memset(stage.fresh, 0, stage.size);
    }
    assert_true(all_hole(stage.disk, 0, stage.size));
    assert_int_equal(stats_of(stage.disk).pages, 0);
    assert_int_equal(disk_settle(stage.disk), 0);
    assert_int_equal(stats_of(stage.disk).memory, memory); /* no index either */

    stage.fresh[5 * page + 7] = 1; /* page 6, from 1 on */
    assert_int_equal(fill(&stage, page, 9 * page, &all), 9 * page);
    assert_true(all_hole(stage.disk, 0, 6 * page));
    assert_true(all_data(stage.disk, 6 * page, page));
    assert_true(all_hole(stage.disk, 7 * page, stage.size - 7 * page));
    check(&stage, "a single byte");

    stage.fresh[5 * page + 7] = 0; /* zeroes over data are zeroes */
    assert_int_equal(fill(&stage, page, 9 * page, &all), 9 * page);
    check(&stage, "zeroes over a byte");
    stage_free(&stage);
}

static void reserved_pages_stay(void **state)
{
    struct stage stage;
    stage_make(&stage, allocator_of(state));
    size_t page = stage.page;
    struct source all = {.most = SIZE_MAX};
    memset(stage.fresh, 0, stage.size);
    assert_int_equal(disk_zero(stage.disk, page, 4 * page, DISK_NO_HOLE), 0);
    assert_int_equal(fill(&stage, 0, 9 * page, &all), 9 * page);
    assert_int_equal(disk_settle(stage.disk), 0);
    assert_true(all_data(stage.disk, page, 4 * page));
    fill_text(&stage.prng, stage.fresh, stage.size);
    assert_int_equal(fill(&stage, 2 * page, page, &all), page);
    assert_int_equal(disk_settle(stage.disk), 0);
    assert_int_equal(stats_of(stage.disk).compressed, 0);
    check(&stage, "reserved");
    stage_free(&stage);
}

/* Pieces. */

static void frames_in_a_row_are_one_piece(void **state)
{
    struct stage stage;
    stage_make(&stage, allocator_of(state));
    struct source all = {.most = SIZE_MAX};
    assert_int_equal(disk_zero(stage.disk, 0, stage.size, DISK_NO_HOLE), 0);
    fill_random(&stage.prng, stage.fresh, stage.size);
    ssize_t r = fill(&stage, 0, 16 * stage.page, &all);
    assert_int_equal(r, 16 * stage.page);
    assert_true(all.pieces <= 8); /* a batch of the pool is half a magazine; threads move */
    check(&stage, "in a row");
    stage_free(&stage);
}

/* Frames that lie as little in order as may be. */
static void scattered_frames_fill_the_list(void **state)
{
    enum { MANY = 3 * DISK_FILL_IOV_MAX };
    struct disk *disk = disk_made(allocator_of(state), 64 * MiB, 0);
    size_t page = disk_page_size(disk);
    uint8_t *buf = malloc(MANY * page), *back = malloc(MANY * page);
    struct prng prng;
    assert_non_null(buf);
    assert_non_null(back);
    prng_init(&prng, test_seed(), 11);
    fill_random(&prng, buf, MANY * page);
    for (size_t i = 0; i < MANY; i++) {
        size_t at = (i * 2 + i * 2 / MANY) % MANY * page;
        assert_int_equal(disk_write(disk, at, page, buf + at), 0);
    }
    fill_random(&prng, buf, MANY * page);
    struct source source = {.from = buf, .most = SIZE_MAX};
    ssize_t r = loan_fill(disk, 0, MANY * page, &source);
    assert_null(source.wrong);
    assert_true(r > 0 && (size_t)r < MANY * page);
    if (page == 4096)
        assert_int_equal(source.pieces, DISK_FILL_IOV_MAX);
    assert_int_equal(loan_write(disk, (size_t)r, MANY * page - (size_t)r, buf + r, &prng), 0);
    assert_int_equal(loan_read(disk, 0, MANY * page, back), 0);
    assert_memory_equal(buf, back, MANY * page);
    free(buf);
    free(back);
    disk_destroy(disk);
}

static void lends_what_is_there(void **state)
{
    struct disk *disk = disk_made(allocator_of(state), DISK_SIZE_MAX, 0);
    size_t page = disk_page_size(disk);
    uint8_t byte = 7, buf[100];
    struct disk_piece piece;
    assert_int_equal(disk_zero(disk, GiB, 1, DISK_NO_HOLE), 0); /* or it may be packed */
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
    assert_int_equal(disk_read(disk, GiB - 1, sizeof buf, buf), 0); /* may be called here, too */
    assert_int_equal(buf[0], 0);
    assert_int_equal(buf[1], 7);
    assert_int_equal(*(const uint8_t *)piece.base, 0);
    disk_lend_end(disk);
    disk_destroy(disk);
}

static void packed_pages(void **state)
{
    struct stage stage;
    struct disk_piece piece;
    stage_make(&stage, allocator_of(state));
    size_t page = stage.page;
    lay(&stage, PACKED);
    disk_lend_begin(stage.disk);
    assert_int_equal(disk_lend(stage.disk, 10, stage.size - 10, &piece), 0);
    assert_int_equal(piece.kind, DISK_PIECE_PACKED);
    assert_null(piece.base);
    assert_int_equal(piece.count, PAGES * page - 10);
    disk_lend_end(stage.disk);
    check(&stage, "packed");

    struct source source = {.most = SIZE_MAX};
    fill_random(&stage.prng, stage.fresh, stage.size);
    assert_int_equal(fill(&stage, 1, 5 * page, &source), -ENOBUFS);
    assert_int_equal(fill(&stage, 0, page - 1, &source), -ENOBUFS);
    assert_int_equal(stats_of(stage.disk).compressed, PAGES);
    assert_int_equal(fill(&stage, page, 3 * page + 1, &source), 3 * page);
    check(&stage, "packed, whole pages filled");
    source.most = 100;
    assert_int_equal(fill(&stage, 7 * page, 3 * page + 1, &source), 100);
    check(&stage, "packed, filled in part");
    source.err = -EIO;
    assert_int_equal(fill(&stage, 10 * page, 3 * page, &source), -EIO);
    check(&stage, "packed, not filled");
    assert_int_equal(disk_settle(stage.disk), 0);
    assert_int_equal(stats_of(stage.disk).compressed, PAGES - 3);
    check(&stage, "settled");
    stage_free(&stage);
}

/* No room. */

static void out_of_memory(void **state)
{
    struct disk *disk = disk_made(allocator_of(state), TiB, 2 * MiB);
    size_t page = disk_page_size(disk), step = 64 * KiB;
    uint8_t *buf = malloc(2 * step);
    struct prng prng;
    assert_non_null(buf);
    prng_init(&prng, test_seed(), 12);
    fill_random(&prng, buf, step);
    struct source source = {.from = buf, .most = step};
    uint64_t end = 0;
    for (unsigned round = 0; round < 3; round++) {
        ssize_t r;
        uint64_t start = end;
        while ((r = loan_fill(disk, end, step, &source)) > 0)
            end += (uint64_t)r;
        assert_int_equal(r, -ENOBUFS);
        assert_null(source.wrong);
        assert_true(end - start > MiB / 2 && end - start < 2 * MiB);
        assert_true(stats_of(disk).memory <= 2 * MiB);
        /* What is there can be filled again. */
        for (uint64_t at = start; at + step < end; at += step) {
            assert_int_equal(loan_fill(disk, at + 1, step - 2, &source), step - 2);
            assert_int_equal(disk_read(disk, at + 1, step - 2, buf + step), 0);
            assert_memory_equal(buf, buf + step, step - 2);
        }
        assert_int_equal(disk_trim(disk, start, (end - start + page) / page * page), 0);
        assert_int_equal(disk_settle(disk), 0);
        assert_int_equal(stats_of(disk).pages, 0);
    }
    free(buf);
    disk_destroy(disk);
}

/* The linker puts this in place of the engine's pool_take: a thread may find that there is
 * nothing left, for its next `refuse` requests. */
static _Thread_local unsigned refuse, refused;

int __real_pool_take(struct pool *pool, enum budget_purpose purpose, uint64_t *cell);
int __wrap_pool_take(struct pool *pool, enum budget_purpose purpose, uint64_t *cell);
int __wrap_pool_take(struct pool *pool, enum budget_purpose purpose, uint64_t *cell)
{
    if (refuse == 0)
        return __real_pool_take(pool, purpose, cell);
    refuse--;
    refused++;
    return -ENOSPC;
}

static void refuse_from_now_on(void *opaque)
{
    refuse = *(unsigned *)opaque;
}

/* There were cells to receive into; then there is no node to lead to them, or no frame to inflate
 * a page in around what was received.  If there is room at last, nobody takes notice. */
static void out_of_memory_after_receiving(void **state)
{
    struct stage stage;
    stage_make(&stage, allocator_of(state));
    size_t page = stage.page, count = 7 * page;
    for (unsigned round = 0; round < 40; round++) {
        enum ground ground = round % 2 && stage.allocator == &allocator_zstd ? PACKED : HOLES;
        unsigned n = round % 4 < 2 ? 1 : UINT_MAX;
        struct source source = {
            .most = round % 3 ? page / 2 : count, .meanwhile = refuse_from_now_on, .opaque = &n};
        lay(&stage, ground);
        fill_random(&stage.prng, stage.fresh, count);
        refused = 0;
        ssize_t r = fill(&stage, 3 * page, count, &source);
        refuse = 0;
        assert_int_equal(source.calls, 1);
        if (refused && n != 1)
            assert_int_equal(r, -ENOSPC);
        else
            assert_int_equal(r, source.most);
        assert_true(refused || (ground == PACKED && source.most == count));
        check(&stage, "out of memory, after receiving");
    }
    lay(&stage, HOLES);
    assert_int_equal(disk_settle(stage.disk), 0);
    assert_int_equal(stats_of(stage.disk).pages, 0); /* no cell is lost */
    stage_free(&stage);
}

/* What others do meanwhile, in a thread of their own. */

enum deed { WRITE, ZERO, ZERO_NO_HOLE, TRIM, FILL, DEEDS };

struct rival {
    struct stage *stage;
    enum deed deed;
    size_t offset, count;
    uint8_t byte; /* what it leaves there */
    int err;
};

static void *rival_main(void *opaque)
{
    struct rival *rival = opaque;
    struct disk *disk = rival->stage->disk;
    uint8_t *buf = malloc(rival->count);
    struct prng prng;
    if (buf == NULL)
        return NULL;
    prng_init(&prng, test_seed(), 13);
    memset(buf, rival->byte, rival->count);
    switch (rival->deed) {
    case WRITE:
        rival->err = disk_write(disk, rival->offset, rival->count, buf);
        break;
    case ZERO:
    case ZERO_NO_HOLE:
        rival->err =
            disk_zero(disk, rival->offset, rival->count, rival->deed == ZERO ? 0 : DISK_NO_HOLE);
        break;
    case TRIM:
        rival->err = disk_trim(disk, rival->offset, rival->count);
        break;
    default:
        rival->err = loan_write(disk, rival->offset, rival->count, buf, &prng);
    }
    free(buf);
    return NULL;
}

/* None of these waits for a grace period, so it can be waited for in a section. */
static void rival_run(void *opaque)
{
    struct rival *rival = opaque;
    pthread_t thread;
    if (pthread_create(&thread, NULL, rival_main, rival) == 0)
        pthread_join(thread, NULL);
}

/* In each byte stands what the fill or the rival put there, or what was there if neither did. */
static void check_race(struct stage *stage, const struct rival *rival, size_t offset,
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
            fail_msg("deed %d on %zu+%zu beside a fill of %zu+%zu: byte %zu is %02x",
                     (int)rival->deed, rival->offset, rival->count, offset, received, i, is);
    }
}

static void others_beside_a_fill(void **state)
{
    struct stage stage;
    stage_make(&stage, allocator_of(state));
    size_t page = stage.page;
    for (unsigned round = 0; round < 240; round++) {
        enum ground ground = round % 3 ? (enum ground)(round % 3 - 1) : PACKED;
        struct rival rival = {.stage = &stage};
        rival.deed = (enum deed)prng_below(&stage.prng, DEEDS);
        rival.byte = rival.deed == WRITE || rival.deed == FILL ? 0xee : 0;
        rival.offset = (size_t)prng_below(&stage.prng, 8) * page / 2;
        rival.count = 1 + (size_t)prng_below(&stage.prng, 4) * page / 2;
        if (rival.deed == FILL && ground == PACKED)
            rival.offset = rival.offset / page * page, rival.count = 2 * page;
        struct source source = {.meanwhile = rival_run, .opaque = &rival};
        source.from = stage.fresh;
        source.most = (size_t)prng_below(&stage.prng, 4 * page);
        lay(&stage, ground);
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
    stage_free(&stage);
}

/* Rule 3: a page is being received into; meanwhile it becomes all zero but for that, is frozen,
 * and whoever froze it would like to go on. */
struct housekeeping {
    struct rival rival;
    pthread_t thread;
    int err;
};

static void *settle_main(void *opaque)
{
    struct housekeeping *housekeeping = opaque;
    housekeeping->err = disk_settle(housekeeping->rival.stage->disk);
    return NULL;
}

static void housekeeping_start(void *opaque)
{
    struct housekeeping *housekeeping = opaque;
    rival_run(&housekeeping->rival);
    housekeeping->err = pthread_create(&housekeeping->thread, NULL, settle_main, housekeeping);
    pause_here(TURN_US);
}

static void housekeeping_beside_a_fill(void **state)
{
    struct stage stage;
    stage_make(&stage, allocator_of(state));
    size_t page = stage.page, at = 3 * page;
    for (unsigned round = 0; round < 12; round++) {
        bool to_zero = round % 2; /* else what is there gets cold and is packed */
        struct housekeeping housekeeping = {
            .rival = {&stage, ZERO, at + page - 1, to_zero ? 1 : 0, 0, 0}};
        lay(&stage, HOLES);
        if (to_zero)
            assert_int_equal(disk_write(stage.disk, at + page - 1, 1, "x"), 0);
        else
            put_text(&stage, at, page);
        fill_text(&stage.prng, stage.fresh, stage.size);
        struct source source = {
            .most = 2000, .meanwhile = housekeeping_start, .opaque = &housekeeping};
        ssize_t r = fill(&stage, at + round, page / 2, &source);
        if (r == -ENOBUFS && stage.allocator == &allocator_zstd)
            continue;
        assert_int_equal(r, 2000);
        assert_int_equal(pthread_join(housekeeping.thread, NULL), 0);
        assert_int_equal(housekeeping.err, 0);
        assert_int_equal(housekeeping.rival.err, 0);
        check(&stage, "beside housekeeping");
        assert_int_equal(disk_settle(stage.disk), 0);
        check(&stage, "after housekeeping");
    }
    stage_free(&stage);
}

/* Rule 3 again: the page is frozen, and its grace period has begun, before the fill begins. */
struct holder {
    struct disk *disk;
    pthread_t thread;
    atomic_bool holds, released;
};

static void *holder_main(void *opaque)
{
    struct holder *holder = opaque;
    disk_lend_begin(holder->disk);
    atomic_store(&holder->holds, true);
    while (!atomic_load(&holder->released))
        sched_yield();
    disk_lend_end(holder->disk);
    return NULL;
}

static void holder_release(void *opaque)
{
    struct holder *holder = opaque;
    atomic_store(&holder->released, true);
    pause_here(TURN_US);
}

static void fill_of_a_frozen_page(void **state)
{
    struct stage stage;
    stage_make(&stage, allocator_of(state));
    size_t page = stage.page, at = 3 * page;
    for (unsigned round = 0; round < 12; round++) {
        struct holder holder = {.disk = stage.disk};
        struct source source = {.most = page, .meanwhile = holder_release, .opaque = &holder};
        lay(&stage, HOLES);
        fill_text(&stage.prng, stage.fresh, page);
        assert_int_equal(disk_write(stage.disk, at, 1, "x"), 0);
        assert_int_equal(pthread_create(&holder.thread, NULL, holder_main, &holder), 0);
        while (!atomic_load(&holder.holds))
            sched_yield();
        assert_int_equal(disk_zero(stage.disk, at, 1, 0), 0);
        pause_here(TURN_US); /* for the wait to begin */
        assert_int_equal(fill(&stage, at, page, &source), page);
        assert_int_equal(pthread_join(holder.thread, NULL), 0);
        check(&stage, "frozen");
        assert_int_equal(disk_settle(stage.disk), 0);
        check(&stage, "frozen, settled");
    }
    stage_free(&stage);
}

/* Bytes that are lent stay there, whatever becomes of the page. */
static void lent_bytes_stay(void **state)
{
    struct stage stage;
    stage_make(&stage, allocator_of(state));
    size_t page = stage.page;
    lay(&stage, PAGES_IN_ORDER);
    for (unsigned round = 0; round < 8; round++) {
        struct disk_piece piece;
        struct rival trim = {&stage, TRIM, page, page, 0, 0};
        struct rival write = {&stage, WRITE, 20 * page, 20 * page, 0xee, 0};
        assert_int_equal(disk_zero(stage.disk, page, page, DISK_NO_HOLE), 0);
        put_text(&stage, page, page);
        disk_lend_begin(stage.disk);
        int err = disk_lend(stage.disk, page, page, &piece);
        rival_run(&trim);
        pause_here(TURN_US);
        rival_run(&write);
        bool same = err == 0 && piece.kind == DISK_PIECE_DATA && piece.count == page &&
                    memcmp(piece.base, stage.wanted + page, page) == 0;
        disk_lend_end(stage.disk);
        assert_true(same);
        assert_int_equal(disk_trim(stage.disk, 20 * page, 20 * page), 0);
    }
    stage_free(&stage);
}

#define TEST_OF_ALL(function)                                                                    \
    TEST_OF(function, sparse), TEST_OF(function, malloc), TEST_OF(function, zstd)
#define TEST_OF_PAGED(function) TEST_OF(function, sparse), TEST_OF(function, zstd)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_OF_ALL(parts),
        TEST_OF_ALL(refusals),
        TEST_OF_PAGED(recycled_bytes_are_not_seen),
        TEST_OF_PAGED(zeroes_leave_holes),
        TEST_OF_PAGED(reserved_pages_stay),
        TEST_OF_ALL(frames_in_a_row_are_one_piece),
        TEST_OF_PAGED(scattered_frames_fill_the_list),
        TEST_OF_PAGED(lends_what_is_there),
        TEST_OF(packed_pages, zstd),
        TEST_OF_PAGED(out_of_memory),
        TEST_OF_PAGED(out_of_memory_after_receiving),
        TEST_OF_ALL(others_beside_a_fill),
        TEST_OF_ALL(housekeeping_beside_a_fill),
        TEST_OF_PAGED(fill_of_a_frozen_page),
        TEST_OF_PAGED(lent_bytes_stay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
