/* SPDX-License-Identifier: BSD-3-Clause */

/* Sockets that a service manager has opened and passed to us: see sd_listen_fds(3). */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "server/net/listeners.h"
#include "server/net/socket_kind.h"
#include "text/parse.h"
#include "text/reason.h"

#define PASSED_FIRST 3 /* number of the first descriptor that is passed (SD_LISTEN_FDS_START) */

static int get_socket_option(int fd, int option, int *value)
{
    socklen_t length = sizeof *value;
    return getsockopt(fd, SOL_SOCKET, option, value, &length) < 0 ? -errno : 0;
}

/* Check that fd is a listening stream socket, and set the flags that our own sockets have. */
static int adopt_socket(int fd)
{
    int is_listening = 0, type = 0;
    int r = get_socket_option(fd, SO_ACCEPTCONN, &is_listening);
    if (r == 0)
        r = get_socket_option(fd, SO_TYPE, &type);
    if (r < 0)
        return r;
    if (!is_listening || type != SOCK_STREAM)
        return -EINVAL;
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
        fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
        return -errno;
    return 0;
}

static int refuse_socket(int error, unsigned fd, struct reason *reason)
{
    if (error == -EBADF)
        return reason_set(reason, error, "descriptor %u, which LISTEN_FDS passes, is not open",
                          fd);
    if (error == -EINVAL || error == -ENOTSOCK)
        return reason_set(
            reason, error,
            "descriptor %u, which LISTEN_FDS passes, is not a listening stream socket", fd);
    return reason_set(reason, error, "descriptor %u: ", fd);
}

/* Take over all descriptors that were passed.  On an error, takes over none of them, and leaves
 * all of them open. */
static int adopt_sockets(struct listeners *listeners, struct reason *reason)
{
    const char *text = getenv("LISTEN_FDS");
    unsigned count;
    if (!text || parse_number(text, PARSE_DECIMAL, 1, LISTENERS_MAX, &count) < 0)
        return reason_set(reason, -EINVAL, "LISTEN_FDS=%s: must be a number from 1 to %d",
                          text ? text : "", LISTENERS_MAX);
    for (unsigned i = 0; i < count; i++) {
        int r = adopt_socket((int)(PASSED_FIRST + i));
        if (r < 0)
            return refuse_socket(r, PASSED_FIRST + i, reason);
    }
    for (unsigned i = 0; i < count; i++)
        listeners->fds[i] = (int)(PASSED_FIRST + i);
    listeners->count = count;
    return 0;
}

/* Remove the variables LISTEN_... from the environment.  They are meant for this process, and not
 * for the processes that it starts. */
static void forget_variables(void)
{
    static const char *const names[] = {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES",
                                        "LISTEN_PIDFDID"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        unsetenv(names[i]);
}

static int open_activated(const struct listen_options *options, struct listeners *listeners,
                          struct reason *reason)
{
    (void)options;
    int r = adopt_sockets(listeners, reason);
    forget_variables();
    return r;
}

/* This row has no address families.  A connection to a socket that was passed to us is a TCP,
 * Unix or vsock connection, so socket_kind_of_family returns the row of that kind. */
const struct socket_kind socket_activated = {
    .name = "activated",
    .is_passed = true,
    .open = open_activated,
};
