/* SPDX-License-Identifier: BSD-3-Clause */

/* connection - one client, from its first byte to its last
 *
 *                accept
 *                  |
 *                  v
 *     .------ HANDSHAKE <-----------------.
 *     |        |     |  STARTTLS          | complete
 *     |        |     '--------> TLS ------'
 *     |  GO,   |                 |
 *     |  EXPORT_NAME             | refused
 *     |        v                 |
 *     |   TRANSMISSION           |         end of stream, error, idle when the server stops:
 *     |        |                 |         from everywhere
 *     | ABORT  | DISC, lost step |                          |
 *     v        v                 v                          |
 *      DRAINING ----------> CLOSED <------------------------'
 *            all was sent      ^
 *                              '-- LINGERING <-- from wherever something was answered while
 *                   end of stream                the server stops
 *
 *     STATE         FUNCTION           WHAT IS TRUE
 *     HANDSHAKE     handshake_receive  `handshake` is there; in loop->greeting, with a deadline
 *     TLS           tls_step           nothing is kept of what came in before; deadline goes on
 *     TRANSMISSION  requests_receive   `session` is constant, but for shutting_down
 *     DRAINING      replies_resume     nothing more is looked at; replies go out
 *     LINGERING     linger             our side is shut; what comes in is thrown away, so that
 *                                      the system does not reset the connection over our answers
 *     CLOSED        -                  the loop frees it after this round of events
 *
 * While replies wait because the client does not take them (`unsent`, `waiting`), nothing is
 * received: a client that does not read costs what it has sent in one piece, and what of the
 * replies was put together already, both bounded by struct scratch.
 *
 * Everything here is the loop thread's alone.
 */

#ifndef NBDRAM_SERVER_SESSION_CONNECTION_H
#define NBDRAM_SERVER_SESSION_CONNECTION_H

#include <stdint.h>
#include <sys/queue.h>
#include <sys/uio.h>

#include "nbd/command.h"
#include "nbd/handshake.h"
#include "nbd/session.h"
#include "server/session/buffer.h"
#include "server/session/loop.h"
#include "server/net/transport.h"

enum connection_state {
    CONNECTION_HANDSHAKE,
    CONNECTION_TLS,
    CONNECTION_TRANSMISSION,
    CONNECTION_DRAINING,
    CONNECTION_LINGERING,
    CONNECTION_CLOSED,
};

/* A read on its way out.  In one piece (simple replies, DF) or chunk by chunk. */
struct read_job {
    struct nbd_request request;
    uint64_t offset, left; /* what is still to be sent */
    uint64_t promised;     /* bytes of it that belong to a header that was sent already */
};

/* A payload on its way in, longer than what has come of it yet. */
struct payload_job {
    struct nbd_request request;
    uint64_t at; /* bytes of the payload that have come */
    int error;   /* what it will be answered with; not 0: the rest is thrown away */
    bool active;
};

/* A trim or write zeroes of a long range, done slice by slice. */
struct zero_job {
    struct nbd_request request;
    uint64_t at, slice; /* bytes: done, and to be done next */
    bool active;
};

struct connection {
    struct server *server;
    struct loop *loop;
    TAILQ_ENTRY(connection) link;     /* in loop->connections, arrived or ended */
    TAILQ_ENTRY(connection) greeting; /* in loop->greeting, until transmission */
    struct transport transport;
    enum connection_state state;
    bool turn_over; /* the last step ended so that others have their turn: go on at once */
    uint32_t events_in, events_out; /* what epoll watches the descriptors for */

    struct nbd_session session;
    struct nbd_handshake *handshake; /* until transmission */
    int64_t deadline;                /* of the handshake, milliseconds of the loop's clock */

    /* in */
    struct buffer unread; /* received, not yet looked at */
    bool unread_ready;  /* ... for lack of room for replies, not for lack of bytes */
    bool bulk;          /* the last request carried a large payload: the next may, too */
    struct payload_job payload;
    struct zero_job zero;

    bool answered_late; /* something, while the server is stopping */

    /* out */
    struct buffer unsent;
    struct read_job *waiting; /* reads that were accepted and not wholly sent */
    unsigned waiting_count;
};

/* What one step of one connection needs, lent by its loop. */
#define SCRATCH_IN (160u << 10)   /* received in one piece */
#define SCRATCH_OUT (256u << 10)  /* headers, status, what is decompressed */
#define SCRATCH_READS 512u        /* reads taken in before replies go out */
#define SCRATCH_VECTORS 1024u     /* IOV_MAX */
#define SCRATCH_LENT (512u << 10) /* bytes sent in one piece */

_Static_assert(SCRATCH_IN >= NBD_HANDSHAKE_IN, "an option may never come to its end");

struct scratch {
    struct iovec vectors[SCRATCH_VECTORS];
    struct read_job reads[SCRATCH_READS];
    unsigned read_count;
    size_t out_used;
    uint8_t out[SCRATCH_OUT];
    uint8_t in[SCRATCH_IN];
};

static inline uint8_t *out_end(struct scratch *scratch)
{
    return scratch->out + scratch->out_used;
}

static inline void out_ends_at(struct scratch *scratch, const uint8_t *end)
{
    scratch->out_used = (size_t)(end - scratch->out);
}

/* Make a connection over descriptors, and its greeting, which goes out with the first step.
 * -errno: the descriptors stay the caller's.  Called by the main thread. */
int connection_create(struct server *server, int in, int out, struct connection **connection);

/* Close and free. */
void connection_destroy(struct connection *connection);

/* Bytes that are its own, about, what it needed for its handshake included. */
size_t connection_memory(const struct connection *connection);

/* Go as far as can be gone without waiting, but not for longer than others can wait. */
void connection_step(struct connection *connection);

/* The server is stopping: answer what has come in already, and drain. */
void connection_stop(struct connection *connection);

/* Put what was kept to the front of scratch->in and, unless that is ready to be looked at,
 * receive up to want bytes behind it.  Returns how many are there, of which *came were received
 * now; -ENOTCONN at the end of the stream, or what transport_receive answers. */
ssize_t connection_receive(struct connection *connection, size_t want, size_t *came);

/* What to wait for: EPOLLIN on transport.in, EPOLLOUT on transport.out. */
uint32_t connection_events(const struct connection *connection);

#endif
