/* SPDX-License-Identifier: BSD-3-Clause */

#include "nbd/command.h"

#include <errno.h>

#include "nbd/wire.h"

/* What there is to know of a command.  FUA is legal on each, and PAYLOAD_LEN says how to read
 * `length`; neither is in `flags`. */
struct command {
    const char *name;
    uint16_t flags; /* legal ones */
    bool payload;   /* carries one always (write), or may (block status, extended) */
    bool changes;   /* the disk */
    bool ranged;    /* is about a range; else offset and length are zero */
    int outside;    /* the answer to a range that is not within the disk */
};

static const struct command commands[NBD_COMMANDS] = {
    [NBD_CMD_READ] = {"read", NBD_CMD_FLAG_DF, false, false, true, -EINVAL},
    [NBD_CMD_WRITE] = {"write", 0, true, true, true, -ENOSPC},
    [NBD_CMD_DISC] = {"disconnect", 0, false, false, false, 0},
    [NBD_CMD_FLUSH] = {"flush", 0, false, false, false, 0},
    [NBD_CMD_TRIM] = {"trim", 0, false, true, true, -EINVAL},
    [NBD_CMD_CACHE] = {"cache", 0, false, false, true, -EINVAL},
    [NBD_CMD_WRITE_ZEROES] = {"write zeroes", NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO,
                              false, true, true, -ENOSPC},
    [NBD_CMD_BLOCK_STATUS] = {"block status", NBD_CMD_FLAG_REQ_ONE, true, false, true, -EINVAL},
};

const char *nbd_command_name(uint16_t type)
{
    return type < NBD_COMMANDS ? commands[type].name : "unknown";
}

int nbd_request_parse(enum nbd_style style, const uint8_t *header, struct nbd_request *request)
{
    bool extended = style == NBD_EXTENDED;
    struct wire_reader reader = wire_read(header, nbd_request_size(style));
    uint32_t magic = wire_get32(&reader);
    request->flags = wire_get16(&reader);
    request->type = wire_get16(&reader);
    memcpy(&request->cookie, wire_get(&reader, sizeof request->cookie), sizeof request->cookie);
    request->offset = wire_get64(&reader);
    request->length = extended ? wire_get64(&reader) : wire_get32(&reader);
    /* Extended writes must say so by a flag: qemu's clients (10.0) do not, and send it all the
     * same.  To take their data for requests would be worse than to overlook that. */
    bool carries =
        request->type == NBD_CMD_WRITE || (extended && request->flags & NBD_CMD_FLAG_PAYLOAD_LEN);
    if (request->type == NBD_CMD_DISC)
        carries = false; /* nothing is looked at behind it */
    request->payload = carries ? request->length : 0;
    return magic == (extended ? NBD_EXTENDED_REQUEST_MAGIC : NBD_REQUEST_MAGIC) ? 0 : -EPROTO;
}

/* Which flags this client may set on this command. */
static uint16_t legal_flags(const struct nbd_session *session, uint16_t type)
{
    uint16_t flags = commands[type].flags | NBD_CMD_FLAG_FUA;
    if (session->style == NBD_SIMPLE)
        flags &= (uint16_t)~NBD_CMD_FLAG_DF; /* not offered */
    if (session->style == NBD_EXTENDED && commands[type].payload)
        flags |= NBD_CMD_FLAG_PAYLOAD_LEN;
    return flags;
}

static bool is_well_formed(const struct nbd_session *session, const struct nbd_request *request)
{
    if (request->type >= NBD_COMMANDS)
        return false;
    if (request->flags & ~legal_flags(session, request->type))
        return false;
    if (!commands[request->type].ranged && (request->offset || request->length))
        return false;
    return request->type != NBD_CMD_BLOCK_STATUS || session->has_context;
}

/* Not offset + length: that can wrap. */
static bool is_outside(const struct nbd_export *export, const struct nbd_request *request)
{
    return request->offset > export->size || request->length > export->size - request->offset;
}

int nbd_request_check(const struct nbd_export *export, const struct nbd_session *session,
                      const struct nbd_request *request)
{
    if (request->type == NBD_CMD_DISC)
        return 0; /* there is no answer to it, not even to a malformed one */
    if (session->shutting_down)
        return -ESHUTDOWN;
    if (!is_well_formed(session, request))
        return -EINVAL;
    const struct command *command = &commands[request->type];
    if (command->changes && export->read_only)
        return -EPERM;
    /* What a payload of a block status asks about is not known yet. */
    if (command->ranged && !(request->type == NBD_CMD_BLOCK_STATUS && request->payload) &&
        is_outside(export, request))
        return command->outside;
    if (request->type == NBD_CMD_BLOCK_STATUS && request->payload > NBD_STATUS_PAYLOAD_MAX)
        return -EINVAL;
    if (request->type == NBD_CMD_READ && request->length > export->payload_max)
        return -EOVERFLOW;
    return 0;
}

bool nbd_request_is_absurd(const struct nbd_export *export, const struct nbd_request *request)
{
    return request->payload > export->payload_max;
}

int nbd_request_parse_status(const struct nbd_session *session, const uint8_t *payload,
                             struct nbd_request *request, bool *wanted)
{
    struct wire_reader reader = wire_read(payload, request->payload);
    unsigned asked = 0;
    request->length = wire_get64(&reader);
    while (!reader.failed && reader.left) {
        if (wire_get32(&reader) != NBD_CONTEXT_ALLOCATION || !session->has_context)
            return -EINVAL;
        asked++;
    }
    *wanted = asked == 1;
    return reader.failed || asked > 1 ? -EINVAL : 0;
}
