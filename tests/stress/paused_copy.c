/* SPDX-License-Identifier: BSD-3-Clause */

/* One copy is stopped half-way, and everything else happens meanwhile.
 *
 * concurrent_model.c finds races by many operations; here the worst moment for each rule of
 * paged.c is arranged.  A helper thread's disk_write or disk_read is held up by its own buffer
 * (support/pause.h), in the middle of a page, while the test's thread trims, clears, settles and
 * writes.  Then it goes on, and the test looks for bytes that were lost.
 *
 * Nothing here is judged by time.  Something that must not happen while a copy is held up is
 * given some time to happen; on a correct disk nothing happens in that time.
 *
 * Seen to catch, each time in two runs or more, an engine with one of these faults:
 *
 *   - no grace period (-DNBDRAM_BREAK_GRACE): page_emptied_during_a_write, page_compressed_...,
 *     page_trimmed_..., frozen_thawed_and_frozen_again;
 *   - no generations (-DNBDRAM_BREAK_GENERATION): frozen_thawed_and_frozen_again;
 *   - a writer that does not thaw the page: frozen_page_in_a_long_write, frozen_thawed_...;
 *   - a writer that does not thaw the node that leads to the page, or a node that is removed
 *     without a second look at it: index_emptied_during_a_write;
 *   - a frame that is swapped in before it is filled: readers_see_no_partial_page;
 *   - a writer that does not notice that it lost a swap: an assertion of the engine.
 */

#include "support/pause.h"
#include "support/settling.h"
#include "support/support.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROUNDS = 8, PATIENCE_US = 10 * 1000 * 1000 };

#define SIZE (64 * MiB)
#define VICTIM 3      /* the page that all this is about */
#define ELSEWHERE 900 /* a page far from it */

struct stage {
    struct disk *disk;
    uint64_t page;
    struct prng prng;
    uint8_t *buf;
};

static void stage_make(struct stage *stage, const struct allocator *allocator)
{
    stage->disk = disk_made(allocator, SIZE, 0);
    stage->page = disk_page_size(stage->disk);
    prng_init(&stage->prng, test_seed(), 1);
    stage->buf = malloc(2 * MiB);
    assert_non_null(stage->buf);
}

static void stage_free(struct stage *stage)
{
    disk_end(stage->disk);
    free(stage->buf);
}

static uint64_t rounds(void)
{
    uint64_t n = test_ops(ROUNDS);
    return n < ROUNDS ? n + 1 : ROUNDS;
}

/* A call that is held up after `open` bytes.  The tests have static ones, because a test that
 * fails leaves its call behind, still held up. */
struct copy {
    struct disk *disk;
    struct pause pause;
    pthread_t thread;
    uint64_t offset;
    size_t count;
    uint8_t *buf;
    bool writes;
    int err;
    atomic_bool over;
};

static void *copy_main(void *opaque)
{
    struct copy *copy = opaque;
    copy->err = copy->writes ? disk_write(copy->disk, copy->offset, copy->count, copy->buf)
                             : disk_read(copy->disk, copy->offset, copy->count, copy->buf);
    atomic_store(&copy->over, true);
    return NULL;
}

/* Returns when the copy is held up.  It may also be over, if this disk does not touch that part
 * of the buffer: then the test proves less, and still must pass. */
static void copy_start(struct copy *copy, struct disk *disk, bool writes, uint64_t offset,
                       size_t count, size_t open, uint8_t byte)
{
    assert_true(open <= PAUSE_OPEN && count <= PAUSE_SHUT);
    copy->disk = disk;
    copy->writes = writes;
    copy->offset = offset;
    copy->count = count;
    atomic_init(&copy->over, false);
    pause_make(&copy->pause);
    copy->buf = copy->pause.border - open;
    memset(copy->buf, byte, count);
    pause_arm(&copy->pause, PATIENCE_US);
    assert_int_equal(pthread_create(&copy->thread, NULL, copy_main, copy), 0);
    while (!pause_is_reached(&copy->pause) && !atomic_load(&copy->over))
        sched_yield();
}

static void copy_end(struct copy *copy)
{
    pause_release(&copy->pause);
    pthread_join(copy->thread, NULL);
    assert_int_equal(copy->err, 0);
}

static void put(struct stage *stage, uint64_t offset, size_t count, uint8_t byte)
{
    memset(stage->buf, byte, count);
    assert_int_equal(disk_write(stage->disk, offset, count, stage->buf), 0);
}

