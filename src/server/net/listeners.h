/* SPDX-License-Identifier: BSD-3-Clause */

/* listeners - where to listen, and the sockets that listen
 *
 * Plain data: listen.h has the functions.  The main thread owns both structs.
 */

#ifndef NBDRAM_SERVER_NET_LISTENERS_H
#define NBDRAM_SERVER_NET_LISTENERS_H

#include <stdbool.h>
#include <sys/types.h>

struct socket_kind; /* server/net/socket_kind.h */

#define LISTENERS_MAX 64
#define LISTEN_PORT_DEFAULT 10809 /* TCP and vsock: IANA's number for NBD */

/* Where to listen.  A kind of socket reads only the fields that it needs. */
struct listen_options {
    const struct socket_kind *kind;
    const char *unix_path;   /* "-": a new socket in a folder that nobody else can enter */
    const char *port;        /* a number, or a service name if the kind has such names; "0": any
                              * free port; NULL: the default */
    const char *address;     /* TCP: host name or address; NULL: both loopback addresses */
    int family;              /* TCP: AF_UNSPEC, AF_INET or AF_INET6 */
    const char *export_name; /* for the URI; NULL: "" */
    bool is_tls_required;    /* for the URI: nbds instead of nbd */
};

/* What listen_open has opened. */
struct listeners {
    const struct socket_kind *kind; /* NULL: listen_open has not been called */
    int fds[LISTENERS_MAX];
    unsigned count;
    unsigned port;   /* the TCP or vsock port that is bound; 0: no such socket is bound */
    char *unix_path; /* the socket's file, which listen_close removes; or NULL */
    dev_t unix_device;
    ino_t unix_inode; /* with unix_device, identifies the file at unix_path */
    char *unix_dir;   /* the folder made for unix_path "-", which listen_close removes; or NULL */
    char *uri;        /* how to connect to the first socket (uri.h); NULL: there is no socket */
};

#endif
