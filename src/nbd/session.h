/* SPDX-License-Identifier: BSD-3-Clause */

/* session - what is served to all clients, and what one client has negotiated
 *
 * The caller creates one export and one policy.  All clients share them, and they never change.
 * Each client has its own session, which is filled in during the handshake (handshake.h).  After
 * the handshake the session does not change, with one exception: the caller may set shutting_down
 * at any time.
 */

#ifndef NBDRAM_NBD_SESSION_H
#define NBDRAM_NBD_SESSION_H

#include <stdbool.h>
#include <stdint.h>

/* The format of requests and replies.  A client negotiates one of these styles. */
enum nbd_style {
    NBD_SIMPLE,     /* request headers of 28 bytes; all replies are simple */
    NBD_STRUCTURED, /* as NBD_SIMPLE, but replies to reads and block status are chunks */
    NBD_EXTENDED,   /* request and chunk headers of 32 bytes; all replies are chunks */
};

struct nbd_export {
    uint64_t size;        /* bytes */
    bool read_only;       /* commands that would change the disk are refused */
    uint32_t preferred;   /* the preferred block size in bytes, which is the disk's page size */
    uint32_t payload_max; /* the maximum block size in bytes, which limits reads and writes */
    /* The name that the reply to LIST gives, of at most NBD_STRING_MAX bytes.  Clients may also
     * use any other name. */
    const char *name;
    const char *description; /* a text for people, of at most NBD_STRING_MAX bytes */
};

struct nbd_policy {
    /* The handshake flags that are offered: NBD_FLAG_FIXED_NEWSTYLE, NBD_FLAG_NO_ZEROES, both, or
     * none. */
    uint16_t handshake_flags;
    bool structured;   /* structured replies and extended headers are offered */
    bool tls_offered;  /* the client may begin TLS with the option STARTTLS */
    bool tls_required; /* until TLS begins, only STARTTLS and ABORT are accepted */
};

#define NBD_CONTEXT_ALLOCATION 1u /* the ID of base:allocation in our replies */

struct nbd_session {
    enum nbd_style style;
    bool secure;        /* the connection uses TLS */
    bool has_context;   /* the client chose the metadata context base:allocation */
    bool shutting_down; /* all new requests are refused with ESHUTDOWN */
};

#endif
