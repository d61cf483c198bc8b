/* SPDX-License-Identifier: BSD-3-Clause */

/* socket_kind - a table with one row for each way in which a client can reach the server
 *
 * A row holds everything that the server knows about a kind of socket.  socket_tcp.c,
 * socket_unix.c and so on define one row each.  Other code reads the fields of a row, and never
 * asks which row it is.
 *
 * To add a kind: write socket_NAME.c with its row, declare the row below, enter it in
 * socket_kind.c, and choose it with an option (cli/option_table.c).
 *
 * Rows are constant.  Any thread may call tune and name_peer.  Only the main thread calls the
 * other functions.
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

/* A pointer that is NULL, or a number that is 0, means that this kind of socket lacks the
 * feature. */
struct socket_kind {
    const char *name; /* the kind's name in messages */

    /* What the parser of the command line has to know about this kind of socket. */

    unsigned port_max;      /* the highest port number */
    bool has_service_names; /* the port may be given as the name of a service */
    bool has_addresses;     /* the server listens on addresses of this host */
    bool allows_tcp;        /* the server can listen on TCP at the same time */
    bool is_single;         /* no sockets: the only client is on standard input and output */
    bool is_passed;         /* the program that started us has opened the sockets */

    /* Listening. */

    /* Append listening descriptors to listeners->fds, and set port or the unix_... fields.
     * Returns 0, or -errno with a reason.  On an error the caller closes the descriptors in
     * listeners->fds, and this function undoes everything else. */
    int (*open)(const struct listen_options *options, struct listeners *listeners,
                struct reason *reason);

    /* Give the files that `open` has made to another user or group: see listen_give_away.  The
     * number -1 means no change. */
    int (*give_away)(const struct listeners *listeners, const struct user_ids *ids,
                     struct reason *reason);

    /* Remove the files that `open` has made.  Called while the descriptors are still open. */
    void (*before_close)(struct listeners *listeners);

    /* The following fields make the URI of a listening socket (uri.h).  `address` is the address
     * of that socket. */

    const char *scheme; /* what follows nbd or nbds in the scheme of the URI, e.g. "+unix" */

    /* Write the part of the URI of listeners->fds[i] between "://" and the path.  Returns 0, or
     * -errno if that part is not known. */
    int (*put_authority)(FILE *out, const struct listen_options *options,
                         const struct listeners *listeners, unsigned i,
                         const struct socket_address *address);

    /* Write the query of the URI, beginning with the question mark. */
    void (*put_query)(FILE *out, const struct socket_address *address);

    /* Connections. */

    /* The address families of this kind.  socket_kind_of_family reads them to find the kind of a
     * socket that was passed to us, or of a connection. */
    sa_family_t families[SOCKET_FAMILIES_MAX];

    /* Set the options of a connected socket.  Errors are ignored, because the socket works
     * without the options. */
    void (*tune)(int fd, bool keepalive);

    /* Write the name of a connected client into `name`, for log lines.  `address` is the address
     * of the client. */
    void (*name_peer)(int fd, const struct socket_address *address, char *name, size_t size);

    /* Write the name under which --max-per-peer counts a connection: see socket_name_holder. */
    void (*name_holder)(int fd, const struct socket_address *address, char *name, size_t size);
};

extern const struct socket_kind socket_tcp;       /* IPv4 and IPv6 */
extern const struct socket_kind socket_unix;      /* Unix sockets, whose addresses are files */
extern const struct socket_kind socket_vsock;     /* between a virtual machine and its host */
extern const struct socket_kind socket_activated; /* sockets that a service manager has passed */
extern const struct socket_kind socket_stdio;     /* standard input and output */

/* Find the kind of socket that has this address family.  Returns NULL if no kind has it. */
const struct socket_kind *socket_kind_of_family(sa_family_t family);

/* Write the name under which --max-per-peer counts a connection.  All connections of a peer have
 * the same name: "192.0.2.1", "2001:db8::1", "uid 1000" or "vsock 3".  If the peer has no such
 * name, it is counted as "unknown".  `name` is always terminated. */
void socket_name_holder(int fd, char *name, size_t size);

#endif
