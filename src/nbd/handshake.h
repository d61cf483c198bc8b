/* SPDX-License-Identifier: BSD-3-Clause */

/* handshake - fixed newstyle negotiation, one option at a time
 *
 *     greeting ---> client flags ---> option ---> ... ---> GO, EXPORT_NAME ---> transmission
 *                        |              |  ^
 *                        | unknown      |  '-- STARTTLS: everything negotiated is forgotten
 *                        v              v
 *                      close          close: after ABORT, or if no answer is possible
 *
 * The functions do no input or output.  Each call of nbd_handshake_step takes the flags or one
 * option from a reader, and puts the answer into a writer.  The result says what the caller has
 * to do next.
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

/* The sizes below are in bytes. */
#define NBD_GREETING_SIZE 18u
#define NBD_OPTION_HEADER 16u
/* An option with more data than this is refused with NBD_REP_ERR_TOO_BIG. */
#define NBD_OPTION_MAX (64u << 10)
/* An option with more data than this ends the connection. */
#define NBD_OPTION_ABSURD (1u << 20)
/* The most bytes of input that one call of nbd_handshake_step needs. */
#define NBD_HANDSHAKE_IN (NBD_OPTION_HEADER + NBD_OPTION_MAX)
/* The most bytes of output that one call of nbd_handshake_step makes. */
#define NBD_HANDSHAKE_OUT (2 * NBD_STRING_MAX + 256u)

/* The state of a handshake.  The caller owns this struct.  The objects of the first three
 * pointers have to exist as long as the handshake. */
struct nbd_handshake {
    const struct nbd_export *export;
    const struct nbd_policy *policy;
    struct nbd_session *session;
    bool has_flags;  /* the client's flags have arrived */
    bool no_zeroes;  /* the client wants no zeroes after the reply to EXPORT_NAME */
    uint32_t skip;   /* number of bytes of an answered option that have yet to arrive */
    bool closing;    /* an ABORT was answered: close the connection once `skip` is 0 */
    bool wanted_tls; /* an option was refused, because TLS has to begin first */
    /* The name of the export in the last SET_META_CONTEXT of the client. */
    uint32_t name_size;
    char name[NBD_STRING_MAX];
};

/* The result of nbd_handshake_step, which says what the caller has to do next. */
enum nbd_progress {
    NBD_MORE,         /* receive more bytes; the next option is not complete */
    NBD_AGAIN,        /* call nbd_handshake_step again; more options may be in `in` */
    NBD_TLS,          /* send the answer, drop all bytes in `in`, and start TLS */
    NBD_TRANSMISSION, /* send the answer; the handshake is complete; requests follow */
    NBD_CLOSE,        /* send the answer, and close the connection */
};

/* Begin a handshake.  Resets the session, and puts the greeting into `out`.  The greeting has
 * NBD_GREETING_SIZE bytes. */
void nbd_handshake_begin(struct nbd_handshake *handshake, const struct nbd_export *export,
                         const struct nbd_policy *policy, struct nbd_session *session,
                         struct wire_writer *out);

/* Take the client's flags, or one option, from `in`, and put the answer into `out`.  If the next
 * option is not complete, nothing is taken.  If the option is too long, it is answered at once,
 * and later calls take the rest of it.  The answer has at most NBD_HANDSHAKE_OUT bytes.  `in` may
 * hold any number of bytes.  If `in` holds at least NBD_HANDSHAKE_IN bytes, the result is never
 * NBD_MORE.  If the answer does not fit into `out`, the result is NBD_CLOSE. */
enum nbd_progress nbd_handshake_step(struct nbd_handshake *handshake, struct wire_reader *in,
                                     struct wire_writer *out);

#endif
