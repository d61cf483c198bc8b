/* SPDX-License-Identifier: BSD-3-Clause */

/* Calls that read or write: of sockets and pipes ("streams"), and of files ("files").  Only those
 * of non-blocking descriptors fail with EAGAIN. */

#include "shim.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static const char *family_of(int fd)
{
    struct stat status;
    if (fstat(fd, &status) < 0)
        return "";
    return S_ISSOCK(status.st_mode) || S_ISFIFO(status.st_mode) ? "streams"
           : S_ISREG(status.st_mode)                            ? "files"
                                                                : "";
}

static bool can_fail(int fd)
{
    return shim_kind != FAIL || shim_number != EAGAIN || (fcntl(fd, F_GETFL) & O_NONBLOCK);
}

static size_t size_of(const struct iovec *iov, int count)
{
    size_t size = 0;
    for (int i = 0; i < count; i++)
        size += iov[i].iov_len;
    return size;
}

/* Make the vectors for a call with fewer bytes.  Returns their number. */
static int cut(const struct iovec *iov, int count, struct iovec *less)
{
    size_t size = size_of(iov, count), left = shim_kind == ONE_BYTE || size == 1 ? 1 : size - 1;
    int n = 0;
    for (; n < count && left > 0; n++) {
        less[n] = iov[n];
        if (less[n].iov_len > left)
            less[n].iov_len = left;
        left -= less[n].iov_len;
    }
    return n;
}

typedef ssize_t move_fn(int fd, const struct iovec *iov, int count);

static ssize_t move(move_fn *real, const char *name, const void *caller, int fd,
                    const struct iovec *iov, int count)
{
    struct iovec less[IOV_MAX];
    if (!shim_control || size_of(iov, count) == 0 || !can_fail(fd) ||
        !shim_hits(family_of(fd), name, caller))
        return real(fd, iov, count);
    if (shim_kind != FAIL)
        return real(fd, less, cut(iov, count, less));
    shim_fails_with(EIO);
    return -1;
}

#define WRAP_VECTOR(function)                                                                    \
    ssize_t function(int fd, const struct iovec *iov, int count)                                 \
    {                                                                                            \
        REAL(function);                                                                          \
        return move(real, #function, CALLER, fd, iov, count);                                    \
    }
#define WRAP_BYTES(function, type)                                                               \
    static ssize_t function##_one(int fd, const struct iovec *iov, int count)                    \
    {                                                                                            \
        REAL(function);                                                                          \
        return count == 0 ? 0 : real(fd, iov->iov_base, iov->iov_len);                           \
    }                                                                                            \
    ssize_t function(int fd, type bytes, size_t size)                                            \
    {                                                                                            \
        struct iovec iov = {(void *)(uintptr_t)bytes, size};                                     \
        return move(function##_one, #function, CALLER, fd, &iov, 1);                             \
    }

WRAP_VECTOR(readv)
WRAP_VECTOR(writev)
WRAP_BYTES(read, void *)
WRAP_BYTES(write, const void *)
