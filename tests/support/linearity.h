/* SPDX-License-Identifier: BSD-3-Clause */

/* linearity - whether what a history's reads saw can be
 *
 * WHAT IS PROMISED.  The NBD specification lets a server process and answer requests in any order
 * ("Ordering of messages and writes"), and says nothing of requests that overlap: neither whole
 * writes nor sectors are promised to be seen in one piece.  A write that was answered is seen by
 * who asks later, on any connection: CAN_MULTI_CONN wants that after a flush, which does nothing
 * here.  disk.h promises that for all requests that do not overlap in time, and of those that do,
 * that each byte is what one of them put there.  So each byte is judged as a register of its own,
 * and a sector that is torn between two writes is legal, if they ran beside each other, or beside
 * the read.  (A trim is a write of zeroes here: only a lack of memory makes it less.)
 *
 * WHAT IS DECIDED.  Sector by sector,
 *
 *  1. each byte that was read is of a write that began before the read ended, and that no other
 *     write had replaced: one that began after it had ended, and ended before the read began.
 *     Zeroes are of any zeroing, or there from the start.
 *  2. the writes and those reads that saw one stamp all over can be put in one order, in which
 *     each happens at one moment between its begin and its end: reads do not go back in time.
 *     That is decided as by Gibbons and Korach (Testing Shared Memories, 1997).  All that is of
 *     one write, itself and its reads, has a zone, from the first end in it to the last begin. If
 *     that is forwards, the sector held this value all the while; if it is backwards (all of it
 *     overlaps), it did for one moment at least.  There is an order exactly if no two
 *     forward zones overlap, and no backward zone lies in a forward one.
 *
 * WHAT IS NOT.  Zeroes do not tell who wrote them, and with values that are written twice, 2. is
 * NP-complete.  So a read of zeroes counts in 2. only if 1. leaves a single write that it can be
 * of; the zeroings themselves count always.  Torn sectors are judged by 1. alone: in 2. they
 * would not be one value, and a copy may well store a byte twice.  And whether the sectors of one
 * request change together is no question: they need not.
 *
 * What is reported is a violation for certain.
 */

#ifndef NBDRAM_TESTS_LINEARITY_H
#define NBDRAM_TESTS_LINEARITY_H

#include "support/history.h"

struct verdict {
    bool is_legal;
    char why[400];                    /* the first violation, if not */
    uint64_t writes, zeroings, reads; /* of sectors */
    uint64_t torn;                    /* of these reads */
    uint64_t unassigned;              /* reads of zeroes that 2. could not tell the write of */
};

/* Judge; the numbers are added to those that *verdict has, which begins as {.is_legal = true}.
 * Nothing may be recorded meanwhile; every event has ended. */
void linearity_check(const struct history *history, struct verdict *verdict);

/* Print the numbers; fail the test if it is not legal, or nothing was read. */
void verdict_tell(const struct verdict *verdict, const char *name);

#endif
