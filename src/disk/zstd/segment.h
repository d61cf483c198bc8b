/* SPDX-License-Identifier: BSD-3-Clause */

/* segment - what the log of blobs is made of
 *
 * A blob's number is its offset in the address space of the segments, in units of 16 bytes:
 *
 *     | segment 0                       | segment 1
 *     | blob | blob | dead | blob |.....| blob | dead | ...
 *
 * A walk of a segment goes from blob to blob, from the start of the segment up to `used`.  The
 * header of a dead blob is kept, because the walk needs the dead blob's size.  The log does not
 * record which blobs are dead.  A blob is alive if the page table leads to it.
 */

#ifndef NBDRAM_DISK_ZSTD_SEGMENT_H
#define NBDRAM_DISK_ZSTD_SEGMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BLOB_UNIT 16u /* bytes in one unit of a blob's number */

struct blob {
    uint64_t page; /* number of the page to which the blob belongs */
    uint32_t size; /* number of bytes in `bytes` */
    uint32_t reserved;
    unsigned char bytes[];
};

struct segment {
    uint32_t used; /* bytes appended so far to the segment */
    uint32_t live; /* bytes of live blobs; the rest of `used` is dead */
    bool in_use;
    bool held;               /* a thread is emptying the segment */
    uint8_t list;            /* number of the list (BLOB_LISTS) that the segment is on, or 0 */
    uint32_t next, previous; /* its neighbours on the list, or NO_SEGMENT */
};

#define NO_SEGMENT UINT32_MAX

/* The number of bytes that a blob takes in its segment.  size is the size of the compressed
 * page. */
static inline size_t blob_footprint(size_t size)
{
    return (sizeof(struct blob) + size + BLOB_UNIT - 1) / BLOB_UNIT * BLOB_UNIT;
}

#endif
