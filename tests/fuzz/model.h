/* SPDX-License-Identifier: BSD-3-Clause */

/* model - what a server has to answer to bytes of the transmission phase
 *
 * It parses the same bytes as the server, with code of its own (NBD specification, "Transmission
 * phase"), and so need not know what the bytes were meant to be.  It predicts errors exactly, and
 * data by a shadow of the disk.  Requests change the shadow in the order in which they came.  A
 * read returns what was there before it, or what another request of its batch puts there, because
 * that is in flight at the same time.  A batch ends where the client waits for its replies.
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

/* A request, and its replies. */
struct call {
    uint16_t flags, type;
    uint64_t cookie, offset, length;
    const uint8_t *payload;
    uint64_t payload_size;
    size_t begin, end; /* its bytes of the wire; end SIZE_MAX: it is cut off */
    uint32_t error;    /* the expected one, as on the wire */
    bool empty_status; /* a status of no context: success without descriptors */

    bool answered;
    uint32_t got;
    uint64_t covered;      /* bytes of a read that were received */
    unsigned first, last;  /* indices of its pieces */
    const uint8_t *status; /* descriptors */
    uint32_t status_count;
};

/* A piece of a read: data, or a hole (NULL). */
struct piece {
    const uint8_t *bytes;
    uint64_t offset, count;
    unsigned next;
};

struct model {
    /* set by the target */
    enum nbd_style style;
    bool has_context, read_only;
    bool limited;  /* ENOSPC is a valid reply */
    bool may_stay; /* a trim need not change anything */
    uint64_t size;
    uint32_t payload_max;

    /* used by the model */
    struct call calls[MODEL_CALLS_MAX];
    unsigned count;  /* that were received; the last one perhaps in part */
    bool partial;    /* the last one was received in part */
    unsigned judged; /* calls of earlier batches */
    struct piece pieces[MODEL_PIECES_MAX];
    unsigned piece_count;
    size_t stop;   /* bytes of the wire that are answered though the server stops */
    size_t open;   /* bytes of the wire that the server may have seen */
    size_t out_at; /* bytes of the server that were parsed */
};

/* Forget the last input. */
void model_reset(struct model *model);

/* Parse the wire from `at`, and replace cookies that occur twice.  Returns where the wire has to
 * end, because the model has no room for more. */
size_t model_read_wire(struct model *model, uint8_t *wire, size_t at, size_t size);

/* Take whole replies from the bytes that the server has sent so far.  False: the last one is cut
 * off. */
bool model_take(struct model *model, const uint8_t *out, size_t size);

/* How a batch ended. */
enum ending {
    ENDING_QUIET, /* the client waited for all replies */
    ENDING_LATE,  /* the server is stopping: ESHUTDOWN is a valid reply */
    ENDING_CUT,   /* the connection broke: replies may be missing */
};

/* Judge the replies to the calls that are in the wire before `open`. */
void model_judge(struct model *model, size_t open, enum ending ending);

/* Call this at the end: a write that was received in part may have been carried out in part. */
void model_end(const struct model *model);

#endif
