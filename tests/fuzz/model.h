/* SPDX-License-Identifier: BSD-3-Clause */

/* model - what a server has to answer to bytes of the transmission phase
 *
 * It reads the same bytes as the server, by rules of its own (NBD specification, "Transmission
 * phase"), and so need not know what the bytes were meant to be.  Errors are predicted exactly,
 * data by a shadow of the disk: requests change it in the order in which they came, and a read
 * sees what stood before it, or, where another request of its batch is on its way at the same
 * time, what that one puts there.  A batch ends where the client waits for its answers.
 */

#ifndef NBDRAM_TESTS_MODEL_H
#define NBDRAM_TESTS_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nbd/session.h"

#define MODEL_CALLS_MAX 256u
#define MODEL_PIECES_MAX 8192u
#define MODEL_READ_MAX ((uint64_t)512 << 10) /* bytes asked for by all reads together */

/* A request, and what came back. */
struct call {
    uint16_t flags, type;
    uint64_t cookie, offset, length;
    const uint8_t *payload;
    uint64_t payload_size;
    size_t begin, end; /* in the wire; SIZE_MAX: it is cut off */
    uint32_t error;    /* wanted, as on the wire */
    bool empty_status; /* a status of no context: success without descriptors */

    bool answered;
    uint32_t got;
    uint64_t covered;      /* bytes of a read that have come */
    unsigned first, last;  /* of its pieces */
    const uint8_t *status; /* descriptors */
    uint32_t status_count;
};

/* Data or a hole (NULL) of a read. */
struct piece {
    const uint8_t *bytes;
    uint64_t offset, count;
    unsigned next;
};

struct model {
    /* set by the target */
    enum nbd_style style;
    bool has_context, read_only;
    bool limited;  /* no space is a good answer */
    bool may_stay; /* a trim may leave things as they were */
    uint64_t size;
    uint32_t payload_max;

    /* the model's own */
    struct call calls[MODEL_CALLS_MAX];
    unsigned count;  /* that came in whole, or, the last, in part */
    bool partial;    /* the last one did not come in whole */
    unsigned judged; /* calls of earlier batches */
    struct piece pieces[MODEL_PIECES_MAX];
    unsigned piece_count;
    size_t stop;   /* bytes of the wire that are answered though the server stops */
    size_t open;   /* bytes of the wire that the server may have seen */
    size_t out_at; /* bytes of the server's that were looked at */
};

/* Forget the last input. */
void model_reset(struct model *model);

/* Read the wire from `at` on, and give cookies that occur twice new values.  Returns where the
 * wire ends for the model: beyond it, it could not keep count. */
size_t model_read_wire(struct model *model, uint8_t *wire, size_t at, size_t size);

/* What the server has sent so far: take in whole replies.  False: the last is cut off. */
bool model_take(struct model *model, const uint8_t *out, size_t size);

/* How a batch ended. */
enum ending {
    ENDING_QUIET, /* the client waited for all answers */
    ENDING_LATE,  /* the server is stopping: "shutting down" is a good answer */
    ENDING_CUT,   /* the connection broke: answers may be missing */
};

/* Judge what was answered to the calls that the wire holds up to `open`. */
void model_judge(struct model *model, size_t open, enum ending ending);

/* When all is over: what came in part may have been written in part. */
void model_end(const struct model *model);

#endif
