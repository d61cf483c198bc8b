/* SPDX-License-Identifier: BSD-3-Clause */

/* promise - which part of a pinned page is promised
 *
 * Zeroing with DISK_NO_HOLE promises that a later write of the range finds memory.  So the page
 * keeps its frame: it is pinned.  Trimming takes the promise back for the range that it covers,
 * and so does zeroing without DISK_NO_HOLE.  A page is pinned as long as any byte of it is
 * promised.
 *
 * The word of the page records the promised part, in the bits of the generation.  A pinned frame
 * is never frozen, so it needs no generation.  The record takes no extra memory, and one
 * swap changes both the record and the pin.
 *
 *     BITS    NAME     MEANING
 *     7-14    first    FORM 0: the units from `first` to `last` are promised; a unit is 1/256 of
 *     15-22   last             a page, 16 bytes with sparse and 128 with zstd
 *     7-22    pieces   FORM 1: the pieces whose bits are 1 are promised; a piece is 1/16 of a
 *                              page, 256 bytes with sparse and 2 KiB with zstd
 *     23      form     0 or 1
 *
 * The record covers all bytes that are promised, and possibly others.  If form 0 can express a
 * set of units exactly, form 0 is used.  So trimming a page in several steps unpins the page in
 * two cases:
 *
 *     the ranges are whole units, and are trimmed in ascending or descending order
 *     the ranges are whole pieces, and are trimmed in any order
 */

#ifndef NBDRAM_DISK_PAGED_PROMISE_H
#define NBDRAM_DISK_PAGED_PROMISE_H

#include <stddef.h>
#include <stdint.h>

/* Promise n bytes of a page of `size` bytes, from offset `at` in the page.  word is the word of
 * the page's frame, which must not be frozen.  Returns the new word, which is pinned. */
uint64_t promise_add(uint64_t word, size_t size, size_t at, size_t n);

/* Take back the promise of n bytes of a page of `size` bytes, from offset `at` in the page.
 * word is the word of the page's frame.  Returns the new word, which is pinned only if other
 * bytes are still promised. */
uint64_t promise_remove(uint64_t word, size_t size, size_t at, size_t n);

#endif
