/* SPDX-License-Identifier: BSD-3-Clause */

/* command - how requests are parsed and checked, and the table of all commands
 *
 * The functions are pure: they carry no request out, and keep nothing between calls.
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

/* The commands, one in each row.  Every table of commands is made from this list.  A command that
 * is added to the list does not compile until it has a handler (session/commands.c).
 *
 *     X(NAME, name, FOR_PEOPLE, OUTSIDE, PROPERTIES, FLAGS)
 *
 *     NAME        the command's name in NBD_CMD_NAME (protocol.h)
 *     name        the command's name in the names of functions
 *     FOR_PEOPLE  the command's name in log lines and statistics
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

/* The assertion fails if a command has a number in protocol.h, but no row in the list. */
#define NBD_COUNT_COMMAND(...) +1
_Static_assert(0 NBD_COMMAND_LIST(NBD_COUNT_COMMAND) == NBD_COMMANDS,
               "a command has no row, or the numbers of the commands have a gap");

#define NBD_REQUEST_SIZE_MAX 32u     /* bytes of a request's header, at most */
#define NBD_STATUS_PAYLOAD_MAX 4096u /* a block status with more bytes of payload is refused */

struct nbd_request {
    uint16_t flags;
    uint16_t type;
    uint64_t cookie;  /* chosen by the client; 8 bytes in the order in which they arrived */
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
 * is wrong.  After -EPROTO the connection has to be closed, because nobody knows where the next
 * request begins. */
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

/* Whether the payload is too long even to be skipped.  If so, the connection has to be closed. */
bool nbd_request_is_absurd(const struct nbd_export *export, const struct nbd_request *request);

/* Parse the payload of a block status, request->payload bytes.  Only a request with an extended
 * header can have such a payload.  It holds the length of the range, and the contexts that the
 * client asks about.
 *
 * Stores the length in request->length.  Sets *wanted to true if the client asks about our
 * context, else to false.  Returns 0, or -EINVAL if the payload is malformed, names a context
 * twice, or names a context that was not negotiated. */
int nbd_request_parse_status(const struct nbd_session *session, const uint8_t *payload,
                             struct nbd_request *request, bool *wanted);

/* The name of a command for people: "read", ..., "unknown". */
const char *nbd_command_name(uint16_t type);

#endif