static void assert_bytes(struct stage *stage, uint64_t offset, size_t count, uint8_t byte)
{
    assert_int_equal(disk_read(stage->disk, offset, count, stage->buf), 0);
    for (size_t i = 0; i < count; i++)
        if (stage->buf[i] != byte)
            fail_msg("byte %zu of %zu: 0x%02x instead of 0x%02x", i, count, stage->buf[i], byte);
}

/* Each byte has one of these two values. */
static void assert_either(const uint8_t *buf, size_t count, uint8_t a, uint8_t b)
{
    for (size_t i = 0; i < count; i++)
        if (buf[i] != a && buf[i] != b)
            fail_msg("byte %zu of %zu: 0x%02x, neither 0x%02x nor 0x%02x", i, count, buf[i], a,
                     b);
}

/* Rule 3.  A writer is in the middle of a page of which everything but its bytes becomes zero:
 * the page is frozen and found all zero, and must not go before the writer is done. */
static void page_emptied_during_a_write(void **state)
{
    struct stage stage;
    stage_make(&stage, allocator_of(state));
    uint64_t victim = VICTIM * stage.page;
    for (uint64_t round = 0; round < rounds(); round++) {
        static struct copy writer;
        struct settling settling;
        size_t at = (size_t)prng_below(&stage.prng, stage.page - 200);
        put(&stage, victim + (at + 150) % stage.page, 1, 0x11);
        copy_start(&writer, stage.disk, true, victim + at, 100, 1, 0x22);
        assert_int_equal(disk_zero(stage.disk, victim + (at + 150) % stage.page, 1, 0), 0);
        settling_start(&settling, stage.disk);
        copy_end(&writer);
        settling_end(&settling);
        assert_bytes(&stage, victim + at, 100, 0x22);
        assert_int_equal(disk_settle(stage.disk), 0);
        assert_bytes(&stage, victim + at, 100, 0x22);
        assert_int_equal(disk_trim(stage.disk, victim, stage.page), 0);
        pause_free(&writer.pause);
    }
    stage_free(&stage);
}

/* Rule 3.  The same for a page that is to be compressed. */
static void page_compressed_during_a_write(void **state)
{
    struct stage stage;
    stage_make(&stage, allocator_of(state));
    uint64_t victim = VICTIM * stage.page;
    for (uint64_t round = 0; round < rounds(); round++) {
        static struct copy writer;
        struct settling settling;
        size_t at = (size_t)prng_below(&stage.prng, stage.page - 100);
        put(&stage, victim, stage.page, 0x11);
        copy_start(&writer, stage.disk, true, victim + at, 100, 50, 0x22);
        settling_start(&settling, stage.disk);
        copy_end(&writer);
        settling_end(&settling);
        assert_bytes(&stage, victim + at, 100, 0x22);
        assert_bytes(&stage, victim, at, 0x11);
        assert_int_equal(disk_settle(stage.disk), 0);
        assert_bytes(&stage, victim + at, 100, 0x22);
        assert_bytes(&stage, victim + at + 100, stage.page - at - 100, 0x11);
        pause_free(&writer.pause);
    }
    stage_free(&stage);
}

/* Rule 3.  Adjacent pages may be copied as one.  Here the second one is frozen when the writer
 * starts, and stays so, because a reader elsewhere holds up the grace period. */
static void frozen_page_in_a_long_write(void **state)
{
    for (uint64_t round = 0; round < rounds(); round++) {
        struct stage stage; /* a new disk, whose frames are adjacent, too */
        stage_make(&stage, allocator_of(state));
        uint64_t victim = VICTIM * stage.page, second = victim + stage.page;
        static struct copy reader, writer;
        struct settling settling;
        put(&stage, ELSEWHERE * stage.page, stage.page, 0x33);
        put(&stage, victim, 3 * stage.page, 0x11);
        copy_start(&reader, stage.disk, false, ELSEWHERE * stage.page, 100, 50, 0);
        if (round % 2) { /* all zero; in the other rounds zstd may want to compress it */
            assert_int_equal(disk_zero(stage.disk, second, 100, 0), 0);
            assert_int_equal(disk_zero(stage.disk, second + 100, stage.page - 100, 0), 0);
        }
        settling_start(&settling, stage.disk);
        copy_start(&writer, stage.disk, true, second - 200, 1000, 50, 0x22);
        copy_end(&reader);
        pause_turn();
        copy_end(&writer);
        settling_end(&settling);
        assert_bytes(&stage, second - 200, 1000, 0x22);
        assert_bytes(&stage, victim, 100, 0x11);
        assert_bytes(&stage, second + 800, stage.page - 800, round % 2 ? 0 : 0x11);
        pause_free(&reader.pause);
        pause_free(&writer.pause);
        stage_free(&stage);
    }
}

