/* SPDX-License-Identifier: BSD-3-Clause */

/* session - what is served, and what was agreed on with one client
 *
 * The export and the policy are made once and shared by all, read-only.  A session is filled in
 * by the handshake (handshake.h) and is constant in transmission.
 */

#ifndef NBDRAM_NBD_SESSION_H
#define NBDRAM_NBD_SESSION_H

#include <stdbool.h>
#include <stdint.h>

/* How requests and replies look. */
enum nbd_style {
    NBD_SIMPLE,     /* 28-byte requests, simple replies */
    NBD_STRUCTURED, /* 28-byte requests, reads and status answered in chunks */
    NBD_EXTENDED,   /* 32-byte requests, everything answered in chunks with 32-byte headers */
};

struct nbd_export {
    uint64_t size; /* bytes */
    bool read_only;
    uint32_t preferred;   /* block size: what the disk is allocated in */
    uint32_t payload_max; /* bytes that one read or write may move */
    const char *name;     /* the one that is listed; any is accepted */
    const char *description;
};

struct nbd_policy {
    uint16_t handshake_flags; /* NBD_FLAG_FIXED_NEWSTYLE, NBD_FLAG_NO_ZEROES: as far as offered */
    bool structured;          /* structured replies and extended headers may be had */
    bool tls_offered;
    bool tls_required;
};

#define NBD_CONTEXT_ALLOCATION 1u /* our number for base:allocation */

struct nbd_session {
    enum nbd_style style;
    bool secure;        /* inside TLS */
    bool has_context;   /* base:allocation was chosen for this export */
    bool shutting_down; /* everything is answered with "shutting down" */
};

#endif
