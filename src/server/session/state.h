/* SPDX-License-Identifier: BSD-3-Clause */

/* state - all data that the server keeps for one client
 *
 * This file has structs only.  The functions are in the other files of this folder.  connection.h
 * shows how one state follows another.
 *
 * These rules hold whenever no function is working on the connection.  connection_check verifies
 * them:
 *
 *     1  In HANDSHAKE and TLS there is a handshake, and in TRANSMISSION there is none.
 *     2  A buffer that has memory has bytes left.
 *     3  unread_ready means that there are unread bytes.
 *     4  While a payload job is active, nothing is unread, and no zero job is active.
 *     5  An active payload job is not complete.  Its request is a write, or was refused.
 *     6  An active zero job is not complete.
 *     7  `waiting` exists if waiting_count is not 0; waiting_count is at most SCRATCH_READS.
 *     8  The unsent data of a waiting read are the last part of its range, and not empty.
 *        Only the first waiting read may have promised bytes, and all of these are unsent.
 *     9  At most PARK_JOBS_MAX requests are parked, and none of them in HANDSHAKE, TLS and
 *        LINGERING.  No more requests have finished than are parked.
 *    10  If a part of the payload job or of the zero job is parked, that job is active, and the
 *        state is not TRANSMISSION.
 *    11  In HELD, at least one request is parked.
 *
 * Threads: see connection.h.
 */

#ifndef NBDRAM_SERVER_SESSION_STATE_H
#define NBDRAM_SERVER_SESSION_STATE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "nbd/command.h"
#include "nbd/session.h"
#include "server/net/transport.h"
#include "server/session/buffer.h"
#include "server/session/park.h"
#include "server/session/service.h"
#include "server/session/worker.h"

enum connection_state {
    CONNECTION_HANDSHAKE,    /* options are negotiated */
    CONNECTION_TRANSMISSION, /* requests are carried out */
    CONNECTION_TLS,          /* the TLS handshake is in progress, or will begin */
    CONNECTION_HELD,         /* parked requests have to return first; nothing is received */
    CONNECTION_DRAINING,     /* nothing more is received, but replies still go out */
    CONNECTION_LINGERING,    /* nothing more is sent, and bytes that arrive are thrown away */
    CONNECTION_CLOSED,       /* the connection has ended, and the loop will free it */
};

/* A request whose payload is still arriving.  The request is a write, or it was refused. */
struct payload_job {
    struct nbd_request request;
    uint64_t at; /* number of bytes of the payload that have arrived */
    int error;   /* 0, or -errno; after an error the rest is thrown away */
    bool active;
    bool is_parked; /* the park writes the bytes that arrived last */
};

/* A trim or a write zeroes of a long range.  It is carried out slice by slice. */
struct zero_job {
    struct nbd_request request;
    uint64_t at;    /* number of bytes that are zeroed or trimmed already */
    uint64_t slice; /* length of the next slice, in bytes */
    bool active;
    bool is_parked; /* the park carries out the rest of the last slice */
};

struct connection {
    const struct service *service;
    struct worker *worker; /* the worker of the connection's loop */
    struct transport transport;
    enum connection_state state;
    bool wants_turn; /* the last turn ended before all work was done */

    struct nbd_session session;
    struct nbd_handshake *handshake; /* owned by the connection; NULL after the handshake */

    /* Receiving. */
    struct buffer unread; /* bytes that were received, but not processed yet */
    bool unread_ready;    /* the unread bytes can be processed without receiving more */
    bool bulk; /* the last request had a large payload; the next one probably has, too */
    struct payload_job payload;
    struct zero_job zeroing;
    struct park_owner parked; /* requests, and parts of `payload` and `zeroing`, that must wait */

    bool answered_late; /* a request or an option was answered while the server was stopping */

    /* Sending. */
    struct buffer unsent;     /* bytes to send before all others */
    struct read_job *waiting; /* reads whose replies are not completely sent; owned */
    unsigned waiting_count;

    /* Only loop.c uses the fields below. */
    TAILQ_ENTRY(connection) link;        /* place in loop->arrived, ->connections or ->ended */
    TAILQ_ENTRY(connection) in_line;     /* place in *line; not valid if `line` is NULL */
    TAILQ_ENTRY(connection) by_deadline; /* place in *deadlines; not valid if deadlines is NULL */
    struct connection_list *line; /* loop->line, loop->newcomers, or NULL if it does not wait */
    unsigned costly_turns;        /* number of turns in a row that took more than TURN_CHEAP_NS */
    struct connection_list *deadlines; /* loop->handshaking or loop->idling; NULL: no deadline */
    int64_t deadline;  /* time of os_clock_ms when the connection will be closed */
    struct peer *peer; /* the peer for --max-per-peer; NULL: peers are not counted */
    uint32_t watched_in, watched_out; /* the events for which epoll watches the descriptors */
};

TAILQ_HEAD(connection_list, connection);

#endif
