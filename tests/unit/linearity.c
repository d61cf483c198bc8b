/* SPDX-License-Identifier: BSD-3-Clause */

/* The checker of support/linearity.h, with histories of one sector: some are made by hand, and
 * some at random, for which the checker is compared with a search through all orders.
 *
 * A history is written as its requests, each with its begin and its end:
 *
 *     Wa[1,4]   a write of a stamp that is called a; each of another letter
 *     Z[1,4]    a write of zeroes, or a trim
 *     Ra[5,6]   a read that saw a; R0 saw zeroes; Rab saw a in its first half and b in the other
 */

#include "support/linearity.h"
#include "support/support.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

enum { OPS_MAX = 8 };

struct op {
    char kind; /* W, Z, R */
    char value[3];
    unsigned begin, end;
};

/* Recording a history made by hand. */

static uint64_t stamp_of(const struct log *log, const struct op *ops, unsigned count, char value)
{
    for (unsigned i = 0; i < count; i++)
        if (ops[i].kind == 'W' && ops[i].value[0] == value)
            return log->events[i].stamp;
    return value == '0' ? 0 : 12345; /* of no write */
}

static void fill_half(uint64_t stamp, size_t from, uint8_t *bytes)
{
    uint8_t pattern[SECTOR] = {0};
    if (stamp != 0)
        stamp_fill(stamp, 0, pattern);
    memcpy(bytes + from, pattern + from, SECTOR / 2);
}

static void record(struct log *log, const struct op *ops, unsigned count)
{
    static const enum event_kind kinds[] = {
        ['W'] = EVENT_WRITE, ['Z'] = EVENT_ZERO, ['R'] = EVENT_READ};
    for (unsigned i = 0; i < count; i++)
        assert_int_equal(log_plan(log, kinds[(unsigned char)ops[i].kind], 0, 1), i);
    for (unsigned i = 0; i < count; i++) {
        uint8_t bytes[SECTOR];
        const char *value = ops[i].value;
        fill_half(stamp_of(log, ops, count, value[0]), 0, bytes);
        fill_half(stamp_of(log, ops, count, value[value[1] ? 1 : 0]), SECTOR / 2, bytes);
        log_end(log, i, bytes);
        log->events[i].begin = ops[i].begin;
        log->events[i].end = ops[i].end;
    }
}

static struct verdict verdict_on(const struct op *ops, unsigned count)
{
    struct history history;
    struct verdict verdict = {.is_legal = true};
    history_make(&history, 1, 1, OPS_MAX);
    record(&history.logs[0], ops, count);
    linearity_check(&history, &verdict);
    history_free(&history);
    return verdict;
}

static struct verdict verdict_on_text(const char *text)
{
    struct op ops[OPS_MAX];
    unsigned count = 0;
    int used;
    for (; *text != '\0'; text += used, count++) {
        struct op *op = &ops[count];
        memset(op, 0, sizeof *op);
        assert_true(count < OPS_MAX);
        if (sscanf(text, " Z[%u,%u]%n", &op->begin, &op->end, &used) == 2) {
            op->kind = 'Z';
            continue;
        }
        assert_int_equal(sscanf(text, " %c%2[0-9a-z][%u,%u]%n", &op->kind, op->value, &op->begin,
                                &op->end, &used),
                         4);
    }
    return verdict_on(ops, count);
}

static void assert_legal(const char *text)
{
    struct verdict verdict = verdict_on_text(text);
    if (!verdict.is_legal)
        fail_msg("%s: %s", text, verdict.violation);
}

static void assert_illegal(const char *text, const char *violation)
{
    struct verdict verdict = verdict_on_text(text);
    if (verdict.is_legal || strstr(verdict.violation, violation) == NULL)
        fail_msg("%s: should be \"%s\", is \"%s\"", text, violation, verdict.violation);
}

/* By hand. */

static void one_after_the_other(void **state)
{
    (void)state;
    assert_legal("R0[1,2]");
    assert_legal("Wa[1,2] Ra[3,4] Wb[5,6] Rb[7,8] Z[9,10] R0[11,12]");
    assert_illegal("Wa[1,2] R0[3,4]", "zeroes that had been written over");
    assert_illegal("Wa[1,2] Wb[3,4] Ra[5,6]", "had been written over");
    assert_illegal("Wa[1,2] Z[3,4] Ra[5,6]", "had been written over");
    assert_illegal("Z[1,2] Wa[3,4] R0[5,6]", "zeroes that had been written over");
    assert_illegal("Ra[1,2] Wa[3,4]", "only later");
    assert_illegal("Wa[1,2] Rx[3,4]", "nobody wrote that");
}

