/* SPDX-License-Identifier: BSD-3-Clause */

#include "server/net/listen.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "server/net/socket_kind.h"
#include "text/parse.h"
#include "text/reason.h"

/* The first descriptor that a service manager passes: sd_listen_fds(3). */
#define ACTIVATED_FIRST 3

int listen_bound(int family, const struct sockaddr *address, socklen_t length)
{
    static const int yes = 1;
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    int err = 0;
    if (family == AF_INET || family == AF_INET6)
        err = setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    /* IPv4 has a socket of its own. */
    if (!err && family == AF_INET6)
        err = setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &yes, sizeof yes);
    if (!err)
        err = bind(fd, address, length);
    bool made_file = !err && family == AF_UNIX;
    /* The kernel cuts the backlog down to the most that it allows. */
    if (!err)
        err = listen(fd, INT_MAX);
    if (!err)
        return fd;
    err = -errno;
    if (made_file)
        unlink(((const struct sockaddr_un *)(const void *)address)->sun_path);
    close(fd);
    return err;
}

/* Whether fd is a socket that clients can be accepted from; make it as our own are. */
static int adopt(int fd)
{
    int listening = 0, type = 0;
    socklen_t length = sizeof listening;
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &length) < 0)
        return -errno;
    length = sizeof type;
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) < 0)
        return -errno;
    if (!listening || type != SOCK_STREAM)
        return -EINVAL;
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
        fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
        return -errno;
    return 0;
}

static int listen_activated(struct listeners *listeners, struct reason *reason)
{
    const char *text = getenv("LISTEN_FDS");
    unsigned count = 0;
    int err = text ? parse_number(text, PARSE_DECIMAL, 1, LISTENERS_MAX, &count) : -EINVAL;
    if (err)
        return reason_set(reason, -EINVAL, "LISTEN_FDS=%s: must be a number from 1 to %d",
                          text ? text : "", LISTENERS_MAX);
    for (unsigned i = 0; i < count; i++) {
        err = adopt(ACTIVATED_FIRST + (int)i);
        if (err == -EINVAL || err == -ENOTSOCK || err == -EBADF)
            return reason_set(reason, err, "descriptor %u, which LISTEN_FDS passes, is %s",
                              ACTIVATED_FIRST + i,
                              err == -EBADF ? "not open" : "no listening stream socket");
        if (err)
            return reason_set(reason, err, "descriptor %u: ", ACTIVATED_FIRST + i);
    }
    for (unsigned i = 0; i < count; i++)
        listeners->fds[i] = ACTIVATED_FIRST + (int)i;
    listeners->count = count;
    return 0;
}

/* They were for this process, not for those that it starts. */
static void forget_activation(void)
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
    int r = listen_activated(listeners, reason);
    forget_activation();
    return r;
}

static int open_stdio(const struct listen_options *options, struct listeners *listeners,
                      struct reason *reason)
{
    (void)options;
    (void)listeners;
    (void)reason;
    return 0;
}

const struct socket_kind socket_activated = {
    .name = "activated",
    .open = open_activated,
    .is_passed = true,
};

const struct socket_kind socket_stdio = {
    .name = "stdio",
    .open = open_stdio,
    .is_single = true,
};

int listen_open(const struct listen_options *options, struct listeners *listeners,
                struct reason *reason)
{
    memset(listeners, 0, sizeof *listeners);
    int err = options->kind->open(options, listeners, reason);
    if (!err && listeners->count > 0) {
        listeners->uri = uri_of_listeners(options, listeners);
        /* Both are the URI since nbdkit 1.24. */
        listeners->nbd = listeners->uri ? strdup(listeners->uri) : NULL;
        if (!listeners->nbd)
            err = reason_set(reason, -ENOMEM, "cannot make the URI of the socket");
    }
    if (err)
        listen_close(listeners);
    return err;
}

void listen_close(struct listeners *listeners)
{
    for (unsigned i = 0; i < listeners->count; i++) {
        /* Also for copies of the descriptor, such as in a child that has not called exec yet. */
        if (listeners->unix_path)
            shutdown(listeners->fds[i], SHUT_RDWR);
    }
    listen_unix_remove(listeners);
    for (unsigned i = 0; i < listeners->count; i++)
        close(listeners->fds[i]);
    free(listeners->unix_path);
    free(listeners->unix_dir);
    free(listeners->uri);
    free(listeners->nbd);
    memset(listeners, 0, sizeof *listeners);
}
