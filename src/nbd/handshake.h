/* SPDX-License-Identifier: BSD-3-Clause */

/* handshake - fixed newstyle negotiation, one option at a time
 *
 * NBD specification, "Fixed newstyle negotiation", "Option types".  Pure: bytes come in, bytes go
 * out, and the caller is told how to go on.
 *
 *     greeting ---> client flags ---> option ---> ... ---> GO, EXPORT_NAME ---> transmission
 *                        |              |  ^
 *                        |              |  '-- STARTTLS: all that was agreed on is forgotten
 *                        v              v
 *                      close          close: ABORT, or what cannot be answered
 */

#ifndef NBDRAM_NBD_HANDSHAKE_H
#define NBDRAM_NBD_HANDSHAKE_H

#include <stddef.h>

#include "nbd/protocol.h"
#include "nbd/session.h"
#include "nbd/wire.h"

#define NBD_OPTION_HEADER 16u
#define NBD_OPTION_MAX (64u << 10)   /* an option's data, bytes; longer ones are "too big" */
#define NBD_OPTION_ABSURD (1u << 20) /* longer ones end the connection */
#define NBD_GREETING_SIZE 18u
#define NBD_HANDSHAKE_IN (NBD_OPTION_HEADER + NBD_OPTION_MAX) /* what a step may have to see */
#define NBD_HANDSHAKE_OUT (2 * NBD_STRING_MAX + 256u)         /* what a step may put out */

/* A handshake in progress.  The caller owns it, and frees it when it is over. */
struct nbd_handshake {
    const struct nbd_export *export;
    const struct nbd_policy *policy;
    struct nbd_session *session;
    bool has_flags;  /* the client's flags have come */
    bool no_zeroes;  /* it wants none after EXPORT_NAME */
    uint32_t skip;   /* bytes still to come of an option that was answered already */
    bool closing;    /* when they have come, it is over */
    bool wanted_tls; /* something was refused that came in the clear */
    uint32_t name_size;
    char name[NBD_STRING_MAX];
};

/* How to go on. */
enum nbd_progress {
    NBD_MORE,         /* nothing happened: it takes more bytes */
    NBD_AGAIN,        /* a step was made; there may be another in what is left */
    NBD_TLS,          /* send what was put out, throw away what else came in, start TLS */
    NBD_TRANSMISSION, /* the session is complete; what else came in are requests */
    NBD_CLOSE,        /* send what was put out, and close */
};

/* Begin a handshake with an empty session, and put the greeting, NBD_GREETING_SIZE bytes. */
void nbd_handshake_begin(struct nbd_handshake *handshake, const struct nbd_export *export,
                         const struct nbd_policy *policy, struct nbd_session *session,
                         struct wire_writer *out);

/* Make one step with the bytes that have arrived: consume some of `in`, and put the answer, at most
 * NBD_HANDSHAKE_OUT bytes.  Any number of bytes is accepted; with NBD_HANDSHAKE_IN of them a step is
 * always made.  If the writer has failed, because there was less room, the result is NBD_CLOSE. */
enum nbd_progress nbd_handshake_step(struct nbd_handshake *handshake, struct wire_reader *in,
                                     struct wire_writer *out);

#endif
