/* SPDX-License-Identifier: BSD-3-Clause */

/* segment - what the log of blobs is made of
 *
 * The number of a blob is its place in the address space of the segments, in units of 16 bytes:
 *
 *     | segment 0                       | segment 1
 *     | blob | blob | dead | blob |.....| blob | dead | ...
 *
 * A segment is walked from its start, blob by blob, up to `used`.  The header of a dead blob
 * stays, so that the walk gets past the dead blob.  Only the page table knows whether a blob is
 * dead.
 */

#ifndef NBDRAM_DISK_ZSTD_SEGMENT_H
#define NBDRAM_DISK_ZSTD_SEGMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BLOB_UNIT 16u /* bytes: the unit of blob numbers */

struct blob {
    uint64_t page; /* number of the page to which the blob belongs */
    uint32_t size; /* length of the member bytes */
    uint32_t reserved;
    unsigned char bytes[];
};

struct segment {
    uint32_t used; /* bytes appended to the segment */
    uint32_t live; /* bytes that belong to blobs that are alive; part of used */
    bool in_use;
    bool held; /* a thread is emptying the segment */
};

/* The bytes that a blob of `size` compressed bytes takes in its segment. */
static inline size_t blob_footprint(size_t size)
{
    return (sizeof(struct blob) + size + BLOB_UNIT - 1) / BLOB_UNIT * BLOB_UNIT;
}

#endif
