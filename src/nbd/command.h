/* SPDX-License-Identifier: BSD-3-Clause */

/* command - how requests are parsed and checked, and the table of all commands
 *
 * Pure: no function here carries a request out, or keeps anything between calls.
 *
 * NBD specification, "Request message", "Request types", "Command flags", "Error values".
 */

#ifndef NBDRAM_NBD_COMMAND_H
#define NBDRAM_NBD_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nbd/protocol.h"
#include "nbd/session.h"

/* The commands, one to a row.  Every table of commands is made from this list: a command that is
 * added here does not compile until it has a handler (session/commands.c).
 *
 *     X(NAME, name, FOR_PEOPLE, OUTSIDE, PROPERTIES, FLAGS)
 *
 *     NAME        the command's name in NBD_CMD_NAME (protocol.h)
 *     name        the command's name in the names of functions
 *     FOR_PEOPLE  the command's name in log lines and statistics
 *     OUTSIDE     the errno that answers a range that does not lie within the disk
 *     PROPERTIES  PAYLOAD  the command always carries a payload (write), or may carry one (block
 *                          status, with extended headers)
 *                 CHANGES  the command changes the disk, and is refused if the disk is read-only
 *                 RANGED   the command is about a range; the offset and length of any other
 *                          command have to be zero
 *     FLAGS       the flags that a client may set, without two: FUA is legal on every command,
 *                 and PAYLOAD_LEN is legal if the command has the property PAYLOAD
 */
/* clang-format off */
#define NBD_COMMAND_LIST(X)                                                                      \
    X(READ,         read,         "read",         EINVAL, RANGED,           NBD_CMD_FLAG_DF)     \
    X(WRITE,        write,        "write",        ENOSPC, RANGED | CHANGES | PAYLOAD, 0)         \
    X(DISC,         disconnect,   "disconnect",   0,      0,                0)                   \
    X(FLUSH,        flush,        "flush",        0,      0,                0)                   \
    X(TRIM,         trim,         "trim",         EINVAL, RANGED | CHANGES, 0)                   \
    X(CACHE,        cache,        "cache",        EINVAL, RANGED,           0)                   \
    X(WRITE_ZEROES, write_zeroes, "write zeroes", ENOSPC, RANGED | CHANGES,                      \
                                               NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO)    \
    X(BLOCK_STATUS, block_status, "block status", EINVAL, RANGED | PAYLOAD, NBD_CMD_FLAG_REQ_ONE)
/* clang-format on */

/* A command that has a number in protocol.h, but no row in the list, does not compile either. */
#define NBD_COUNT_COMMAND(...) +1
_Static_assert(0 NBD_COMMAND_LIST(NBD_COUNT_COMMAND) == NBD_COMMANDS,
               "a command has no row, or the numbers of the commands have a gap");

#define NBD_REQUEST_SIZE_MAX 32u     /* bytes of a request's header, at most */
#define NBD_STATUS_PAYLOAD_MAX 4096u /* a block status with more bytes of payload is refused */

struct nbd_request {
    uint16_t flags;
    uint16_t type;
    uint64_t cookie;  /* chosen by the client: 8 bytes, kept in the order of the wire */
    uint64_t offset;  /* where the range begins, bytes */
    uint64_t length;  /* the size of the range, bytes */
    uint64_t payload; /* the number of bytes that follow the header */
};

/* The size of a request's header, in bytes. */
static inline size_t nbd_request_size(enum nbd_style style)
{
    return style == NBD_EXTENDED ? 32 : 28;
}

/* Parse a header of nbd_request_size bytes.  Returns 0, or -EPROTO if the header's magic number
 * is wrong: the stream is out of step, and no answer is possible. */
int nbd_request_parse(enum nbd_style style, const uint8_t *header, struct nbd_request *request);

/* Check whether a request may be carried out.  Returns 0, or the -errno with which to answer the
 * request.  In both cases the caller has to consume the request's payload.
 *
 * -EINVAL     an unknown command or flag; a flag or a payload on a command that takes none; a
 *             block status without a negotiated context; a range outside the disk, unless the
 *             command writes data or zeroes
 * -EPERM      a change of a read-only disk
 * -ENOSPC     a write or write zeroes outside the disk
 * -EOVERFLOW  a read of more than export->payload_max bytes
 * -ESHUTDOWN  the session is shutting down
 *
 * A DISC is never refused, because it has no answer. */
int nbd_request_check(const struct nbd_export *export, const struct nbd_session *session,
                      const struct nbd_request *request);

/* Whether a payload is too long even to be skipped: the connection has to be closed. */
bool nbd_request_is_absurd(const struct nbd_export *export, const struct nbd_request *request);

/* Parse the payload of a block status (extended headers), which has request->payload bytes.  The
 * payload holds the length of the range, which is stored in request->length, and the contexts
 * that the client asks about.  *wanted is set to true if our context is among them, else to
 * false. Returns 0, or -EINVAL if the payload is malformed, or names a context twice or one that
 * was not negotiated. */
int nbd_request_parse_status(const struct nbd_session *session, const uint8_t *payload,
                             struct nbd_request *request, bool *wanted);

/* The name of a command for people: "read", ..., "unknown". */
const char *nbd_command_name(uint16_t type);

#endif
