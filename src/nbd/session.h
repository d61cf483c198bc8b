/* SPDX-License-Identifier: BSD-3-Clause */

/* session - the export that is served, and what one client has negotiated
 *
 * The caller makes the export and the policy once.  All clients share both, read-only.  Each
 * client has its own session, which the handshake fills in (handshake.h).  After the handshake a
 * session is constant, except that the caller may set shutting_down at any time.
 */

#ifndef NBDRAM_NBD_SESSION_H
#define NBDRAM_NBD_SESSION_H

#include <stdbool.h>
#include <stdint.h>

/* The format of requests and replies. */
enum nbd_style {
    NBD_SIMPLE,     /* 28-byte requests, simple replies */
    NBD_STRUCTURED, /* 28-byte requests; the replies to reads and block status are chunks */
    NBD_EXTENDED,   /* 32-byte requests; all replies are chunks with 32-byte headers */
};

struct nbd_export {
    uint64_t size;        /* bytes */
    bool read_only;       /* commands that would change the disk are refused */
    uint32_t preferred;   /* preferred block size, in bytes: the page size of the disk */
    uint32_t payload_max; /* maximum block size, in bytes: the limit of one read or write */
    /* The name in the reply to LIST, up to NBD_STRING_MAX bytes.  A client may ask for any other
     * name as well. */
    const char *name;
    const char *description; /* a description for people, up to NBD_STRING_MAX bytes */
};

struct nbd_policy {
    /* Which of NBD_FLAG_FIXED_NEWSTYLE and NBD_FLAG_NO_ZEROES are offered. */
    uint16_t handshake_flags;
    bool structured;   /* structured replies and extended headers are offered */
    bool tls_offered;  /* STARTTLS is accepted */
    bool tls_required; /* before TLS, every option but STARTTLS and ABORT is refused */
};

#define NBD_CONTEXT_ALLOCATION 1u /* our number for the context base:allocation */

struct nbd_session {
    enum nbd_style style;
    bool secure;        /* the connection uses TLS */
    bool has_context;   /* the client has chosen base:allocation for its export */
    bool shutting_down; /* every new request is refused with ESHUTDOWN */
};

#endif
