/* SPDX-License-Identifier: BSD-3-Clause */

/* history - the requests that concurrent clients made for a few sectors, and when
 *
 * Each client has a log of its own, in which it notes when each of its requests begins and ends,
 * and what its reads see.  linearity.h says whether that is possible.
 *
 * TIME is a number that is drawn from one counter, right before a request is made and right after
 * its reply has come.  A draw is one atomic operation that acquires and releases.  So if the end
 * of one request is a smaller number than the begin of another, everything that the first did
 * happened before everything that the second did, by the memory model of C.  (A clock would say
 * so about real time only, and only if processors read it in order.) On the other hand each draw
 * is a barrier between the requests of a client: this cannot find what a processor does to
 * requests without one.
 *
 * BYTES.  Each sector of 512 bytes that is written has a pattern made of the stamp of the write,
 * which no other write has, and of the number of the sector.  So a sector shows which write it
 * comes from: it has the pattern of a stamp, or zeroes, or neither.  In the last case it is torn,
 * and the log has a copy of it.
 *
 * A log belongs to one thread at a time.  log_end may be called by a second thread, if it is
 * always the same one.
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
    EVENT_WRITE, /* of the pattern of its stamp */
    EVENT_ZERO,  /* a write of zeroes, a zeroing or a trim */
    EVENT_READ,  /* of any sectors */
};

/* A request for sectors [first, first + count). */
struct event {
    uint64_t begin, end;
    uint64_t stamp; /* of a write: not 0 */
    size_t seen;    /* of a read: the index of its first sector in log->seen */
    uint32_t first, count;
    enum event_kind kind;
};

/* What a read saw in a sector: 0, a stamp, or this bit with an index in log->torn. */
#define SEEN_TORN ((uint64_t)1 << 63)

struct log {
    struct history *history;
    uint64_t base; /* stamp of the first event; each event has the next one */
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

/* Make a history of sectors 0 to sectors - 1, which are zero at first, with this number of logs
 * and room for this number of events in each.  The test's own thread only. */
void history_make(struct history *history, uint32_t sectors, unsigned logs, size_t events_each);
void history_free(struct history *history);

/* Forget all events: the sectors are zero again.  Stamps are not used again. */
void history_clear(struct history *history);

bool log_is_full(const struct log *log);

/* Note a request that is about to be made.  Returns its index in log->events. */
size_t log_plan(struct log *log, enum event_kind kind, uint32_t first, uint32_t count);

/* The bytes that a planned write has to write. */
void log_fill(const struct log *log, size_t event, uint8_t *bytes);

/* Call these right before the request is made, and right after its reply has come; bytes: what a
 * read returned. */
void log_begin(struct log *log, size_t event);
void log_end(struct log *log, size_t event, const uint8_t *bytes);

/* A random range: often a few sectors, sometimes a whole page, or many sectors, but at most
 * RANGE_MAX. page: the size of a page of the disk, in sectors. */
#define RANGE_MAX 64u
void history_range(const struct history *history, struct prng *prng, uint32_t page,
                   uint32_t *first, uint32_t *count);

/* The pattern of one sector, of SECTOR bytes. */
void stamp_fill(uint64_t stamp, uint32_t sector, uint8_t *bytes);

/* The write with this stamp, or NULL if there is none. */
const struct event *history_find(const struct history *history, uint64_t stamp);

#endif
