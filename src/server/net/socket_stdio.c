/* SPDX-License-Identifier: BSD-3-Clause */

/* Standard input and output: one client, whose connection has two descriptors. */

#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "server/net/socket_kind.h"
#include "text/reason.h"

/* Check that epoll accepts a descriptor.  Epoll refuses plain files and some devices, such as the
 * null device. */
static int check_stream(int fd, const char *name, struct reason *reason)
{
    struct epoll_event event = {.events = EPOLLIN};
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0)
        return reason_set(reason, -errno, "-s: ");
    int r = epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
    close(epoll);
    if (r < 0)
        return reason_set(reason, r,
                          "-s: %s is a file or a device: sockets and pipes are accepted", name);
    return 0;
}

static int open_stdio(const struct listen_options *options, struct listeners *listeners,
                      struct reason *reason)
{
    (void)options;
    (void)listeners;
    int r = check_stream(STDIN_FILENO, "standard input", reason);
    return r < 0 ? r : check_stream(STDOUT_FILENO, "standard output", reason);
}

const struct socket_kind socket_stdio = {
    .name = "stdio",
    .is_single = true,
    .open = open_stdio,
};
