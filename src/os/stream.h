/* SPDX-License-Identifier: BSD-3-Clause */

/* os/stream - bytes to and from a descriptor, in one system call
 *
 * As readv and writev of one or more vectors; the kernel need not copy a single one in.  What the
 * vectors point to may be lent by the disk, and written by others meanwhile, as bytes.h says of
 * pages.  The thread sanitizer takes what passes its own readv for an access of ours, so there it
 * is gone around; the calling thread orders nothing by these.  Any thread may call them.
 */

#ifndef NBDRAM_OS_STREAM_H
#define NBDRAM_OS_STREAM_H

#include <sys/uio.h>
#include <unistd.h>

#include "os/sanitizer.h"

#ifdef NBDRAM_TSAN

#include <sys/syscall.h>

static inline ssize_t os_stream_read(int fd, const struct iovec *iov, int count)
{
    return syscall(SYS_readv, fd, iov, count);
}

static inline ssize_t os_stream_write(int fd, const struct iovec *iov, int count)
{
    return syscall(SYS_writev, fd, iov, count);
}

#else

static inline ssize_t os_stream_read(int fd, const struct iovec *iov, int count)
{
    return count == 1 ? read(fd, iov->iov_base, iov->iov_len) : readv(fd, iov, count);
}

static inline ssize_t os_stream_write(int fd, const struct iovec *iov, int count)
{
    return count == 1 ? write(fd, iov->iov_base, iov->iov_len) : writev(fd, iov, count);
}

#endif

#endif
