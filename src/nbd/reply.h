/* SPDX-License-Identifier: BSD-3-Clause */

/* reply - the answers to requests, as they are on the wire
 *
 * Each function puts one header or descriptor, of at most NBD_REPLY_SIZE_MAX bytes, into a writer
 * (wire.h).  If the writer has not enough room, nothing is put, and the writer fails.  The caller
 * puts the data that follow a header.
 *
 * NBD specification, "Simple reply message", "Structured reply chunk message", "Extended reply
 * chunk message", "Structured reply types", "Error values".
 */

#ifndef NBDRAM_NBD_REPLY_H
#define NBDRAM_NBD_REPLY_H

#include "nbd/command.h"
#include "nbd/session.h"
#include "nbd/wire.h"

#define NBD_REPLY_SIZE_MAX 64u /* bytes */

/* A whole reply without data: success (error is 0), or a failure (error is -errno).  If the
 * client has negotiated chunks, the reply to a read or a block status is a chunk, even if the
 * request is refused. */
void nbd_put_answer(struct wire_writer *writer, enum nbd_style style,
                    const struct nbd_request *request, int error);

/* The header of a read's reply in the simple style.  The data, request->length bytes, follow. */
void nbd_put_read(struct wire_writer *writer, const struct nbd_request *request);

/* One chunk of a read's reply: a range of data, or a hole. */
struct nbd_chunk {
    uint64_t offset;
    uint32_t count; /* the length of the range, bytes */
    bool done;      /* this is the last chunk of the reply */
};

/* The header of a chunk of data, nbd_data_header_size bytes.  The data, chunk->count bytes,
 * follow. */
void nbd_put_data(struct wire_writer *writer, enum nbd_style style,
                  const struct nbd_request *request, const struct nbd_chunk *chunk);

/* A whole chunk that says that its range is a hole. */
void nbd_put_hole(struct wire_writer *writer, enum nbd_style style,
                  const struct nbd_request *request, const struct nbd_chunk *chunk);

/* The header of the only chunk of a block status' reply, nbd_status_header_size bytes.  `count`
 * descriptors follow. */
void nbd_put_status(struct wire_writer *writer, enum nbd_style style,
                    const struct nbd_request *request, uint32_t count);

/* The descriptor of one extent.  Unless style is NBD_EXTENDED, length has to fit into 32 bits. */
void nbd_put_descriptor(struct wire_writer *writer, enum nbd_style style, uint64_t length,
                        bool hole);

/* Sizes in bytes.  A caller can claim the bytes of a header (wire_claim), add the data, and put
 * the header once it knows the length of the data. */
static inline size_t nbd_data_header_size(enum nbd_style style)
{
    return (style == NBD_EXTENDED ? 32 : 20) + 8;
}

static inline size_t nbd_status_header_size(enum nbd_style style)
{
    return style == NBD_EXTENDED ? 32 + 8 : 20 + 4;
}

static inline size_t nbd_descriptor_size(enum nbd_style style)
{
    return style == NBD_EXTENDED ? 16 : 8;
}

/* The number on the wire for an error, which is 0 or -errno. */
uint32_t nbd_error_of(int error);

#endif
