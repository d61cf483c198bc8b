/* SPDX-License-Identifier: BSD-3-Clause */

#include "support/linearity.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/support.h"

/* One write of one sector. */
struct change {
    uint64_t begin, end;
    uint64_t stamp; /* 0: zeroes */
    uint64_t gone;  /* when it had certainly been replaced, or UINT64_MAX */
    uint64_t lasts; /* the latest `gone` of all changes up to this one */

    uint64_t first_end, last_begin; /* the zone of this change and of the reads that saw it */
};

/* The changes of one sector, ordered by begin; the first one is the zeroes from the start. */
struct changes {
    uint32_t sector;
    struct change *list;
    size_t count;
};

/* One sector of a read. */
struct sight {
    uint64_t begin, end;
    uint64_t seen;
    const uint8_t *torn; /* the bytes, or NULL */
};

/* Saying what is wrong. */

static void report(struct verdict *verdict, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static void report(struct verdict *verdict, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (verdict->is_legal)
        vsnprintf(verdict->violation, sizeof verdict->violation, format, args);
    verdict->is_legal = false;
    va_end(args);
}

static void report_sight(struct verdict *verdict, const struct changes *changes,
                         const struct sight *sight, const char *what)
{
    report(verdict,
           "sector %" PRIu32 ", read from %" PRIu64 " to %" PRIu64 ": %s (saw %#" PRIx64 ")",
           changes->sector, sight->begin, sight->end, what, sight->seen);
}

static void report_zones(struct verdict *verdict, uint32_t sector, const struct change *a,
                         const struct change *b)
{
    report(verdict,
           "sector %" PRIu32 ": goes back in time between %#" PRIx64 ", written from %" PRIu64
           " to %" PRIu64 " and there from %" PRIu64 " to %" PRIu64 ", and %#" PRIx64
           ", written from %" PRIu64 " to %" PRIu64 " and there at %" PRIu64 " and %" PRIu64,
           sector, a->stamp, a->begin, a->end, a->first_end, a->last_begin, b->stamp, b->begin,
           b->end, b->first_end, b->last_begin);
}

/* The changes of a sector. */

static int by_begin(const void *a, const void *b)
{
    const struct change *x = a, *y = b;
    return (x->begin > y->begin) - (x->begin < y->begin);
}

/* How many changes began before a time. */
static size_t begun_before(const struct changes *changes, uint64_t time)
{
    size_t low = 0, high = changes->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (changes->list[middle].begin < time)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Find out when each change was gone: when the first of those that began after its end had
 * ended. */
static void find_ends(struct changes *changes)
{
    struct change *list = changes->list;
    uint64_t *first_end =
        calloc(changes->count + 1, sizeof *first_end); /* of each change and the later ones */
    assert_non_null(first_end);
    first_end[changes->count] = UINT64_MAX;
    for (size_t i = changes->count; i > 0; i--)
        first_end[i - 1] = list[i - 1].end < first_end[i] ? list[i - 1].end : first_end[i];
    uint64_t lasts = 0;
    for (size_t i = 0; i < changes->count; i++) {
        list[i].gone = first_end[begun_before(changes, list[i].end + 1)];
        lasts = list[i].gone > lasts ? list[i].gone : lasts;
        list[i].lasts = lasts;
    }
    free(first_end);
}

static bool concerns(const struct event *event, uint32_t sector)
{
    return event->first <= sector && sector - event->first < event->count;
}

static void gather(const struct history *history, struct changes *changes,
                   struct verdict *verdict)
{
    changes->list[0] = (struct change){0};
    changes->count = 1;
    for (unsigned i = 0; i < history->log_count; i++) {
        const struct log *log = &history->logs[i];
        for (size_t j = 0; j < log->event_count; j++) {
            const struct event *event = &log->events[j];
            if (event->kind == EVENT_READ || !concerns(event, changes->sector))
                continue;
            changes->list[changes->count++] = (struct change){.begin = event->begin,
                                                              .end = event->end,
                                                              .stamp = event->stamp,
                                                              .first_end = event->end,
                                                              .last_begin = event->begin};
            *(event->stamp ? &verdict->writes : &verdict->zeroings) += 1;
        }
    }
    qsort(changes->list, changes->count, sizeof *changes->list, by_begin);
    find_ends(changes);
}

/* Rule 1. */

static bool can_have_seen(const struct sight *sight, const struct change *change)
{
    return change->begin < sight->end && sight->begin <= change->gone;
}

static void join(struct change *change, const struct sight *sight)
{
    if (sight->end < change->first_end)
        change->first_end = sight->end;
    if (sight->begin > change->last_begin)
        change->last_begin = sight->begin;
}

/* The changes that a read can have seen lie before begun_before(its end), and after the first
 * place where `lasts` shows that no earlier one is possible.  They are few. */
static void judge_zeroes(const struct changes *changes, const struct sight *sight,
                         struct verdict *verdict)
{
    struct change *found = NULL;
    size_t i = begun_before(changes, sight->end), count = 0;
    for (; i > 0 && changes->list[i - 1].lasts >= sight->begin && count < 2; i--) {
        struct change *change = &changes->list[i - 1];
        if (change->stamp != 0 || !can_have_seen(sight, change))
            continue;
        found = change;
        count++;
    }
    if (count == 0)
        report_sight(verdict, changes, sight, "saw zeroes that had been written over");
    else if (count == 1)
        join(found, sight);
    else
        verdict->unassigned++;
}

static void mark_bytes_of(const struct change *change, uint32_t sector, const uint8_t *bytes,
                          bool *is_explained)
{
    uint8_t pattern[SECTOR] = {0};
    if (change->stamp != 0)
        stamp_fill(change->stamp, sector, pattern);
    for (size_t at = 0; at < SECTOR; at++)
        is_explained[at] |= bytes[at] == pattern[at];
}

static void judge_torn(const struct changes *changes, const struct sight *sight,
                       struct verdict *verdict)
{
    bool is_explained[SECTOR] = {false};
    size_t i = begun_before(changes, sight->end);
    verdict->torn++;
    for (; i > 0 && changes->list[i - 1].lasts >= sight->begin; i--)
        if (can_have_seen(sight, &changes->list[i - 1]))
            mark_bytes_of(&changes->list[i - 1], changes->sector, sight->torn, is_explained);
    if (memchr(is_explained, 0, sizeof is_explained) != NULL)
        report_sight(verdict, changes, sight, "is torn, and a part of it cannot be");
}

static void judge_stamp(const struct history *history, const struct changes *changes,
                        const struct sight *sight, struct verdict *verdict)
{
    const struct event *event = history_find(history, sight->seen);
    if (event == NULL || !concerns(event, changes->sector)) {
        report_sight(verdict, changes, sight, "nobody wrote that");
        return;
    }
    struct change *change = &changes->list[begun_before(changes, event->begin)];
    if (change->begin >= sight->end)
        report_sight(verdict, changes, sight, "saw what was written only later");
    else if (change->gone < sight->begin)
        report_sight(verdict, changes, sight, "saw what had been written over");
    else
        join(change, sight);
}

static void judge_sight(const struct history *history, const struct changes *changes,
                        const struct sight *sight, struct verdict *verdict)
{
    verdict->reads++;
    if (sight->torn != NULL)
        judge_torn(changes, sight, verdict);
    else if (sight->seen == 0)
        judge_zeroes(changes, sight, verdict);
    else
        judge_stamp(history, changes, sight, verdict);
}

static void judge_reads(const struct history *history, const struct changes *changes,
                        struct verdict *verdict)
{
    for (unsigned i = 0; i < history->log_count; i++) {
        const struct log *log = &history->logs[i];
        for (size_t j = 0; j < log->event_count; j++) {
            const struct event *event = &log->events[j];
            if (event->kind != EVENT_READ || !concerns(event, changes->sector))
                continue;
            uint64_t seen = log->seen[event->seen + changes->sector - event->first];
            bool is_torn = seen & SEEN_TORN;
            const struct sight sight = {event->begin, event->end, seen,
                                        is_torn ? log->torn[seen & ~SEEN_TORN] : NULL};
            judge_sight(history, changes, &sight, verdict);
        }
    }
}

/* Rule 2. */

static bool is_forward(const struct change *change)
{
    return change->first_end < change->last_begin;
}

static int by_first_end(const void *a, const void *b)
{
    const struct change *x = a, *y = b;
    return (x->first_end > y->first_end) - (x->first_end < y->first_end);
}

/* If forward zones that are ordered by first_end do not overlap, they are ordered by last_begin,
 * too. */
static void judge_zones(struct changes *changes, struct verdict *verdict)
{
    const struct change *forward = NULL;
    struct change *list = changes->list;
    qsort(list, changes->count, sizeof *list, by_first_end);
    for (size_t i = 0; i < changes->count; i++) {
        if (!is_forward(&list[i]))
            continue;
        if (forward != NULL && list[i].first_end < forward->last_begin)
            report_zones(verdict, changes->sector, forward, &list[i]);
        forward = &list[i];
    }
    /* A backward zone [last_begin, first_end] can only lie in the last of the forward zones that
     * begin before its first_end. */
    forward = NULL;
    for (size_t i = 0; i < changes->count; i++) {
        if (is_forward(&list[i]))
            forward = &list[i];
        else if (forward != NULL && forward->first_end < list[i].last_begin &&
                 list[i].first_end < forward->last_begin)
            report_zones(verdict, changes->sector, forward, &list[i]);
    }
}

void linearity_check(const struct history *history, struct verdict *verdict)
{
    size_t events = 0;
    for (unsigned i = 0; i < history->log_count; i++)
        events += history->logs[i].event_count;
    struct changes changes = {.list = calloc(events + 1, sizeof *changes.list)};
    assert_non_null(changes.list);
    for (uint32_t sector = 0; sector < history->sectors && verdict->is_legal; sector++) {
        changes.sector = sector;
        gather(history, &changes, verdict);
        judge_reads(history, &changes, verdict);
        if (verdict->is_legal)
            judge_zones(&changes, verdict);
    }
    free(changes.list);
}

void verdict_report(const struct verdict *verdict, const char *name)
{
    printf("# %s: sectors: %" PRIu64 " written, %" PRIu64 " zeroed, %" PRIu64
           " read, of these %" PRIu64 " torn, %" PRIu64 " zeroes of unknown origin\n",
           name, verdict->writes, verdict->zeroings, verdict->reads, verdict->torn,
           verdict->unassigned);
    if (!verdict->is_legal)
        fail_msg("%s: %s; NBDRAM_TEST_SEED=0x%" PRIx64, name, verdict->violation, test_seed());
    assert_true(verdict->reads > 0);
}
