/* SPDX-License-Identifier: BSD-3-Clause */

/* handshake - fixed newstyle negotiation, one option at a time
 *
 *     greeting ---> client flags ---> option ---> ... ---> GO, EXPORT_NAME ---> transmission
 *                        |              |  ^
 *                        | unknown      |  '-- STARTTLS: everything negotiated is forgotten
 *                        v              v
 *                      close          close: after ABORT, or if no answer is possible
 *
 * The functions are pure.  A step takes bytes from a reader, puts the answer into a writer, and
 * returns what the caller has to do next.
 *
 * Threads: a handshake belongs to one thread.
 *
 * Source: NBD specification, "Fixed newstyle negotiation", "Option types".
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
#define NBD_OPTION_MAX (64u << 10) /* an option with more data than this is refused as too big */
#define NBD_OPTION_ABSURD (1u << 20) /* an option with more data than this ends the connection */
#define NBD_HANDSHAKE_IN (NBD_OPTION_HEADER + NBD_OPTION_MAX) /* the longest input of a step */
#define NBD_HANDSHAKE_OUT (2 * NBD_STRING_MAX + 256u)         /* the longest output of a step */

/* A handshake in progress.  The caller owns the handshake.  `export`, `policy` and `session` have
 * to outlive it. */
struct nbd_handshake {
    const struct nbd_export *export;
    const struct nbd_policy *policy;
    struct nbd_session *session;
    bool has_flags;  /* the client's flags have arrived */
    bool no_zeroes;  /* the client wants no padding after EXPORT_NAME */
    uint32_t skip;   /* bytes to throw away when they arrive: the rest of an answered option */
    bool closing;    /* NBD_CLOSE follows as soon as `skip` is 0 */
    bool wanted_tls; /* an option was refused because TLS is required */
    /* The name of the export for which the client sent its last SET_META_CONTEXT. */
    uint32_t name_size;
    char name[NBD_STRING_MAX];
};

/* What the caller has to do after a step. */
enum nbd_progress {
    NBD_MORE,         /* receive more bytes: there are too few for a step */
    NBD_AGAIN,        /* make another step: the bytes left may be enough for it */
    NBD_TLS,          /* send the answer, throw the bytes left away, and start TLS */
    NBD_TRANSMISSION, /* send the answer; the session is complete, and requests follow */
    NBD_CLOSE,        /* send the answer, and close the connection */
};

/* Begin a handshake.  Resets the session, and puts the greeting (NBD_GREETING_SIZE bytes) into
 * `out`. */
void nbd_handshake_begin(struct nbd_handshake *handshake, const struct nbd_export *export,
                         const struct nbd_policy *policy, struct nbd_session *session,
                         struct wire_writer *out);

/* Make one step: take some of the bytes in `in`, and put the answer, at most NBD_HANDSHAKE_OUT
 * bytes, into `out`.  `in` may hold any number of bytes.  If `in` holds NBD_HANDSHAKE_IN bytes or
 * more, the result is never NBD_MORE.  If `out` has no room for the answer, the result is
 * NBD_CLOSE. */
enum nbd_progress nbd_handshake_step(struct nbd_handshake *handshake, struct wire_reader *in,
                                     struct wire_writer *out);

#endif
