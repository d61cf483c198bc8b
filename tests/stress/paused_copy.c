/* SPDX-License-Identifier: BSD-3-Clause */

/* One copy is stopped half-way, and everything else happens meanwhile.
 *
 * concurrent_model.c finds races by doing much; here each rule of DESIGN.md, "Concurrency", has
 * its worst moment arranged.  A helper thread's disk_write or disk_read is held up by its own
 * buffer (support/pause.h), in the middle of a page, while the test's thread trims, clears,
 * settles and writes; then it goes on, and it is looked at who lost what.
 *
 * Nothing here is judged by time.  Where a thing must not happen while a copy is held up, it is
 * given some time to happen in; on a disk that is right, that time goes by.
 *
 * Seen to catch, in each of two runs or more, an engine broken by:
 *
 *   - no grace period (-DNBDRAM_BREAK_GRACE): page_emptied_beside_a_writer, page_compressed_...,
 *     page_trimmed_..., frozen_thawed_and_frozen_again;
 *   - no generations (-DNBDRAM_BREAK_GENERATION): frozen_thawed_and_frozen_again;
 *   - a writer who does not thaw the page: frozen_page_in_a_long_write, frozen_thawed_...;
 *   - or not the node that leads to it, or a node that goes without being looked at once more:
 *     index_emptied_beside_a_writer;
 *   - a frame swapped in before it is filled: readers_see_no_partial_page;
 *   - a writer who takes no notice of having lost: an assertion of the engine.
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
#define VICTIM 3      /* the page in question */
#define ELSEWHERE 900 /* one far from it */

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

/* A call that is held up after `open` bytes.  They are static below: a test that fails leaves one
 * behind, still held up. */
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

/* Returns when the copy is held up (or over, if this disk copies in some way that does not touch
 * the buffer there: then a scenario proves less, and still must hold). */
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

/* Only these two values may be found. */
static void assert_either(const uint8_t *buf, size_t count, uint8_t a, uint8_t b)
{
    for (size_t i = 0; i < count; i++)
        if (buf[i] != a && buf[i] != b)
            fail_msg("byte %zu of %zu: 0x%02x, neither 0x%02x nor 0x%02x", i, count, buf[i], a,
                     b);
}

/* Rule 3.  A writer is in the middle of a page that becomes all zero but for him: the page is
 * frozen, found all zero, and must not go before he is done. */
static void page_emptied_beside_a_writer(void **state)
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

/* Rule 3.  The same where the page is compressed. */
static void page_compressed_beside_a_writer(void **state)
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

/* Rule 3.  Pages side by side may be copied as one; the second of these is frozen when the writer
 * sets out, which a reader elsewhere keeps up for so long. */
static void frozen_page_in_a_long_write(void **state)
{
    for (uint64_t round = 0; round < rounds(); round++) {
        struct stage stage; /* a new one: its memory lies in order, too */
        stage_make(&stage, allocator_of(state));
        uint64_t victim = VICTIM * stage.page, second = victim + stage.page;
        static struct copy reader, writer;
        struct settling settling;
        put(&stage, ELSEWHERE * stage.page, stage.page, 0x33);
        put(&stage, victim, 3 * stage.page, 0x11);
        copy_start(&reader, stage.disk, false, ELSEWHERE * stage.page, 100, 50, 0);
        if (round % 2) { /* all zero; else zstd may still want to compress it */
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

/* Rule 3, the generation.  A reader elsewhere holds up the grace period of the first freeze; the
 * page is thawed by a write, which is undone, and frozen again while another writer, who saw it
 * thawed, is in the middle of it.  Then the first grace period ends.  It is the second freeze
 * that stands in the page, and its grace period has not ended. */
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

/* Readers elsewhere, each of which starts before the last one ends: grace periods then end one by
 * one, with each step of the relay. */
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

/* Rule 3, for the index.  A page goes, by a trim or piece by piece, and what led to it and to
 * nothing else is to go as well; but a writer is on the way through that.  He sets out at once,
 * or after any of the grace periods that it takes. */
enum company {
    ALONE,     /* the page that goes is the one that is written */
    NEIGHBOUR, /* that is written, another one goes, and both had a node in common */
    WITNESS,   /* as ALONE, and the neighbour, which came later, stays */
    COMPANIES
};

static void empty_index_beside_a_writer(struct stage *stage, uint64_t victim, bool piecemeal,
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

static void index_emptied_beside_a_writer(void **state)
{
    enum { STEPS = 3, CASES = 2 * COMPANIES * (STEPS + 1) };
    struct stage stage;
    stage_make(&stage, allocator_of(state));
    put(&stage, ELSEWHERE * stage.page, stage.page, 0x33);
    uint64_t cases = rounds() < ROUNDS ? rounds() : CASES;
    for (uint64_t n = 0; n < cases; n++) {
        uint64_t pick = cases < CASES ? prng_below(&stage.prng, CASES) : n;
        empty_index_beside_a_writer(&stage, (VICTIM + 16 * n) * stage.page, pick % 2,
                                    (enum company)(pick / 2 % COMPANIES),
                                    (unsigned)(pick / 2 / COMPANIES), STEPS);
    }
    stage_free(&stage);
}

/* Rule 1.  A writer is about to turn a hole into a page (or has just done so) when another one
 * puts his bytes there and is told that they are. */
static void hole_filled_beside_a_writer(void **state)
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
 * its memory is wanted for others: the writer's late bytes must not land in those, nor those be
 * seen by the reader. */
static void page_trimmed_beside_a_writer(void **state)
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

static void page_trimmed_beside_a_reader(void **state)
{
    enum { OTHERS = 64 };
    struct stage stage;
    stage_make(&stage, allocator_of(state));
    uint64_t victim = VICTIM * stage.page, others = ELSEWHERE * stage.page;
    for (uint64_t round = 0; round < rounds(); round++) {
        static struct copy reader;
        struct settling settling;
        put(&stage, victim, stage.page, 0x11);
        if (round % 2) /* of the zstd allocator, a reader may be inflating it */
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

/* Rule 6.  Memory that held other people's bytes is used again for a page that is half written:
 * whoever reads that meanwhile sees zeroes and the new bytes, and never the others'. */
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
        TEST_OF_PAGED(page_emptied_beside_a_writer),
        TEST_OF(page_compressed_beside_a_writer, zstd),
        TEST_OF_PAGED(frozen_page_in_a_long_write),
        TEST_OF_PAGED(frozen_thawed_and_frozen_again),
        TEST_OF_PAGED(index_emptied_beside_a_writer),
        TEST_OF_PAGED(hole_filled_beside_a_writer),
        TEST_OF(compressed_page_written_by_two, zstd),
        TEST_OF_PAGED(page_trimmed_beside_a_writer),
        TEST_OF_PAGED(page_trimmed_beside_a_reader),
        TEST_OF_PAGED(readers_see_no_partial_page),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
