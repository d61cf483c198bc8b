/* SPDX-License-Identifier: BSD-3-Clause */

/* reply - the answers to requests, as they are on the wire
 *
 * Each function puts one header or descriptor, of at most NBD_REPLY_SIZE_MAX bytes, into a writer
 * (wire.h).  If the writer has too little room, nothing is put, and the writer fails.  If data
 * follow a header, the caller puts the data.
 *
 * Source: NBD specification, "Simple reply message", "Structured reply chunk message", "Extended
 * reply chunk message", "Structured reply types", "Error values".
 */

#ifndef NBDRAM_NBD_REPLY_H
#define NBDRAM_NBD_REPLY_H

#include "nbd/command.h"
#include "nbd/session.h"
#include "nbd/wire.h"

#define NBD_REPLY_SIZE_MAX 64u /* bytes */

/* Put a whole reply without data.  error is 0 for a success, or -errno.  The reply is a chunk if
 * the style is NBD_EXTENDED, or if the style is NBD_STRUCTURED and the request is a read or a
 * block status.  All other replies are simple. */
void nbd_put_answer(struct wire_writer *writer, enum nbd_style style,
                    const struct nbd_request *request, int error);

/* Put the header of a simple reply to a read.  The data, request->length bytes, follow. */
void nbd_put_read(struct wire_writer *writer, const struct nbd_request *request);

/* One chunk of the reply to a read: a range of data, or a hole. */
struct nbd_chunk {
    uint64_t offset;
    uint32_t count; /* the length of the range, bytes */
    bool done;      /* this is the last chunk of the reply */
};

/* Put the header of a chunk of data.  The header has nbd_data_header_size bytes.  The data,
 * chunk->count bytes, follow. */
void nbd_put_data(struct wire_writer *writer, enum nbd_style style,
                  const struct nbd_request *request, const struct nbd_chunk *chunk);

/* Put a whole chunk that reports a hole. */
void nbd_put_hole(struct wire_writer *writer, enum nbd_style style,
                  const struct nbd_request *request, const struct nbd_chunk *chunk);

/* Put the header of the reply to a block status, which is a single chunk.  The header has
 * nbd_status_header_size bytes.  `count` descriptors follow. */
void nbd_put_status(struct wire_writer *writer, enum nbd_style style,
                    const struct nbd_request *request, uint32_t count);

/* Put the descriptor of one extent.  Unless the style is NBD_EXTENDED, length has to fit into 32
 * bits. */
void nbd_put_descriptor(struct wire_writer *writer, enum nbd_style style, uint64_t length,
                        bool hole);

/* Sizes of headers and descriptors, in bytes.  If the length of the data is not known yet, a
 * caller can claim the bytes of the header (wire_claim), add the data, and then put the
 * header. */
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

/* Convert 0 or -errno to an error number of NBD. */
uint32_t nbd_error_of(int error);

#endif
