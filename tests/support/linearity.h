/* SPDX-License-Identifier: BSD-3-Clause */

/* linearity - is what the reads of a history saw possible?
 *
 * WHAT IS PROMISED.  The NBD specification lets a server process and answer requests in any order
 * ("Ordering of messages and writes").  It does not say what overlapping requests do: neither
 * whole writes nor sectors have to be seen in one piece.  A write that was answered is seen by
 * later reads on any connection: CAN_MULTI_CONN demands that after a flush, and a flush does
 * nothing here.  disk.h promises this for all requests that do not overlap in time; of requests
 * that do, each byte is what one of them put there.  So each byte is judged as a register of its
 * own, and a sector that is torn between two writes is legal if these ran concurrently with each
 * other, or with the read.  (A trim counts as a write of zeroes: it is less only when memory runs
 * out.)
 *
 * WHAT IS DECIDED.  For each sector:
 *
 *  1. Each byte that was read comes from a write that began before the read ended, and that had
 *     not been replaced, by a write that began after it had ended, and ended before the read
 *     began.  Zeroes come from any zeroing, or were there from the start.
 *  2. There is one order of the writes, and of the reads that saw a single stamp, in which each
 *     happens at one moment between its begin and its end: reads do not go back in time.
 *     The algorithm is that of Gibbons and Korach (Testing Shared Memories, 1997).  A write and
 *     the reads that saw it have a zone, from the first of their ends to the last of their
 *     begins.  If the zone is forward, the sector had this value all that time; if it is backward
 *     (all of them overlap), it had the value for one moment at least.  There is an order exactly
 *     if no two forward zones overlap, and no backward zone lies in a forward one.
 *
 * WHAT IS NOT DECIDED.  Zeroes do not show which write they come from, and 2. is NP-complete for
 * values that are written twice.  So a read of zeroes takes part in 2. only if 1. leaves a single
 * write that it can have seen; the zeroings themselves always take part.  Torn sectors are judged
 * by 1. alone: in 2. they would not be one value, and a copy may store a byte twice.  The sectors
 * of one request need not change together.
 *
 * Each violation that is reported is one.
 */

#ifndef NBDRAM_TESTS_LINEARITY_H
#define NBDRAM_TESTS_LINEARITY_H

#include "support/history.h"

struct verdict {
    bool is_legal;
    char violation[400];              /* the first one, if there is any */
    uint64_t writes, zeroings, reads; /* of sectors */
    uint64_t torn;                    /* sectors, of those that were read */
    uint64_t unassigned;              /* sectors read as zeroes that took no part in 2. */
};

/* Judge a history in which every event has ended.  Nothing may be recorded meanwhile.  The
 * numbers are added to those of *verdict, which begins as {.is_legal = true}. */
void linearity_check(const struct history *history, struct verdict *verdict);

/* Print the numbers.  Fail the test if there is a violation, or if nothing was read. */
void verdict_report(const struct verdict *verdict, const char *name);

#endif
