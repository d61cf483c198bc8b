/* SPDX-License-Identifier: BSD-3-Clause */

/* listeners - the options for listening, and the sockets that listen_open opens
 *
 * The functions for these structs are in listen.h.  The main thread owns both structs.
 */

#ifndef NBDRAM_SERVER_NET_LISTENERS_H
#define NBDRAM_SERVER_NET_LISTENERS_H

#include <stdbool.h>
#include <sys/types.h>

struct socket_kind; /* server/net/socket_kind.h */

#define LISTENERS_MAX 64
#define LISTEN_PORT_DEFAULT 10809 /* the port that IANA has assigned to NBD */

#define LISTEN_ADDRESSES_MAX 16

/* Host names or addresses of this machine. */
struct listen_addresses {
    unsigned count;
    const char *names[LISTEN_ADDRESSES_MAX];
};

/* Where to listen.  A kind of socket reads only the fields that it needs. */
struct listen_options {
    const struct socket_kind *kind;
    const struct socket_kind
        *second;              /* a kind to listen on, too, which makes no files; NULL: none */
    const char *unix_path;    /* path of the Unix socket; "-": a path in a new private folder */
    mode_t socket_mode;       /* mode of the Unix socket's file; 0: as the umask says */
    const char *socket_group; /* group of the Unix socket's file; NULL: see listen_give_away */
    const char *port;         /* port number, or a service name if kind->has_service_names;
                              * "0": any free port; NULL: LISTEN_PORT_DEFAULT */
    struct listen_addresses addresses; /* for TCP; none: both loopback addresses */
    int family;                        /* for TCP: AF_UNSPEC, AF_INET or AF_INET6 */
    const char *export_name;           /* name of the export in the URI; NULL: "" */
    bool is_tls_required;              /* whether the URI begins with nbds instead of nbd */
};

/* What listen_open has opened. */
struct listeners {
    const struct socket_kind *kind; /* kind of the sockets; NULL: listen_open was not called */
    int fds[LISTENERS_MAX];
    const char *hosts[LISTENERS_MAX]; /* for TCP: the one of `addresses` for fds[i]; NULL: none */
    unsigned count;
    unsigned port;   /* port of the TCP or vsock socket; 0: there is no such socket */
    char *unix_path; /* path of the Unix socket's file; NULL: there is no file */
    dev_t unix_device;
    ino_t unix_inode; /* inode number of the file at unix_path, on unix_device */
    char *unix_dir;   /* the folder that was made for unix_path "-"; NULL: none */
    char *uris
        [LISTENERS_MAX]; /* the different URIs (uri.h); the first is that of the first socket */
    unsigned uri_count;
};

#endif
