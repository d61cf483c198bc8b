/* SPDX-License-Identifier: BSD-3-Clause */

/* session - what is served, and what one client has negotiated
 *
 * The caller makes the export and the policy once, and all clients share them, read-only.  The
 * handshake (handshake.h) fills in a session for each client.  After that it is constant, except
 * that the caller may set shutting_down at any time.
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
    uint64_t size;           /* bytes */
    bool read_only;          /* commands that change the disk are refused */
    uint32_t preferred;      /* preferred block size, bytes: the unit of the disk's allocation */
    uint32_t payload_max;    /* maximum block size: bytes that one read or write may move */
    const char *name;        /* the reply to LIST, up to NBD_STRING_MAX bytes; clients may use
                              * any other name, too */
    const char *description; /* a text for people, up to NBD_STRING_MAX bytes */
};

struct nbd_policy {
    uint16_t handshake_flags; /* NBD_FLAG_FIXED_NEWSTYLE, NBD_FLAG_NO_ZEROES: those offered */
    bool structured;          /* structured replies and extended headers are offered */
    bool tls_offered;         /* STARTTLS is accepted */
    bool tls_required;        /* before TLS, only STARTTLS and ABORT are accepted */
};

#define NBD_CONTEXT_ALLOCATION 1u /* the context id that we chose for base:allocation */

struct nbd_session {
    enum nbd_style style;
    bool secure;        /* the connection uses TLS */
    bool has_context;   /* the client has chosen base:allocation for this export */
    bool shutting_down; /* every request is answered with ESHUTDOWN */
};

#endif
