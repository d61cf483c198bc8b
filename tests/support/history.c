/* SPDX-License-Identifier: BSD-3-Clause */

#include "support/history.h"

#include <stdlib.h>
#include <string.h>

#include "support/support.h"

#define LOG_SHIFT 40 /* in a stamp: bits of the event's number, below those of the log's number */

/* Recording. */

void history_make(struct history *history, uint32_t sectors, unsigned logs, size_t events_each)
{
    *history = (struct history){.sectors = sectors, .log_count = logs};
    history->logs = calloc(logs, sizeof *history->logs);
    assert_non_null(history->logs);
    for (unsigned i = 0; i < logs; i++) {
        struct log *log = &history->logs[i];
        log->history = history;
        log->base = (uint64_t)(i + 1) << LOG_SHIFT;
        log->events = calloc(events_each, sizeof *log->events);
        log->event_max = events_each;
        assert_non_null(log->events);
    }
}

void history_free(struct history *history)
{
    for (unsigned i = 0; i < history->log_count; i++) {
        free(history->logs[i].events);
        free(history->logs[i].seen);
        free(history->logs[i].torn);
    }
    free(history->logs);
}

void history_clear(struct history *history)
{
    atomic_store(&history->clock, 0);
    for (unsigned i = 0; i < history->log_count; i++) {
        struct log *log = &history->logs[i];
        log->base += log->event_count;
        log->event_count = log->seen_count = log->torn_count = 0;
    }
}

bool log_is_full(const struct log *log)
{
    return log->event_count == log->event_max;
}

size_t log_plan(struct log *log, enum event_kind kind, uint32_t first, uint32_t count)
{
    size_t event = log->event_count++;
    log->events[event] = (struct event){.kind = kind, .first = first, .count = count};
    if (kind == EVENT_WRITE)
        log->events[event].stamp = log->base + event;
    return event;
}

static uint64_t draw(struct history *history)
{
    return atomic_fetch_add_explicit(&history->clock, 1, memory_order_acq_rel) + 1;
}

void log_begin(struct log *log, size_t event)
{
    log->events[event].begin = draw(log->history);
}

/* Make room for one more. */
static void *grown(void *array, size_t count, size_t *max, size_t size)
{
    if (count < *max)
        return array;
    *max = *max ? 2 * *max : 1024;
    array = realloc(array, *max * size);
    if (array == NULL)
        abort(); /* may be in any thread */
    return array;
}

static void add_torn(struct log *log, const uint8_t *bytes)
{
    log->torn = grown(log->torn, log->torn_count, &log->torn_max, SECTOR);
    memcpy(log->torn[log->torn_count++], bytes, SECTOR);
}

static void note_seen(struct log *log, uint32_t sector, const uint8_t *bytes)
{
    uint8_t pattern[SECTOR];
    uint64_t seen;
    memcpy(&seen, bytes, sizeof seen);
    if (seen != 0)
        stamp_fill(seen, sector, pattern);
    bool is_whole = seen == 0 ? only_zeroes(bytes, SECTOR) : memcmp(bytes, pattern, SECTOR) == 0;
    if (!is_whole) {
        seen = SEEN_TORN | log->torn_count;
        add_torn(log, bytes);
    }
    log->seen = grown(log->seen, log->seen_count, &log->seen_max, sizeof *log->seen);
    log->seen[log->seen_count++] = seen;
}

void log_end(struct log *log, size_t at, const uint8_t *bytes)
{
    uint64_t now = draw(log->history);
    struct event *event = &log->events[at];
    event->end = now;
    event->seen = log->seen_count;
    for (uint32_t i = 0; event->kind == EVENT_READ && i < event->count; i++)
        note_seen(log, event->first + i, bytes + (size_t)i * SECTOR);
}

void history_range(const struct history *history, struct prng *prng, uint32_t page,
                   uint32_t *first, uint32_t *count)
{
    uint64_t dice = prng_below(prng, 8);
    if (dice == 0) {
        *first = (uint32_t)prng_below(prng, history->sectors / page) * page;
        *count = page;
        return;
    }
    *first = (uint32_t)prng_below(prng, history->sectors);
    *count = 1 + (uint32_t)prng_below(prng, dice == 1 ? RANGE_MAX : dice < 4 ? 16 : 3);
    if (*count > history->sectors - *first)
        *count = history->sectors - *first;
}

/* Stamps. */

/* Equal lines of 64 bytes, so that a page of them compresses: the stamp, and seven words of which
 * each byte depends on the stamp. */
void stamp_fill(uint64_t stamp, uint32_t sector, uint8_t *bytes)
{
    uint64_t line[8] = {stamp};
    struct prng prng;
    prng_init(&prng, stamp, sector);
    for (unsigned i = 1; i < 8; i++)
        line[i] = prng_next(&prng);
    for (size_t at = 0; at < SECTOR; at += sizeof line)
        memcpy(bytes + at, line, sizeof line);
}

void log_fill(const struct log *log, size_t at, uint8_t *bytes)
{
    const struct event *event = &log->events[at];
    for (uint32_t i = 0; i < event->count; i++)
        stamp_fill(event->stamp, event->first + i, bytes + (size_t)i * SECTOR);
}

const struct event *history_find(const struct history *history, uint64_t stamp)
{
    uint64_t number = stamp >> LOG_SHIFT;
    if (number == 0 || number > history->log_count)
        return NULL;
    const struct log *log = &history->logs[number - 1];
    if (stamp < log->base || stamp - log->base >= log->event_count)
        return NULL;
    const struct event *event = &log->events[stamp - log->base];
    return event->stamp == stamp ? event : NULL;
}
