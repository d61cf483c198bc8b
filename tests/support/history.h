/* SPDX-License-Identifier: BSD-3-Clause */

/* history - what concurrent clients asked of a few sectors, and when
 *
 * The recorder.  Each client notes in a log of its own when each of its requests begins and ends,
 * and what its reads see; linearity.h then says whether that can be.
 *
 * TIME is a number drawn from one counter, right before a request is made and right after its
 * answer is there.  A draw is one atomic step that acquires and releases: if one request's end is
 * a smaller number than another's begin, all the first did happened before all the second did,
 * also in the eyes of the language.  (A clock would tell so of real time only, as far as
 * processors read it in order.)  So a draw is as well a barrier between the requests of a client:
 * what a processor would only do to requests without one is not seen here.
 *
 * BYTES.  Each sector of 512 bytes that is written holds a pattern of the write's stamp, which no
 * other write has, and of the sector's number.  So one look at a sector tells which write it
 * comes from: its stamp, 0 for zeroes, or none of these: then it is torn, and kept as it is.
 *
 * A log belongs to one thread at a time, but for log_end: that may be another one's, if it is
 * always the same.
 */

#ifndef NBDRAM_TESTS_HISTORY_H
#define NBDRAM_TESTS_HISTORY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SECTOR 512u

struct prng; /* support.h */

enum event_kind {
    EVENT_WRITE, /* of its stamp */
    EVENT_ZERO,  /* zeroes written, or a trim */
    EVENT_READ,
};

/* A request for sectors [first, first + count). */
struct event {
    uint64_t begin, end;
    uint64_t stamp; /* a write's: not 0 */
    size_t seen;    /* a read's: its first sector's place in log->seen */
    uint32_t first, count;
    enum event_kind kind;
};

/* What a read saw of a sector: 0, a stamp, or this and a place in log->torn. */
#define SEEN_TORN ((uint64_t)1 << 63)

struct log {
    struct history *history;
    uint64_t base; /* stamps of this log are from here on, one for each event */
    struct event *events;
    size_t event_count, event_max;
    uint64_t *seen;
    size_t seen_count, seen_max;
    uint8_t (*torn)[SECTOR];
    size_t torn_count, torn_max;
};

struct history {
    _Atomic uint64_t clock; /* the last number that was drawn */
    uint32_t sectors;
    struct log *logs;
    unsigned log_count;
};

/* Sectors 0 to sectors - 1, all zero before anything begins; so many logs, for so many events
 * each. */
void history_make(struct history *history, uint32_t sectors, unsigned logs, size_t events_each);
void history_free(struct history *history);

/* Begin anew, with sectors that are zero again.  Stamps do not come again. */
void history_clear(struct history *history);

bool log_is_full(const struct log *log);

/* Note a request that is about to be made: its place in log->events. */
size_t log_plan(struct log *log, enum event_kind kind, uint32_t first, uint32_t count);

/* What a planned write is to write: count sectors. */
void log_fill(const struct log *log, size_t event, uint8_t *bytes);

/* Right before it is made, and right after it was answered; the bytes are those of a read. */
void log_begin(struct log *log, size_t event);
void log_end(struct log *log, size_t event, const uint8_t *bytes);

/* Some range to work on, in a history whose disk has pages of so many sectors: often a few
 * sectors, sometimes a whole page, or many sectors, but never more than RANGE_MAX. */
#define RANGE_MAX 64u
void history_range(const struct history *history, struct prng *prng, uint32_t page,
                   uint32_t *first, uint32_t *count);

/* The 512 bytes of one sector. */
void stamp_fill(uint64_t stamp, uint32_t sector, uint8_t *bytes);

/* The write with this stamp, or NULL if there is none. */
const struct event *history_find(const struct history *history, uint64_t stamp);

#endif
