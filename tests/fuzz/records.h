/* SPDX-License-Identifier: BSD-3-Clause */

/* records - a fuzzer's input as a list of things that a client does
 *
 *     OFFSET SIZE
 *      0      1   which disk
 *      1      1   style, read-only, TLS, reset at the end, verbose (transmission.c)
 *      2      1   how the TLS handshake goes; without TLS, sends until the client vanishes
 *      3      1   whether there is a context; whether the end comes when the server stops
 *      4      8   how much each receive moves (struct peer_turns)
 *     12      8   how much each send moves
 *     20      8   a record, and so on
 *
 *     OFFSET SIZE  of a record
 *      0      1   lower five bits: enum record_kind, the common ones several times;
 *                 upper three bits: the unit of the offset and the length
 *      1      1   flags of the request
 *      2      2   offset
 *      4      2   length
 *      6      1   what is written: text, noise, zeroes
 *      7      1   what is wrong, if anything
 *
 * Records have one size, so that the fuzzer can move them about.
 */

#ifndef NBDRAM_TESTS_RECORDS_H
#define NBDRAM_TESTS_RECORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nbd/session.h"

#define RECORDS_HEAD 20u
#define RECORD_SIZE 8u
#define RECORDS_WIRE_MAX ((size_t)256 << 10)
#define RECORDS_PAYLOAD_MAX (256u << 10)
#define RECORDS_STOPS_MAX 64u

enum record_kind {
    RECORD_READ, /* the first ones have the numbers of the commands */
    RECORD_WRITE,
    RECORD_DISC,
    RECORD_FLUSH,
    RECORD_TRIM,
    RECORD_CACHE,
    RECORD_ZERO,
    RECORD_STATUS,
    RECORD_STATUS_OF, /* with contexts in its payload */
    RECORD_UNKNOWN,
    RECORD_WAIT,        /* for all replies */
    RECORD_SETTLE,      /* for all replies, and until the disk has compressed what it can */
    RECORD_STOP,        /* the server stops */
    RECORD_RAW,         /* the next `length` records (up to 31) are bytes for the wire */
    RECORD_WRITE_PAGES, /* offset and length in pages */
    RECORD_READ_PAGES,
};

/* A place where the client pauses, and what happens then. */
struct pause {
    size_t at; /* offset in the wire */
    enum record_kind kind;
};

struct records {
    enum nbd_style style;
    uint64_t size; /* of the disk */
    uint8_t wire[RECORDS_WIRE_MAX];
    size_t used;
    struct pause pauses[RECORDS_STOPS_MAX];
    unsigned pause_count, settles;
};

struct model;

/* Take the head, which describes the disk and the session, and set up the model. */
void records_begin(struct records *records, struct model *model, const uint8_t *head);

/* Add the requests of the records to the wire. */
void records_expand(struct records *records, const uint8_t *data, size_t size);

#endif