/* Rule 3, the generation.  A reader elsewhere holds up the grace period of the first freeze.  A
 * write thaws the page and is undone, and the page is frozen again while another writer, which
 * saw it thawed, is in the middle of it.  Then the first grace period ends.  The page has the
 * word of the second freeze, whose grace period has not ended. */
static void frozen_thawed_and_frozen_again(void **state)
{
    struct stage stage;
    stage_make(&stage, allocator_of(state));
    uint64_t victim = VICTIM * stage.page;
    put(&stage, ELSEWHERE * stage.page, stage.page, 0x33);
    for (uint64_t round = 0; round < rounds(); round++) {
        static struct copy reader, writer;
        struct settling first, second;
        put(&stage, victim, 1, 0x11);
        copy_start(&reader, stage.disk, false, ELSEWHERE * stage.page, 100, 50, 0);
        assert_int_equal(disk_zero(stage.disk, victim, 1, 0), 0);
        settling_start(&first, stage.disk);
        put(&stage, victim, 1, 0x11);
        copy_start(&writer, stage.disk, true, victim + 1000, 100, 1, 0x22);
        assert_int_equal(disk_zero(stage.disk, victim, 1, 0), 0);
        settling_start(&second, stage.disk);
        copy_end(&reader);
        pause_turn();
        copy_end(&writer);
        settling_end(&first);
        settling_end(&second);
        assert_bytes(&stage, victim + 1000, 100, 0x22);
        assert_bytes(&stage, victim, 1, 0);
        assert_int_equal(disk_trim(stage.disk, victim, stage.page), 0);
        pause_free(&reader.pause);
        pause_free(&writer.pause);
    }
    stage_free(&stage);
}

/* Readers elsewhere, each of which starts before the previous one ends: each step of the relay
 * ends one grace period. */
struct relay {
    struct copy readers[2];
    unsigned step;
};

static void relay_start(struct relay *relay, struct stage *stage)
{
    relay->step = 0;
    copy_start(&relay->readers[0], stage->disk, false, ELSEWHERE * stage->page, 100, 50, 0);
}

static void relay_end(struct relay *relay)
{
    struct copy *last = &relay->readers[relay->step % 2];
    copy_end(last);
    pause_free(&last->pause);
}

static void relay_step(struct relay *relay, struct stage *stage)
{
    copy_start(&relay->readers[(relay->step + 1) % 2], stage->disk, false,
               ELSEWHERE * stage->page, 100, 50, 0);
    relay_end(relay);
    relay->step++;
    pause_turn();
}

/* Rule 3, for the index.  A page goes, by a trim or piece by piece, and so do the nodes that led
 * only to it.  But a writer is on its way through these nodes.  It starts at once, or after any
 * of the grace periods that this takes. */
enum company {
    ALONE,     /* the page that goes is the one that the writer writes */
    NEIGHBOUR, /* another page goes, which has a node in common with the written one */
    WITNESS,   /* as ALONE, and a neighbour that came later stays */
    COMPANIES
};

static void empty_index_during_a_write(struct stage *stage, uint64_t victim, bool piecemeal,
                                       enum company company, unsigned sets_out, unsigned steps)
{
    static struct relay relay;
    static struct copy writer;
    uint64_t gone = company == NEIGHBOUR ? victim + stage->page : victim;
    put(stage, gone, 1, 0x11);
    if (company == WITNESS)
        put(stage, victim + stage->page, 1, 0x44);
    if (company == NEIGHBOUR) {
        put(stage, victim, 1, 0x11);
        assert_int_equal(disk_trim(stage->disk, victim, stage->page), 0);
    }
    assert_int_equal(disk_settle(stage->disk), 0);
    relay_start(&relay, stage);
    if (piecemeal)
        assert_int_equal(disk_zero(stage->disk, gone, 1, 0), 0);
    else
        assert_int_equal(disk_trim(stage->disk, gone, stage->page), 0);
    for (unsigned step = 0; step <= steps; step++) {
        if (step == sets_out)
            copy_start(&writer, stage->disk, true, victim + 500, 100, 1, 0x22);
        if (step < steps)
            relay_step(&relay, stage);
    }
    relay_end(&relay);
    pause_turn();
    copy_end(&writer);
    assert_bytes(stage, victim + 500, 100, 0x22);
    assert_int_equal(disk_settle(stage->disk), 0);
    assert_bytes(stage, victim + 500, 100, 0x22);
    pause_free(&writer.pause);
}

