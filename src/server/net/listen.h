/* SPDX-License-Identifier: BSD-3-Clause */

/* listen - the sockets that clients connect to
 *
 * Called by the main thread: listen_open before the process goes to the background, listen_close
 * at the end.  All sockets are close-on-exec, non-blocking and listening, with the longest backlog
 * that the system allows.
 */

#ifndef NBDRAM_SERVER_NET_LISTEN_H
#define NBDRAM_SERVER_NET_LISTEN_H

#include <stdbool.h>
#include <sys/types.h>

struct reason;      /* text/reason.h */
struct socket_kind; /* server/net/socket_kind.h */
struct user_names;  /* server/host/privileges.h */

#define LISTENERS_MAX 64
#define LISTEN_PORT_DEFAULT 10809 /* for TCP and vsock: IANA's number for NBD */

/* Where to listen.  A kind of socket looks only at the fields that it needs. */
struct listen_options {
    const struct socket_kind *kind;
    const char *unix_path;   /* "-": a new socket in a folder that nobody else can enter */
    const char *port;        /* decimal number (TCP: to 65535; vsock: to 2^32-2) or, for TCP, the
                              * name of a service; "0": any free port; NULL: the default */
    const char *address;     /* TCP: host name or address; NULL: both loopback addresses */
    int family;              /* TCP: AF_UNSPEC, AF_INET or AF_INET6 */
    const char *export_name; /* for the URI; NULL: "" */
    bool is_tls_required;    /* for the URI: nbds instead of nbd */
};

/* What listen_open has opened. */
struct listeners {
    int fds[LISTENERS_MAX];
    unsigned count;
    char *unix_path; /* the socket's file, which listen_close removes; or NULL */
    dev_t unix_device;
    ino_t unix_inode; /* of that file, by which it is recognized */
    char *unix_dir;   /* the folder made for unix_path "-", which listen_close removes; or NULL */
    unsigned port;    /* the TCP or vsock port that is bound; 0: neither */
    char *uri;        /* how to connect to the first socket, by the NBD URI standard; with the
                       * export name, percent-encoded where the standard wants that */
    char *nbd;        /* the same: nbdkit has called it $nbd, too, since 1.24 */
};

/* Open the sockets that options describe.  A Unix socket is one socket.  TCP is one socket for
 * each address that the name has (IPv4 and IPv6), all with the same port.  Socket activation takes
 * over the LISTEN_FDS descriptors from 3, and removes its variables from the environment.
 * Standard input and output need no socket: nothing is opened.
 *
 * A Unix socket's file on which nobody listens any more is replaced.  It is an error if another
 * server listens on it, or if the file is not a socket.
 *
 * Returns 0, or -errno with a reason; then nothing is left open, and no file is left. */
int listen_open(const struct listen_options *options, struct listeners *listeners,
                struct reason *reason);

/* Give the folder made for unix_path "-", and the socket in it, to another user, so that the
 * process can remove them after it has become that user.  Elsewhere a socket stays ours: between
 * its creation and the change of owner somebody could put another file in its place.  NULL: not
 * given.  Returns 0, or -errno with a reason. */
int listen_give_away(const struct listeners *listeners, const struct user_names *names,
                     struct reason *reason);

/* Close the sockets, and remove the file and the folder that listen_open made, unless others have
 * taken their place by now. */
void listen_close(struct listeners *listeners);

#endif