static void side_by_side(void **state)
{
    (void)state;
    assert_legal("Wa[1,6] R0[2,3] Ra[4,5]");
    assert_legal("Wa[1,9] Wb[2,8] Rb[3,4] Ra[5,6]");
    assert_legal("Wa[1,4] Wb[2,3] Ra[5,6]");
    assert_legal("Wa[1,4] Wb[2,3] Rb[5,6]");
    assert_legal("Z[1,4] Wb[2,3] R0[5,6]");
    assert_illegal("Wa[1,4] Wb[2,3] R0[5,6]", "zeroes that had been written over");
    /* The read began before the write that replaces the first one had ended. */
    assert_legal("Wa[1,2] Wb[3,6] Ra[5,8]");
    assert_illegal("Wa[1,2] Wb[3,6] Ra[7,8]", "had been written over");
}

static void back_in_time(void **state)
{
    (void)state;
    assert_illegal("Wa[1,2] Wb[3,8] Rb[4,5] Ra[6,7]", "back in time");
    assert_illegal("Wa[1,6] Ra[2,3] R0[4,5]", "back in time");
    assert_illegal("Wa[1,10] Wb[2,9] Rb[3,4] Ra[5,6] Rb[7,8]", "back in time");
    /* Both writes have ended, and each was seen after the other one. */
    assert_illegal("Wa[1,4] Wb[2,3] Ra[5,6] Rb[7,8]", "back in time");
    /* The reads overlap, so either may be the first. */
    assert_legal("Wa[1,2] Wb[3,8] Rb[4,6] Ra[5,7]");
    /* A value is seen before and after a write that replaced it, and that no read saw. */
    assert_illegal("Wa[1,9] Ra[2,3] Wb[4,5] Ra[6,7]", "back in time");
    assert_legal("Wa[1,9] Ra[2,3] Wb[4,8] Ra[6,7]");
}

static void zeroes_prove_little(void **state)
{
    (void)state;
    /* Only one zeroing can have been seen. */
    assert_illegal("Wa[1,2] Z[3,8] R0[4,5] Ra[6,7]", "back in time");
    assert_illegal("Wa[1,9] Ra[2,3] Z[4,5] Ra[6,7]", "back in time");
    /* Two zeroings can have been seen: the checker does not look for an order. */
    assert_legal("Wa[1,2] Z[3,12] Z[4,13] R0[5,6] Ra[7,8] R0[9,10]"); /* in fact it is illegal */
    struct verdict verdict = verdict_on_text("Z[1,4] Z[2,5] R0[3,6]");
    assert_true(verdict.is_legal);
    assert_int_equal(verdict.unassigned, 1);
}

static void torn_sectors(void **state)
{
    (void)state;
    assert_legal("Wa[1,4] Wb[2,3] Rab[5,6] Rab[7,8]");
    assert_legal("Wa[1,4] Wb[2,3] Rba[5,6]");
    assert_legal("Wa[1,4] R0a[2,3]");
    assert_legal("Wa[1,2] Z[3,6] R0a[4,5]");
    assert_illegal("Wa[1,2] R0a[3,4]", "is torn");
    assert_illegal("Wa[1,2] Wb[3,4] Rab[5,6]", "is torn");
    assert_illegal("Wa[1,4] Wb[2,3] Wc[5,6] Rab[7,8]", "is torn");
    assert_illegal("Wa[1,4] Wb[2,3] Rax[5,6]", "is torn");
    struct verdict verdict = verdict_on_text("Wa[1,4] Wb[2,3] Rab[5,6] Ra[7,8]");
    assert_true(verdict.is_legal); /* in fact it is illegal: the second half goes back to a */
    assert_int_equal(verdict.torn, 1);
    assert_int_equal(verdict.reads, 2);
}

/* Every byte of a sector counts, and so does the number of the sector. */
static void sectors_are_distinguished(void **state)
{
    (void)state;
    struct history history;
    history_make(&history, 4, 2, 4);
    struct log *log = &history.logs[1];
    static uint8_t bytes[4 * SECTOR];
    for (unsigned round = 0; round < 2 * SECTOR + 2; round++) {
        struct verdict verdict = {.is_legal = true};
        history_clear(&history);
        size_t write = log_plan(log, EVENT_WRITE, 1, 2);
        log_fill(log, write, bytes);
        log_begin(log, write);
        log_end(log, write, NULL);
        size_t read = log_plan(log, EVENT_READ, 0, 4);
        log_begin(log, read);
        memmove(bytes + SECTOR, bytes, 2 * (size_t)SECTOR);
        memset(bytes, 0, SECTOR);
        memset(bytes + 3 * (size_t)SECTOR, 0, SECTOR);
        if (round < 2 * SECTOR)
            bytes[SECTOR + round] ^= 0x10;
        if (round == 2 * SECTOR) /* swap the sectors */
            memcpy(bytes + SECTOR, bytes + 2 * (size_t)SECTOR, SECTOR);
        log_end(log, read, bytes);
        linearity_check(&history, &verdict);
        assert_int_equal(verdict.is_legal, round == 2 * SECTOR + 1);
    }
    history_free(&history);
}