static void index_emptied_during_a_write(void **state)
{
    enum { STEPS = 3, CASES = 2 * COMPANIES * (STEPS + 1) };
    struct stage stage;
    stage_make(&stage, allocator_of(state));
    put(&stage, ELSEWHERE * stage.page, stage.page, 0x33);
    uint64_t cases = rounds() < ROUNDS ? rounds() : CASES;
    for (uint64_t n = 0; n < cases; n++) {
        uint64_t pick = cases < CASES ? prng_below(&stage.prng, CASES) : n;
        empty_index_during_a_write(&stage, (VICTIM + 16 * n) * stage.page, pick % 2,
                                   (enum company)(pick / 2 % COMPANIES),
                                   (unsigned)(pick / 2 / COMPANIES), STEPS);
    }
    stage_free(&stage);
}

/* Rule 1.  A writer is about to turn a hole into a page, or has just done so, when another writer
 * writes there, and its write is acknowledged. */
static void hole_filled_by_two_writers(void **state)
{
    struct stage stage;
    stage_make(&stage, allocator_of(state));
    uint64_t victim = VICTIM * stage.page;
    for (uint64_t round = 0; round < rounds(); round++) {
        static struct copy writer;
        bool reserved = round % 3 == 0;
        copy_start(&writer, stage.disk, true, victim + 500, 100, 50, 0x22);
        if (reserved)
            assert_int_equal(disk_zero(stage.disk, victim, 400, DISK_NO_HOLE), 0);
        put(&stage, victim + 100, 50, 0x11);
        put(&stage, victim + stage.page - 7, 7, 0x44);
        copy_end(&writer);
        assert_bytes(&stage, victim + 100, 50, 0x11);
        assert_bytes(&stage, victim + 500, 100, 0x22);
        assert_bytes(&stage, victim + stage.page - 7, 7, 0x44);
        assert_bytes(&stage, victim + 600, stage.page - 607, 0);
        if (reserved)
            assert_true(all_data(stage.disk, victim, 400));
        assert_int_equal(disk_trim(stage.disk, victim, stage.page), 0);
        pause_free(&writer.pause);
    }
    stage_free(&stage);
}

/* Rule 1.  The same for a page that was compressed: both writers inflate it. */
static void compressed_page_written_by_two(void **state)
{
    struct stage stage;
    stage_make(&stage, allocator_of(state));
    uint64_t victim = VICTIM * stage.page;
    for (uint64_t round = 0; round < rounds(); round++) {
        static struct copy writer;
        uint8_t base = (uint8_t)(0x80 + round);
        put(&stage, victim, stage.page, base);
        assert_int_equal(disk_settle(stage.disk), 0);
        copy_start(&writer, stage.disk, true, victim + 500, 100, 50, 0x22);
        put(&stage, victim + 100, 50, 0x11);
        assert_int_equal(disk_zero(stage.disk, victim + 200, 10, 0), 0);
        copy_end(&writer);
        assert_bytes(&stage, victim, 100, base);
        assert_bytes(&stage, victim + 100, 50, 0x11);
        assert_bytes(&stage, victim + 200, 10, 0);
        assert_bytes(&stage, victim + 500, 100, 0x22);
        assert_bytes(&stage, victim + 600, stage.page - 600, base);
        pause_free(&writer.pause);
    }
    stage_free(&stage);
}

/* Rule 2, and what follows from it.  The page is trimmed under a writer and under a reader, and
 * its memory is needed for other pages.  Late bytes of the writer must not get into those, and
 * the reader must not see bytes of those. */
