/* SPDX-License-Identifier: BSD-3-Clause */

/* promise - which part of a pinned page is promised
 *
 * Zeroing with DISK_NO_HOLE promises that a later write of the range finds memory.  So the page
 * keeps its frame: it is pinned.  Trimming takes the promise back for the range that it covers,
 * and so does zeroing without DISK_NO_HOLE.  The page is pinned until no byte of it is promised.
 *
 * The promised part is recorded in the word of the page, in the bits of the generation.  A pinned
 * frame needs no generation, because it is never frozen.  The record takes no memory, and changes
 * together with the pin, in one swap.
 *
 *     BITS    NAME     MEANING
 *     7-14    first    FORM 0: the units from `first` to `last` are promised; a unit is 1/256 of
 *     15-22   last             a page, 16 bytes with sparse and 128 with zstd
 *     7-22    pieces   FORM 1: the pieces whose bits are 1 are promised; a piece is 1/16 of a
 *                              page, 256 bytes with sparse and 2 KiB with zstd
 *     23      form
 *
 * The record never covers less than what is promised.  Whatever form 0 can express exactly is
 * kept in form 0.  So a page that is trimmed piecewise is unpinned in two cases: if the ranges
 * come in ascending or descending order and consist of whole units; or, in any order, if the
 * ranges consist of whole pieces.
 */

#ifndef NBDRAM_DISK_PAGED_PROMISE_H
#define NBDRAM_DISK_PAGED_PROMISE_H

#include <stddef.h>
#include <stdint.h>

/* The word of a frame after n bytes of its page, from offset `at` in the page, were promised.
 * The frame is then pinned.  The page has `size` bytes.  The frame must not be frozen. */
uint64_t promise_add(uint64_t word, size_t size, size_t at, size_t n);

/* The word of a frame after the promise was taken back for n bytes of its page, from offset `at`.
 * The frame is then pinned only if other bytes are still promised. */
uint64_t promise_remove(uint64_t word, size_t size, size_t at, size_t n);

#endif
