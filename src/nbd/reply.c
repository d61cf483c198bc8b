/* SPDX-License-Identifier: BSD-3-Clause */

#include "nbd/reply.h"

#include <errno.h>

#include "nbd/wire.h"

uint32_t nbd_error_of(int error)
{
    switch (-error) {
    case 0:
        return 0;
    case EPERM:
    case EROFS:
        return NBD_EPERM;
    case EIO:
        return NBD_EIO;
    case ENOMEM:
        return NBD_ENOMEM;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return NBD_ENOSPC;
    case EOVERFLOW:
        return NBD_EOVERFLOW;
    case ENOTSUP:
        return NBD_ENOTSUP;
    case ESHUTDOWN:
        return NBD_ESHUTDOWN;
    default:
        return NBD_EINVAL;
    }
}

/* The cookie is the client's, and goes back as it came. */
static uint8_t *put_cookie(uint8_t *at, const struct nbd_request *request)
{
    return wire_put(at, &request->cookie, sizeof request->cookie);
}

static uint8_t *put_simple(uint8_t *at, const struct nbd_request *request, int error)
{
    at = wire_put32(at, NBD_SIMPLE_REPLY_MAGIC);
    at = wire_put32(at, nbd_error_of(error));
    return put_cookie(at, request);
}

/* The header of a chunk, structured or extended; `length` bytes of payload follow. */
static uint8_t *put_chunk(uint8_t *at, enum nbd_style style, const struct nbd_request *request,
                          uint32_t type_and_done, uint32_t length)
{
    bool extended = style == NBD_EXTENDED;
    at = wire_put32(at, extended ? NBD_EXTENDED_REPLY_MAGIC : NBD_STRUCTURED_REPLY_MAGIC);
    at = wire_put16(at, (uint16_t)(type_and_done >> 16));
    at = wire_put16(at, (uint16_t)type_and_done);
    at = put_cookie(at, request);
    if (!extended)
        return wire_put32(at, length);
    at = wire_put64(at, request->offset);
    return wire_put64(at, length);
}

static uint32_t chunk(uint32_t type, bool done)
{
    return (done ? (uint32_t)NBD_REPLY_FLAG_DONE << 16 : 0) | type;
}

static bool is_answered_in_chunks(enum nbd_style style, uint16_t type)
{
    return style == NBD_EXTENDED ||
           (style == NBD_STRUCTURED && (type == NBD_CMD_READ || type == NBD_CMD_BLOCK_STATUS));
}

uint8_t *nbd_put_answer(uint8_t *at, enum nbd_style style, const struct nbd_request *request,
                        int error)
{
    if (!is_answered_in_chunks(style, request->type))
        return put_simple(at, request, error);
    if (error == 0)
        return put_chunk(at, style, request, chunk(NBD_REPLY_TYPE_NONE, true), 0);
    at = put_chunk(at, style, request, chunk(NBD_REPLY_TYPE_ERROR, true), 6);
    at = wire_put32(at, nbd_error_of(error));
    return wire_put16(at, 0); /* no message */
}

uint8_t *nbd_put_read(uint8_t *at, const struct nbd_request *request)
{
    return put_simple(at, request, 0);
}

uint8_t *nbd_put_data(uint8_t *at, enum nbd_style style, const struct nbd_request *request,
                      const struct nbd_chunk *data)
{
    uint32_t type = chunk(NBD_REPLY_TYPE_OFFSET_DATA, data->done);
    at = put_chunk(at, style, request, type, 8 + data->count);
    return wire_put64(at, data->offset);
}

uint8_t *nbd_put_hole(uint8_t *at, enum nbd_style style, const struct nbd_request *request,
                      const struct nbd_chunk *hole)
{
    at = put_chunk(at, style, request, chunk(NBD_REPLY_TYPE_OFFSET_HOLE, hole->done), 12);
    at = wire_put64(at, hole->offset);
    return wire_put32(at, hole->count);
}

uint8_t *nbd_put_status(uint8_t *at, enum nbd_style style, const struct nbd_request *request,
                        uint32_t count)
{
    bool extended = style == NBD_EXTENDED;
    uint32_t type = extended ? NBD_REPLY_TYPE_BLOCK_STATUS_EXT : NBD_REPLY_TYPE_BLOCK_STATUS;
    uint32_t length = (extended ? 8 : 4) + count * (uint32_t)nbd_descriptor_size(style);
    at = put_chunk(at, style, request, chunk(type, true), length);
    at = wire_put32(at, NBD_CONTEXT_ALLOCATION);
    return extended ? wire_put32(at, count) : at;
}

uint8_t *nbd_put_descriptor(uint8_t *at, enum nbd_style style, uint64_t length, bool hole)
{
    uint32_t status = hole ? NBD_STATE_HOLE | NBD_STATE_ZERO : 0;
    if (style != NBD_EXTENDED) {
        at = wire_put32(at, (uint32_t)length);
        return wire_put32(at, status);
    }
    at = wire_put64(at, length);
    return wire_put64(at, status);
}
