/* SPDX-License-Identifier: BSD-3-Clause */

/* handshake - fixed newstyle negotiation, one option at a time
 *
 *     greeting ---> client flags ---> option ---> ... ---> GO, EXPORT_NAME ---> transmission
 *                        |              |  ^
 *                        |              |  '-- STARTTLS: everything negotiated is forgotten
 *                        v              v
 *                      close          close: ABORT, or something that has no answer
 *
 * Pure: a step takes bytes from a reader, puts its answer into a writer, and returns how the
 * caller has to go on.
 * Threads: a handshake belongs to one thread.
 *
 * NBD specification, "Fixed newstyle negotiation", "Option types".
 */

#ifndef NBDRAM_NBD_HANDSHAKE_H
#define NBDRAM_NBD_HANDSHAKE_H

#include <stddef.h>

#include "nbd/protocol.h"
#include "nbd/session.h"
#include "nbd/wire.h"

/* All sizes are in bytes. */
#define NBD_GREETING_SIZE 18u
#define NBD_OPTION_HEADER 16u
#define NBD_OPTION_MAX (64u << 10)   /* an option with more data is answered with "too big" */
#define NBD_OPTION_ABSURD (1u << 20) /* an option with more data ends the connection */
#define NBD_HANDSHAKE_IN (NBD_OPTION_HEADER + NBD_OPTION_MAX) /* input of one step, at most */
#define NBD_HANDSHAKE_OUT (2 * NBD_STRING_MAX + 256u)         /* output of one step, at most */

/* A handshake in progress.  The caller owns it; export, policy and session have to outlive it. */
struct nbd_handshake {
    const struct nbd_export *export;
    const struct nbd_policy *policy;
    struct nbd_session *session;
    bool has_flags;  /* the client's flags have arrived */
    bool no_zeroes;  /* the client wants no padding after EXPORT_NAME */
    uint32_t skip;   /* bytes of an answered option that have not arrived yet */
    bool closing;    /* the handshake is over as soon as `skip` is 0 */
    bool wanted_tls; /* an option was refused because TLS is required */
    /* The name of the export for which the client sent its last SET_META_CONTEXT. */
    uint32_t name_size;
    char name[NBD_STRING_MAX];
};

/* How the caller goes on. */
enum nbd_progress {
    NBD_MORE,         /* nothing was done: receive more bytes */
    NBD_AGAIN,        /* a step was made; the bytes left may be enough for another step */
    NBD_TLS,          /* send the answer, throw away the bytes left, and start TLS */
    NBD_TRANSMISSION, /* send the answer; the session is complete, and requests follow */
    NBD_CLOSE,        /* send the answer, and close */
};

/* Begin a handshake with an empty session.  Puts the greeting, NBD_GREETING_SIZE bytes, into
 * `out`. */
void nbd_handshake_begin(struct nbd_handshake *handshake, const struct nbd_export *export,
                         const struct nbd_policy *policy, struct nbd_session *session,
                         struct wire_writer *out);

/* Make one step with the bytes that have arrived: take some of them from `in`, and put the
 * answer, at most NBD_HANDSHAKE_OUT bytes, into `out`.  `in` may hold any number of bytes; if it
 * holds NBD_HANDSHAKE_IN or more, the result is never NBD_MORE.  If `out` has no room for the
 * answer, it fails, and the result is NBD_CLOSE. */
enum nbd_progress nbd_handshake_step(struct nbd_handshake *handshake, struct wire_reader *in,
                                     struct wire_writer *out);

#endif
