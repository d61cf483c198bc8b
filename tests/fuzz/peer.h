/* SPDX-License-Identifier: BSD-3-Clause */

/* peer - the client's end of a connection, in the same thread as the server's
 *
 * The server's code runs as it is, from connection_step down; only the system calls on the one
 * descriptor, and GnuTLS, are played here (peer_calls.c): how many bytes a call moves, and
 * whether it is refused or interrupted first, comes from the fuzzer's input.  Steps are made as
 * loop.c makes them: only when something that connection_events waits for has happened.  So a
 * connection that waits for what never comes is a request without an answer.
 *
 *     wire   |  received  | pulled (TLS) |  may be received  |  held back  |
 *            0            at           pulled              open           size
 *
 * One peer at a time.
 */

#ifndef NBDRAM_TESTS_PEER_H
#define NBDRAM_TESTS_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/session/connection.h"

#define PEER_TURNS 8
#define PEER_NEVER SIZE_MAX

/* How many bytes the calls of one direction move, in turn.  0: "try again", 1: interrupted, up to
 * 127: a few bytes; up to 254: more; 255: all there are.  No two refusals follow each other. */
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
    size_t open;         /* may be received by now */
    size_t tls_at;       /* what stands from here on is only seen inside TLS; PEER_NEVER */
    enum peer_handshake handshake;
    bool reset;          /* the end of the wire is a reset, not an end of stream */
    unsigned sends_left; /* until the client vanishes; 0: it does not */

    /* the peer's own */
    struct worker worker; /* a loop's */
    struct connection *connection;
    size_t at, pulled;
    bool secure, flushing, waited; /* TLS: on, a record is held back, the handshake waited */
    bool closed, shut;             /* the descriptor */
    bool vanished;                 /* a send was told so */
    uint8_t *out;                  /* what the server sent */
    size_t out_size, out_room;
};

/* A client connects. */
void peer_connect(struct peer *peer);

/* Go on for as long as there is something to be done with what is open.  True: still
 * connected. */
bool peer_run(struct peer *peer);

/* The server stops. */
void peer_stop(struct peer *peer);

/* Whether the connection is over; nothing of it is looked at any more then. */
bool peer_is_closed(const struct peer *peer);

/* What the client sees last: everything is freed, the descriptor closed, once. */
void peer_leave(struct peer *peer);

/* For peer_calls.c: the peer at hand, or NULL. */
extern struct peer *peer_current;

/* The descriptor that the peer's connections have, one end of a pair of sockets. */
int peer_descriptor(void);

#endif
