/* SPDX-License-Identifier: BSD-3-Clause */

#include "server/host/process.h"

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The system call is made by its number, because C libraries older than that of Debian 12 lack
 * the function pidfd_open. */
int process_open(pid_t process)
{
    int fd = (int)syscall(SYS_pidfd_open, process, 0);
    return fd < 0 ? -errno : fd;
}
