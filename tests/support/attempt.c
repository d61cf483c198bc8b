/* SPDX-License-Identifier: BSD-3-Clause */

#include "support/attempt.h"

#include <errno.h>

#include "disk/disk.h"

int attempt_write(struct disk *disk, uint64_t offset, size_t count, const void *buf)
{
    size_t done;
    int err = disk_try_write(disk, offset, count, buf, &done);
    return err == -EAGAIN
               ? disk_write(disk, offset + done, count - done, (const char *)buf + done)
               : err;
}

int attempt_zero(struct disk *disk, uint64_t offset, uint64_t count, unsigned flags)
{
    uint64_t done;
    int err = disk_try_zero(disk, offset, count, flags, &done);
    return err == -EAGAIN ? disk_zero(disk, offset + done, count - done, flags) : err;
}

int attempt_trim(struct disk *disk, uint64_t offset, uint64_t count)
{
    uint64_t done;
    int err = disk_try_trim(disk, offset, count, &done);
    return err == -EAGAIN ? disk_trim(disk, offset + done, count - done) : err;
}
