/* SPDX-License-Identifier: BSD-3-Clause */

/* command - requests: parsed, looked up in one table, and checked by one validator
 *
 * NBD specification, "Request message", "Request types", "Command flags".
 */

#ifndef NBDRAM_NBD_COMMAND_H
#define NBDRAM_NBD_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nbd/protocol.h"
#include "nbd/session.h"

#define NBD_REQUEST_SIZE_MAX 32u
/* Bytes, of a block status that names contexts: longer payloads are refused. */
#define NBD_STATUS_PAYLOAD_MAX 4096u

struct nbd_request {
    uint16_t flags;
    uint16_t type;
    uint64_t cookie;  /* 64 bits of the client's, in our memory as they were on the wire */
    uint64_t offset;  /* bytes */
    uint64_t length;  /* bytes of the disk that it is about */
    uint64_t payload; /* bytes that follow the header */
};

/* The size of a request's header, in bytes. */
static inline size_t nbd_request_size(enum nbd_style style)
{
    return style == NBD_EXTENDED ? 32 : 28;
}

/* Take in a header of nbd_request_size bytes.  -EPROTO if its magic number is wrong: the stream
 * is out of step, and nothing can be answered. */
int nbd_request_parse(enum nbd_style style, const uint8_t *header, struct nbd_request *request);

/* Whether a request may be carried out: 0, or the error to answer it with, a negative errno.  Its
 * payload is to be consumed either way.
 *
 * -EINVAL     unknown command or flag, flag on the wrong command, payload where there is none,
 *             block status with no context, range not within the disk (of what does not write)
 * -EPERM      changes a read-only disk
 * -ENOSPC     write or write zeroes not within the disk
 * -EOVERFLOW  a read longer than may be asked for
 * -ESHUTDOWN  the session is shutting down */
int nbd_request_check(const struct nbd_export *export, const struct nbd_session *session,
                      const struct nbd_request *request);

/* A payload that is too long to be drained: the connection is to be dropped. */
bool nbd_request_is_absurd(const struct nbd_export *export, const struct nbd_request *request);

/* The payload of a block status (extended headers): how much of the disk is asked about, and
 * whether about our context.  Puts the range's length into request->length.  -EINVAL: malformed,
 * a context not chosen, or one twice. */
int nbd_request_parse_status(const struct nbd_session *session, const uint8_t *payload,
                             struct nbd_request *request, bool *wanted);

/* The name of a command for log lines: "read", ..., "unknown". */
const char *nbd_command_name(uint16_t type);

#endif
