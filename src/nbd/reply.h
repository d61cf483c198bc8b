/* SPDX-License-Identifier: BSD-3-Clause */

/* reply - the answers to requests, as they are on the wire
 *
 * Each function puts one header or descriptor, of at most NBD_REPLY_SIZE_MAX bytes, into a writer
 * (wire.h).  If there is not enough room it puts nothing, and the writer has failed.  The caller
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

/* A whole reply without data: success (error 0), or a failure (-errno).  Reads and block status
 * are answered in chunks as soon as those have been negotiated, also when they are refused. */
void nbd_put_answer(struct wire_writer *writer, enum nbd_style style,
                    const struct nbd_request *request, int error);

/* The header of a read's reply in the simple style: request->length bytes of data follow. */
void nbd_put_read(struct wire_writer *writer, const struct nbd_request *request);

/* One chunk of a read's reply: a range of data, or a hole. */
struct nbd_chunk {
    uint64_t offset;
    uint32_t count; /* bytes */
    bool done;      /* it is the last chunk */
};

/* The header of a chunk of data, nbd_data_header_size bytes: chunk->count bytes follow. */
void nbd_put_data(struct wire_writer *writer, enum nbd_style style,
                  const struct nbd_request *request, const struct nbd_chunk *chunk);

/* A whole chunk that says that its range is a hole. */
void nbd_put_hole(struct wire_writer *writer, enum nbd_style style,
                  const struct nbd_request *request, const struct nbd_chunk *chunk);

/* The header of the only chunk of a block status' reply, nbd_status_header_size bytes: count
 * descriptors follow. */
void nbd_put_status(struct wire_writer *writer, enum nbd_style style,
                    const struct nbd_request *request, uint32_t count);

/* The descriptor of one extent.  Its length has to fit into 32 bits unless style is
 * NBD_EXTENDED. */
void nbd_put_descriptor(struct wire_writer *writer, enum nbd_style style, uint64_t length,
                        bool hole);

/* Sizes in bytes, for a caller that claims a header (wire_claim), and puts it once it knows what
 * has followed. */
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

/* The number that an error, 0 or -errno, has on the wire. */
uint32_t nbd_error_of(int error);

#endif
