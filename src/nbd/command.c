/* SPDX-License-Identifier: BSD-3-Clause */

#include "nbd/command.h"

#include <errno.h>

#include "nbd/wire.h"

/* The values for the column PROPERTIES of NBD_COMMAND_LIST (command.h). */
enum { PAYLOAD = 1 << 0, CHANGES = 1 << 1, RANGED = 1 << 2 };

struct command {
    const char *name;
    uint16_t flags;
    uint8_t properties;
    int outside; /* -errno */
};

#define ROW(NAME, name, for_people, outside, properties, flags)                                  \
    [NBD_CMD_##NAME] = {for_people, flags, properties, -(outside)},
static const struct command commands[NBD_COMMANDS] = {NBD_COMMAND_LIST(ROW)};

static bool has_property(uint16_t type, unsigned property)
{
    return commands[type].properties & property;
}

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
    /* The specification says that a write with an extended header has to announce its payload by
     * the flag PAYLOAD_LEN.  The client of qemu 10.0 sends the payload, but does not set the
     * flag.  So we assume that every write has a payload.  Otherwise we would parse the payload
     * as if it were requests. */
    bool carries =
        request->type == NBD_CMD_WRITE || (extended && request->flags & NBD_CMD_FLAG_PAYLOAD_LEN);
    if (request->type == NBD_CMD_DISC)
        carries = false; /* a DISC ends the stream, so we ignore what follows */
    request->payload = carries ? request->length : 0;
    return magic == (extended ? NBD_EXTENDED_REQUEST_MAGIC : NBD_REQUEST_MAGIC) ? 0 : -EPROTO;
}

/* Returns the flags that this client may set in a command of this type. */
static uint16_t legal_flags(const struct nbd_session *session, uint16_t type)
{
    uint16_t flags = commands[type].flags | NBD_CMD_FLAG_FUA;
    if (session->style == NBD_SIMPLE)
        flags &= (uint16_t)~NBD_CMD_FLAG_DF; /* clients with simple replies are not offered DF */
    if (session->style == NBD_EXTENDED && has_property(type, PAYLOAD))
        flags |= NBD_CMD_FLAG_PAYLOAD_LEN;
    return flags;
}

static bool is_well_formed(const struct nbd_session *session, const struct nbd_request *request)
{
    if (request->type >= NBD_COMMANDS)
        return false;
    if (request->flags & ~legal_flags(session, request->type))
        return false;
    if (!has_property(request->type, RANGED) && (request->offset || request->length))
        return false;
    return request->type != NBD_CMD_BLOCK_STATUS || session->has_context;
}

/* Whether a part of the request's range is outside the export.  The function does not add offset
 * and length, because the sum could overflow. */
static bool is_outside_export(const struct nbd_export *export, const struct nbd_request *request)
{
    return request->offset > export->size || request->length > export->size - request->offset;
}

int nbd_request_check(const struct nbd_export *export, const struct nbd_session *session,
                      const struct nbd_request *request)
{
    if (request->type == NBD_CMD_DISC)
        return 0; /* a DISC is never refused, because it has no reply */
    if (session->shutting_down)
        return -ESHUTDOWN;
    if (!is_well_formed(session, request))
        return -EINVAL;
    if (has_property(request->type, CHANGES) && export->read_only)
        return -EPERM;
    /* A block status with a payload has the length of its range in the payload.  The payload has
     * not been parsed yet, so the range is checked later. */
    if (has_property(request->type, RANGED) &&
        !(request->type == NBD_CMD_BLOCK_STATUS && request->payload) &&
        is_outside_export(export, request))
        return commands[request->type].outside;
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
