/* SPDX-License-Identifier: BSD-3-Clause */

/* reply - write the replies to requests in the format of NBD
 *
 * Each function puts one header or descriptor, of at most NBD_REPLY_SIZE_MAX bytes, into a writer
 * (wire.h).  If the writer has too little space, nothing is put, and the writer fails.  If data
 * belong to a header, the caller has to add them.
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

/* Put a complete reply without data.  `error` is 0 or -errno.  If the style is NBD_EXTENDED, the
 * reply is a chunk.  If the style is NBD_STRUCTURED, the replies to reads and block status are
 * chunks.  All other replies are simple. */
void nbd_put_answer(struct wire_writer *writer, enum nbd_style style,
                    const struct nbd_request *request, int error);

/* Put the header of a simple reply to a read.  The caller then has to add the data, which are
 * request->length bytes. */
void nbd_put_read(struct wire_writer *writer, const struct nbd_request *request);

/* One chunk of the reply to a read.  It describes a range of data, or a hole. */
struct nbd_chunk {
    uint64_t offset;
    uint32_t count; /* the length of the range, in bytes */
    bool done;      /* this chunk is the last one of the reply */
};

/* Put the header of a chunk of data.  The header has nbd_data_header_size bytes.  The caller then
 * has to add the data, which are chunk->count bytes. */
void nbd_put_data(struct wire_writer *writer, enum nbd_style style,
                  const struct nbd_request *request, const struct nbd_chunk *chunk);

/* Put a complete chunk that reports a hole. */
void nbd_put_hole(struct wire_writer *writer, enum nbd_style style,
                  const struct nbd_request *request, const struct nbd_chunk *chunk);

/* Put the header of the reply to a block status.  The reply is a single chunk.  The header has
 * nbd_status_header_size bytes.  The caller then has to put `count` descriptors. */
void nbd_put_status(struct wire_writer *writer, enum nbd_style style,
                    const struct nbd_request *request, uint32_t count);

/* Put the descriptor of one extent.  If the style is not NBD_EXTENDED, the length must fit into
 * 32 bits. */
void nbd_put_descriptor(struct wire_writer *writer, enum nbd_style style, uint64_t length,
                        bool hole);

/* The next three functions return the sizes of headers and descriptors, in bytes.  They are
 * useful if the length of the data is not known yet.  The caller can then claim the bytes of the
 * header (wire_claim), add the data, and fill in the header last. */
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

/* Convert 0 or a -errno to the error number that NBD uses. */
uint32_t nbd_error_of(int error);

#endif
