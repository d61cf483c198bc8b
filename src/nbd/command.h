/* SPDX-License-Identifier: BSD-3-Clause */

/* command - parse and check requests, and list all commands
 *
 * The functions do not carry out requests, and have no state.
 *
 * Source: NBD specification, "Request message", "Request types", "Command flags", "Error values".
 */

#ifndef NBDRAM_NBD_COMMAND_H
#define NBDRAM_NBD_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nbd/protocol.h"
#include "nbd/session.h"

/* The list of commands.  Each row is one command.  All tables of commands are made from this
 * list.  The build fails if a row of the list has no handler in session/commands.c.
 *
 *     X(NAME, name, FOR_PEOPLE, OUTSIDE, PROPERTIES, FLAGS)
 *
 *     NAME        the command's name in NBD_CMD_NAME (protocol.h)
 *     name        the command's name in the names of functions
 *     FOR_PEOPLE  the command's name in log messages and statistics
 *     OUTSIDE     the error if the command's range is not inside the disk
 *     PROPERTIES  PAYLOAD  the command always carries a payload (write), or may carry one (block
 *                          status, with extended headers)
 *                 CHANGES  the command changes the disk, and is refused if the disk is read-only
 *                 RANGED   the command has a range; without this property, its offset and length
 *                          have to be zero
 *     FLAGS       the flags that a client may set.  Two flags are not listed: FUA, which is legal
 *                 on every command, and PAYLOAD_LEN, which is legal on commands with PAYLOAD
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

/* The build fails here if a command has a number in protocol.h, but no row in the list. */
#define NBD_COUNT_COMMAND(...) +1
_Static_assert(0 NBD_COMMAND_LIST(NBD_COUNT_COMMAND) == NBD_COMMANDS,
               "a command has no row, or the numbers of the commands have a gap");

#define NBD_REQUEST_SIZE_MAX 32u     /* size of the longest request header, in bytes */
#define NBD_STATUS_PAYLOAD_MAX 4096u /* limit for the payload of a block status, in bytes */

struct nbd_request {
    uint16_t flags;
    uint16_t type;
    uint64_t cookie;  /* 8 bytes that the client chose, in network order */
    uint64_t offset;  /* where the range begins on the disk, in bytes */
    uint64_t length;  /* the length of the range, in bytes */
    uint64_t payload; /* the length of the payload, in bytes */
};

/* Returns the size of a request's header, in bytes. */
static inline size_t nbd_request_size(enum nbd_style style)
{
    return style == NBD_EXTENDED ? 32 : 28;
}

/* Parse the header of a request, which has nbd_request_size bytes.  Returns 0, or -EPROTO if the
 * magic number is wrong.  After -EPROTO the caller has to close the connection, because the
 * server cannot find the beginning of the next request. */
int nbd_request_parse(enum nbd_style style, const uint8_t *header, struct nbd_request *request);

/* Check whether a request may be carried out.  Returns 0, or the -errno with which to answer the
 * request.  In both cases the caller has to consume the request's payload.
 *
 * -EINVAL     an unknown command
 *             a flag or a payload that the command does not take
 *             a block status without a negotiated context
 *             a range outside the disk, unless the command is a write or write zeroes
 * -EPERM      a command that changes a read-only disk
 * -ENOSPC     a write or write zeroes outside the disk
 * -EOVERFLOW  a read of more than export->payload_max bytes
 * -ESHUTDOWN  the session is shutting down
 *
 * A DISC is never refused, because it has no answer. */
int nbd_request_check(const struct nbd_export *export, const struct nbd_session *session,
                      const struct nbd_request *request);

/* Whether the payload is longer than the server is willing to skip.  If it is, the caller has to
 * close the connection. */
bool nbd_request_is_absurd(const struct nbd_export *export, const struct nbd_request *request);

/* Parse the payload of a block status.  The payload has request->payload bytes.  It holds the
 * length of the range, and a list of the contexts that the client asks about.  Only a request
 * with an extended header can have such a payload.
 *
 * Stores the length in request->length.  Sets *wanted to true if base:allocation is in the list,
 * else to false.  Returns 0, or -EINVAL if the payload is malformed, names a context twice, or
 * names a context that was not negotiated. */
int nbd_request_parse_status(const struct nbd_session *session, const uint8_t *payload,
                             struct nbd_request *request, bool *wanted);

/* Returns the name of a command for log messages, for example "read".  The name of an unknown
 * command is "unknown". */
const char *nbd_command_name(uint16_t type);

#endif
