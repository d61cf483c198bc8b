/* SPDX-License-Identifier: BSD-3-Clause */

/* socket_kind - the ways in which a client can reach the server, one row each
 *
 * A row holds everything that the server knows about a kind of socket.  socket_tcp.c,
 * socket_unix.c and so on define one row each.  The rest of the server reads the row, and does
 * not ask which row it is.
 *
 * To add a kind: write socket_NAME.c with its row, declare the row below, enter it in
 * socket_kind.c, and choose it with an option (cli/option_table.c).
 *
 * Rows are constant.  Their functions are called by the main thread, except tune and name_peer,
 * which any thread may call.
 */

#ifndef NBDRAM_SERVER_NET_SOCKET_KIND_H
#define NBDRAM_SERVER_NET_SOCKET_KIND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/socket.h>

struct listen_options; /* server/net/listeners.h */
struct listeners;
struct reason;         /* text/reason.h */
struct socket_address; /* server/net/socket.h */
struct user_ids;       /* server/host/privileges.h */

#define SOCKET_FAMILIES_MAX 2

/* NULL in a pointer, or 0 in a number, means that this kind has no such thing. */
struct socket_kind {
    const char *name; /* the kind's name in messages */

    /* How the command line describes a socket of this kind. */

    unsigned port_max;      /* the highest port number */
    bool has_service_names; /* a port may be given as the name of a service */
    bool has_addresses;     /* the server listens on addresses of this host */
    bool is_single;         /* no sockets: the only client is on standard input and output */
    bool is_passed;         /* the program that started us has opened the sockets */

    /* Listening. */

    /* Append listening descriptors to listeners->fds, and set port or the unix_... fields.
     * Returns 0, or -errno with a reason.  On an error this function undoes everything, except
     * that it leaves the descriptors in listeners->fds open: the caller closes them. */
    int (*open)(const struct listen_options *options, struct listeners *listeners,
                struct reason *reason);

    /* Give the files that `open` has made to another user; see listen_give_away. */
    int (*give_away)(const struct listeners *listeners, const struct user_ids *ids,
                     struct reason *reason);

    /* Remove the files that `open` has made.  Called while the descriptors are still open. */
    void (*before_close)(struct listeners *listeners);

    /* The URI of a listening socket that is bound to address: see uri.h. */

    const char *scheme; /* the part of the URI's scheme that follows nbd or nbds, e.g. "+unix" */

    /* Write the part that follows "://", up to the path.  Returns 0, or -errno if that part is
     * not known. */
    int (*put_authority)(FILE *out, const struct listen_options *options,
                         const struct listeners *listeners, const struct socket_address *address);

    /* Write the query, from the question mark. */
    void (*put_query)(FILE *out, const struct socket_address *address);

    /* Connections. */

    /* The address families of this kind.  They determine the kind of a socket that was passed to
     * us, or is connected to a client. */
    sa_family_t families[SOCKET_FAMILIES_MAX];

    /* Set the options of a connected socket.  Errors are ignored, because the socket works
     * without the options. */
    void (*tune)(int fd, bool keepalive);

    /* Name the client behind a connected socket, for log lines; address is the client's. */
    void (*name_peer)(int fd, const struct socket_address *address, char *name, size_t size);

    /* Name the peer that holds the connection, for --max-per-peer: see socket_name_holder. */
    void (*name_holder)(int fd, const struct socket_address *address, char *name, size_t size);
};

extern const struct socket_kind socket_tcp;       /* IPv4 and IPv6 */
extern const struct socket_kind socket_unix;      /* a file */
extern const struct socket_kind socket_vsock;     /* between a virtual machine and its host */
extern const struct socket_kind socket_activated; /* passed by a service manager */
extern const struct socket_kind socket_stdio;     /* standard input and output */

/* The kind of socket that has this address family.  Returns NULL if no kind has it. */
const struct socket_kind *socket_kind_of_family(sa_family_t family);

/* Name the peer that holds a socket's connection, and that may hold other connections:
 * "192.0.2.1", "2001:db8::1", "uid 1000", "vsock 3".  The name is "unknown" if there is no other.
 * name is always terminated. */
void socket_name_holder(int fd, char *name, size_t size);

#endif
