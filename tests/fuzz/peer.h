/* SPDX-License-Identifier: BSD-3-Clause */

/* peer - the client's end of a connection, in the same thread as the server's
 *
 * The server's code below connection_step runs unchanged.  Only the system calls for its
 * descriptor, and those of GnuTLS, are replaced (peer_calls.c): how many bytes a call moves, and
 * whether it returns EAGAIN or EINTR first, comes from the fuzzer's input.  Steps are made as
 * loop.c makes them: only when something has happened that connection_events waits for.  So if a
 * connection waits for something that never comes, a request remains without a reply.
 *
 *     wire   |  received  | pulled (TLS) |  may be received  |  held back  |
 *            0            at           pulled              open           size
 *
 * There is one peer at a time.
 */

#ifndef NBDRAM_TESTS_PEER_H
#define NBDRAM_TESTS_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/session/connection.h"

#define PEER_TURNS 8
#define PEER_NEVER SIZE_MAX

/* How many bytes the calls of one direction move, one after the other.  0: EAGAIN; 1: EINTR; to
 * 127: a few bytes; to 254: more; 255: all.  Two calls in a row never move nothing. */
struct peer_turns {
    uint8_t sizes[PEER_TURNS];
    unsigned next;
    bool refused;
};

enum peer_handshake { PEER_TLS_GOOD, PEER_TLS_READS, PEER_TLS_WRITES, PEER_TLS_FAILS };

struct peer {
    /* set by the target */
    struct service service; /* disk, export, policy, log */
    struct peer_turns receives, sends;
    const uint8_t *wire; /* what the client sends */
    size_t size;         /* of wire */
    size_t open;         /* how much the server may receive now */
    size_t tls_at;       /* bytes from here are sent inside TLS; or PEER_NEVER */
    enum peer_handshake handshake;
    bool reset;          /* the wire ends with a reset, not with an end of the stream */
    unsigned sends_left; /* sends until the client vanishes; 0: it does not */

    /* used by the peer */
    struct worker worker; /* of a loop */
    struct connection *connection;
    size_t at, pulled;
    bool secure, flushing,
        waited;        /* TLS is on; a record is held back; the handshake had to wait */
    bool closed, shut; /* what happened to the descriptor */
    bool vanished;     /* a send has failed because of that */
    uint8_t *out;      /* what the server sent */
    size_t out_size, out_room;
};

/* A client connects. */
void peer_connect(struct peer *peer);

/* Make steps as long as the open bytes allow.  True: still connected. */
bool peer_run(struct peer *peer);

/* The server stops. */
void peer_stop(struct peer *peer);

/* Is the connection over?  Then it must not be used any more. */
bool peer_is_closed(const struct peer *peer);

/* End the connection: everything has to be freed, and the descriptor closed once. */
void peer_leave(struct peer *peer);

/* For peer_calls.c: the current peer, or NULL. */
extern struct peer *peer_current;

/* The descriptor of the connections: one end of a pair of sockets. */
int peer_descriptor(void);

#endif
