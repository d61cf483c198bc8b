/* SPDX-License-Identifier: BSD-3-Clause */

/* reply - what answers a request looks like on the wire
 *
 * Functions put bytes at `at`, of which there must be NBD_REPLY_SIZE_MAX, and return where the
 * next byte goes.  NBD specification, "Simple reply message", "Structured reply chunk message",
 * "Extended reply chunk message", "Structured reply types", "Error values".
 */

#ifndef NBDRAM_NBD_REPLY_H
#define NBDRAM_NBD_REPLY_H

#include "nbd/command.h"
#include "nbd/session.h"

#define NBD_REPLY_SIZE_MAX 64u

/* A whole reply with no data: success (error 0) or a negative errno.  Reads and block status are
 * answered in chunks as soon as those were agreed on, early errors too. */
uint8_t *nbd_put_answer(uint8_t *at, enum nbd_style style, const struct nbd_request *request,
                        int error);

/* A read's reply, of the simple style: the data follow. */
uint8_t *nbd_put_read(uint8_t *at, const struct nbd_request *request);

/* One chunk of a read's reply: `count` bytes of data follow it, or it tells of a hole and nothing
 * does.  done: it is the last. */
struct nbd_chunk {
    uint64_t offset;
    uint32_t count;
    bool done;
};
uint8_t *nbd_put_data(uint8_t *at, enum nbd_style style, const struct nbd_request *request,
                      const struct nbd_chunk *chunk);
uint8_t *nbd_put_hole(uint8_t *at, enum nbd_style style, const struct nbd_request *request,
                      const struct nbd_chunk *chunk);

/* The only chunk of a block status' reply, which `count` descriptors follow, each of
 * nbd_descriptor_size bytes. */
uint8_t *nbd_put_status(uint8_t *at, enum nbd_style style, const struct nbd_request *request,
                        uint32_t count);
static inline size_t nbd_descriptor_size(enum nbd_style style)
{
    return style == NBD_EXTENDED ? 16 : 8;
}
uint8_t *nbd_put_descriptor(uint8_t *at, enum nbd_style style, uint64_t length, bool hole);

/* A negative errno as the error number of the wire. */
uint32_t nbd_error_of(int error);

#endif