/* At random. */

static char value_after(const struct op *op, char before)
{
    if (op->kind == 'R')
        return before;
    if (op->kind == 'Z')
        return '0';
    return op->value[0];
}

/* Not deeper than the number of requests.  NOLINTNEXTLINE(misc-no-recursion) */
static bool can_be_ordered(const struct op *ops, unsigned count, unsigned done, char value)
{
    unsigned first_end = UINT_MAX;
    if (done == (1u << count) - 1)
        return true;
    for (unsigned i = 0; i < count; i++)
        if (!(done & 1u << i) && ops[i].end < first_end)
            first_end = ops[i].end;
    for (unsigned i = 0; i < count; i++) {
        if (done & 1u << i || ops[i].begin > first_end)
            continue;
        if ((ops[i].kind != 'R' || ops[i].value[0] == value) &&
            can_be_ordered(ops, count, done | 1u << i, value_after(&ops[i], value)))
            return true;
    }
    return false;
}

/* Begins and ends are the numbers from 1 in random order; most requests are short. */
static void make_times(struct prng *prng, struct op *ops, unsigned count)
{
    unsigned now = 0, begun = 0, ended = 0;
    while (ended < count) {
        if (begun < count && (begun == ended || prng_one_in(prng, 2))) {
            ops[begun++].begin = ++now;
            continue;
        }
        unsigned i = (unsigned)prng_below(prng, begun);
        if (ops[i].end == 0) {
            ops[i].end = ++now;
            ended++;
        }
    }
}

static bool make_random(struct prng *prng, struct op *ops, unsigned count)
{
    unsigned writes = 0;
    bool zeroes = false;
    memset(ops, 0, count * sizeof *ops);
    for (unsigned i = 0; i < count; i++) {
        unsigned dice = (unsigned)prng_below(prng, 9);
        ops[i].kind = "WWWZRRRRR"[dice];
        zeroes |= ops[i].kind == 'Z';
        if (ops[i].kind == 'W')
            ops[i].value[0] = (char)('a' + writes++);
    }
    for (unsigned i = 0; i < count; i++)
        if (ops[i].kind == 'R')
            ops[i].value[0] = "0abcdefgh"[prng_below(prng, writes + 1)];
    make_times(prng, ops, count);
    return zeroes;
}

static void fail_on_ops(const struct op *ops, unsigned count, const char *what)
{
    char text[OPS_MAX * 20] = "";
    for (unsigned i = 0; i < count; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%c%s[%u,%u] ", ops[i].kind,
                 ops[i].value, ops[i].begin, ops[i].end);
    fail_msg("%s: %s", text, what);
}

/* A history that has an order is legal.  One that has none is illegal if there is no zeroing, and
 * mostly if there is. */
static void as_all_orders_tried(void **state)
{
    (void)state;
    struct prng prng;
    unsigned ordered = 0, found = 0, missed = 0;
    prng_init(&prng, test_seed(), 0);
    for (unsigned round = 0; round < 40000; round++) {
        struct op ops[OPS_MAX];
        unsigned count = 2 + (unsigned)prng_below(&prng, OPS_MAX - 1);
        bool zeroes = make_random(&prng, ops, count);
        bool is_ordered = can_be_ordered(ops, count, 0, '0');
        bool is_legal = verdict_on(ops, count).is_legal;
        if (is_ordered && !is_legal)
            fail_on_ops(ops, count, "can be, and is not legal");
        if (!is_ordered && is_legal && !zeroes)
            fail_on_ops(ops, count, "cannot be, and is legal");
        ordered += is_ordered;
        found += !is_ordered && !is_legal;
        missed += !is_ordered && is_legal;
    }
    printf("# %u can be; of those that cannot, %u were found and %u not\n", ordered, found,
           missed);
    assert_true(ordered > 1000 && found > 1000 && missed < found / 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_after_the_other), cmocka_unit_test(side_by_side),
        cmocka_unit_test(back_in_time),        cmocka_unit_test(zeroes_prove_little),
        cmocka_unit_test(torn_sectors),        cmocka_unit_test(sectors_are_distinguished),
        cmocka_unit_test(as_all_orders_tried),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
