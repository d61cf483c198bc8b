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

/* Copy the request's cookie into the reply, unchanged. */
static uint8_t *set_cookie(uint8_t *at, const struct nbd_request *request)
{
    return wire_set(at, &request->cookie, sizeof request->cookie);
}

static inline void put_simple(struct wire_writer *writer, const struct nbd_request *request,
                              int error)
{
    uint8_t *at = wire_claim(writer, 16);
    if (!at)
        return;
    at = wire_set32(at, NBD_SIMPLE_REPLY_MAGIC);
    at = wire_set32(at, nbd_error_of(error));
    set_cookie(at, request);
}

struct chunk_header {
    uint32_t type;
    bool done;       /* this is the last chunk of the reply */
    uint32_t length; /* the number of bytes of payload, which follow the header */
};

/* Put the header of a chunk of a reply into the writer, and claim the first `more` bytes of the
 * chunk's payload.  Returns a pointer to the claimed bytes.  Returns NULL if the writer has too
 * little space.
 *
 * The function has to be marked always_inline, because the compiler does not inline it otherwise.
 * Without inlining, a small structured read takes 1 % more instructions. */
__attribute__((always_inline)) static inline uint8_t *
put_chunk(struct wire_writer *writer, enum nbd_style style, const struct nbd_request *request,
          struct chunk_header header, size_t more)
{
    bool extended = style == NBD_EXTENDED;
    uint8_t *at = wire_claim(writer, (extended ? 32 : 20) + more);
    if (!at)
        return NULL;
    at = wire_set32(at, extended ? NBD_EXTENDED_REPLY_MAGIC : NBD_STRUCTURED_REPLY_MAGIC);
    at = wire_set16(at, header.done ? NBD_REPLY_FLAG_DONE : 0);
    at = wire_set16(at, (uint16_t)header.type);
    at = set_cookie(at, request);
    if (!extended)
        return wire_set32(at, header.length);
    at = wire_set64(at, request->offset);
    return wire_set64(at, header.length);
}

static bool is_answered_in_chunks(enum nbd_style style, uint16_t type)
{
    return style == NBD_EXTENDED ||
           (style == NBD_STRUCTURED && (type == NBD_CMD_READ || type == NBD_CMD_BLOCK_STATUS));
}

static void put_error_chunk(struct wire_writer *writer, enum nbd_style style,
                            const struct nbd_request *request, int error)
{
    const struct chunk_header header = {NBD_REPLY_TYPE_ERROR, true, 6};
    uint8_t *at = put_chunk(writer, style, request, header, 6);
    if (!at)
        return;
    at = wire_set32(at, nbd_error_of(error));
    wire_set16(at, 0); /* no message */
}

void nbd_put_answer(struct wire_writer *writer, enum nbd_style style,
                    const struct nbd_request *request, int error)
{
    const struct chunk_header none = {NBD_REPLY_TYPE_NONE, true, 0};
    if (!is_answered_in_chunks(style, request->type))
        put_simple(writer, request, error);
    else if (error)
        put_error_chunk(writer, style, request, error);
    else
        put_chunk(writer, style, request, none, 0);
}

void nbd_put_read(struct wire_writer *writer, const struct nbd_request *request)
{
    put_simple(writer, request, 0);
}

void nbd_put_data(struct wire_writer *writer, enum nbd_style style,
                  const struct nbd_request *request, const struct nbd_chunk *data)
{
    const struct chunk_header header = {NBD_REPLY_TYPE_OFFSET_DATA, data->done, 8 + data->count};
    uint8_t *at = put_chunk(writer, style, request, header, 8);
    if (at)
        wire_set64(at, data->offset);
}

void nbd_put_hole(struct wire_writer *writer, enum nbd_style style,
                  const struct nbd_request *request, const struct nbd_chunk *hole)
{
    const struct chunk_header header = {NBD_REPLY_TYPE_OFFSET_HOLE, hole->done, 12};
    uint8_t *at = put_chunk(writer, style, request, header, 12);
    if (!at)
        return;
    at = wire_set64(at, hole->offset);
    wire_set32(at, hole->count);
}

void nbd_put_status(struct wire_writer *writer, enum nbd_style style,
                    const struct nbd_request *request, uint32_t count)
{
    bool extended = style == NBD_EXTENDED;
    size_t more = extended ? 8 : 4;
    const struct chunk_header header = {
        .type = extended ? NBD_REPLY_TYPE_BLOCK_STATUS_EXT : NBD_REPLY_TYPE_BLOCK_STATUS,
        .done = true,
        .length = (uint32_t)(more + count * nbd_descriptor_size(style))};
    uint8_t *at = put_chunk(writer, style, request, header, more);
    if (!at)
        return;
    at = wire_set32(at, NBD_CONTEXT_ALLOCATION);
    if (extended)
        wire_set32(at, count);
}

void nbd_put_descriptor(struct wire_writer *writer, enum nbd_style style, uint64_t length,
                        bool hole)
{
    uint32_t state = hole ? NBD_STATE_HOLE | NBD_STATE_ZERO : 0;
    uint8_t *at = wire_claim(writer, nbd_descriptor_size(style));
    if (!at)
        return;
    if (style != NBD_EXTENDED) {
        at = wire_set32(at, (uint32_t)length);
        wire_set32(at, state);
        return;
    }
    at = wire_set64(at, length);
    wire_set64(at, state);
}
