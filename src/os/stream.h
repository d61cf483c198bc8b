/* SPDX-License-Identifier: BSD-3-Clause */

/* os/stream - read from or write to a descriptor, in one system call
 *
 * os_stream_read is readv, and os_stream_write is writev.  Both return the number of bytes, or -1
 * with errno set.  count is at least 1.  If count is 1, they call read or write instead, so that
 * the kernel need not copy the vector.
 *
 * The vectors may point to memory that the disk lends.  Other threads may write to this memory
 * meanwhile; bytes.h says why that is harmless.  The thread sanitizer replaces readv and writev,
 * and would report a race there.  So builds with the thread sanitizer make the system calls
 * directly.  The sanitizer then does not know that a thread that reads from a socket comes after
 * the thread that wrote to the other end.  Our threads do not depend on this order.
 *
 * THREADS.  Any thread may call these functions.
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