static void page_trimmed_under_a_writer(void **state)
{
    enum { OTHERS = 64 };
    struct stage stage;
    stage_make(&stage, allocator_of(state));
    uint64_t victim = VICTIM * stage.page, others = ELSEWHERE * stage.page;
    size_t half = (size_t)stage.page / 2;
    for (uint64_t round = 0; round < rounds(); round++) {
        static struct copy writer;
        struct settling settling;
        put(&stage, victim, stage.page, 0x11);
        copy_start(&writer, stage.disk, true, victim, stage.page, 50, 0x22);
        assert_int_equal(disk_trim(stage.disk, victim, stage.page), 0);
        put(&stage, victim + half, 10, 0x55);
        settling_start(&settling, stage.disk);
        put(&stage, others, OTHERS * stage.page, 0x44);
        copy_end(&writer);
        settling_end(&settling);
        assert_bytes(&stage, others, OTHERS * stage.page, 0x44);
        assert_int_equal(disk_read(stage.disk, victim, stage.page, stage.buf), 0);
        assert_either(stage.buf, half, 0, 0x22);
        assert_either(stage.buf + half, 10, 0x55, 0x22);
        assert_either(stage.buf + half + 10, half - 10, 0, 0x22);
        assert_int_equal(disk_trim(stage.disk, others, OTHERS * stage.page), 0);
        pause_free(&writer.pause);
    }
    stage_free(&stage);
}

static void page_trimmed_under_a_reader(void **state)
{
    enum { OTHERS = 64 };
    struct stage stage;
    stage_make(&stage, allocator_of(state));
    uint64_t victim = VICTIM * stage.page, others = ELSEWHERE * stage.page;
    for (uint64_t round = 0; round < rounds(); round++) {
        static struct copy reader;
        struct settling settling;
        put(&stage, victim, stage.page, 0x11);
        if (round % 2) /* with zstd, the reader then inflates the page */
            assert_int_equal(disk_settle(stage.disk), 0);
        copy_start(&reader, stage.disk, false, victim, stage.page, 50, 0);
        assert_int_equal(disk_trim(stage.disk, victim, stage.page), 0);
        settling_start(&settling, stage.disk);
        put(&stage, others, OTHERS * stage.page, 0x44);
        copy_end(&reader);
        settling_end(&settling);
        assert_either(reader.buf, stage.page, 0x11, 0);
        assert_bytes(&stage, victim, stage.page, 0);
        assert_int_equal(disk_trim(stage.disk, others, OTHERS * stage.page), 0);
        pause_free(&reader.pause);
    }
    stage_free(&stage);
}

/* Rule 6.  Memory that held other bytes is used for a page of which one half is written.  A
 * reader sees zeroes and the new bytes meanwhile, and never the old ones. */
static void readers_see_no_partial_page(void **state)
{
    enum { OTHERS = 64 };
    struct stage stage;
    stage_make(&stage, allocator_of(state));
    uint64_t victim = VICTIM * stage.page, others = ELSEWHERE * stage.page;
    for (uint64_t round = 0; round < rounds(); round++) {
        static struct copy writer;
        bool whole = round % 2;
        fill_random(&stage.prng, stage.buf, OTHERS * stage.page);
        assert_int_equal(disk_write(stage.disk, others, OTHERS * stage.page, stage.buf), 0);
        assert_int_equal(disk_trim(stage.disk, others, OTHERS * stage.page), 0);
        if (round % 3)
            assert_int_equal(disk_settle(stage.disk), 0);
        copy_start(&writer, stage.disk, true, victim + (whole ? 0 : 10),
                   whole ? stage.page : stage.page - 20, 50, 0x22);
        for (int i = 0; i < 20; i++) {
            assert_int_equal(disk_read(stage.disk, victim, stage.page, stage.buf), 0);
            assert_either(stage.buf, stage.page, 0, 0x22);
        }
        copy_end(&writer);
        assert_bytes(&stage, victim + 10, stage.page - 20, 0x22);
        assert_bytes(&stage, victim, 10, whole ? 0x22 : 0);
        assert_int_equal(disk_trim(stage.disk, victim, stage.page), 0);
        pause_free(&writer.pause);
    }
    stage_free(&stage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_OF_PAGED(page_emptied_during_a_write),
        TEST_OF(page_compressed_during_a_write, zstd),
        TEST_OF_PAGED(frozen_page_in_a_long_write),
        TEST_OF_PAGED(frozen_thawed_and_frozen_again),
        TEST_OF_PAGED(index_emptied_during_a_write),
        TEST_OF_PAGED(hole_filled_by_two_writers),
        TEST_OF(compressed_page_written_by_two, zstd),
        TEST_OF_PAGED(page_trimmed_under_a_writer),
        TEST_OF_PAGED(page_trimmed_under_a_reader),
        TEST_OF_PAGED(readers_see_no_partial_page),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
