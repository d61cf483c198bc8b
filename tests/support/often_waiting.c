/* SPDX-License-Identifier: BSD-3-Clause */

/* A call that has to wait does a part of the range first, if possible.  That part ends at a page,
 * since a page that is zeroed in two parts would not become a hole. */

#include "support/often_waiting.h"

#include <errno.h>
#include <stdatomic.h>

#include "disk/disk.h"

bool often_waiting = true;

int __real_disk_try_write(struct disk *disk, uint64_t offset, size_t count, const void *buf,
                          size_t *done);
int __real_disk_try_zero(struct disk *disk, uint64_t offset, uint64_t count, unsigned flags,
                         uint64_t *done);
int __real_disk_try_trim(struct disk *disk, uint64_t offset, uint64_t count, uint64_t *done);
ssize_t __real_disk_fill(struct disk *disk, uint64_t offset, size_t count, size_t *lent,
                         disk_fill_fn *fn, void *opaque);

int __wrap_disk_try_write(struct disk *disk, uint64_t offset, size_t count, const void *buf,
                          size_t *done);
int __wrap_disk_try_zero(struct disk *disk, uint64_t offset, uint64_t count, unsigned flags,
                         uint64_t *done);
int __wrap_disk_try_trim(struct disk *disk, uint64_t offset, uint64_t count, uint64_t *done);
ssize_t __wrap_disk_fill(struct disk *disk, uint64_t offset, size_t count, size_t *lent,
                         disk_fill_fn *fn, void *opaque);

static bool has_to_wait(uint64_t count)
{
    static atomic_uint calls;
    return often_waiting && count > 0 && atomic_fetch_add(&calls, 1) % 2 == 0;
}

/* The first half of a range, or so. */
static uint64_t first_part(const struct disk *disk, uint64_t offset, uint64_t count)
{
    uint64_t page = disk_page_size(disk);
    uint64_t end = (offset + count / 2) / page * page;
    return end > offset ? end - offset : 0;
}

int __wrap_disk_try_write(struct disk *disk, uint64_t offset, size_t count, const void *buf,
                          size_t *done)
{
    bool waits = has_to_wait(count);
    size_t n = waits ? (size_t)first_part(disk, offset, count) : count;
    int r = __real_disk_try_write(disk, offset, n, buf, done);
    if (r == 0)
        *done = n;
    return r == 0 && waits ? -EAGAIN : r;
}

int __wrap_disk_try_zero(struct disk *disk, uint64_t offset, uint64_t count, unsigned flags,
                         uint64_t *done)
{
    bool waits = has_to_wait(count);
    uint64_t n = waits ? first_part(disk, offset, count) : count;
    int r = __real_disk_try_zero(disk, offset, n, flags, done);
    if (r == 0)
        *done = n;
    return r == 0 && waits ? -EAGAIN : r;
}

int __wrap_disk_try_trim(struct disk *disk, uint64_t offset, uint64_t count, uint64_t *done)
{
    bool waits = has_to_wait(count);
    uint64_t n = waits ? first_part(disk, offset, count) : count;
    int r = __real_disk_try_trim(disk, offset, n, done);
    if (r == 0)
        *done = n;
    return r == 0 && waits ? -EAGAIN : r;
}

ssize_t __wrap_disk_fill(struct disk *disk, uint64_t offset, size_t count, size_t *lent,
                         disk_fill_fn *fn, void *opaque)
{
    if (has_to_wait(count))
        return -ENOBUFS;
    return __real_disk_fill(disk, offset, count, lent, fn, opaque);
}
