/* SPDX-License-Identifier: BSD-3-Clause */

/* haggle - what a server has to answer in the handshake
 *
 * A second handshake, written from the specification ("Fixed newstyle negotiation", "Option
 * types"), which is compared with src/nbd/handshake.c: both read the same bytes.
 */

#ifndef NBDRAM_TESTS_HAGGLE_H
#define NBDRAM_TESTS_HAGGLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nbd/session.h"
#include "nbd/wire.h"

enum haggle_end {
    HAGGLE_WAITS,  /* there have to be more bytes */
    HAGGLE_TLS,    /* what follows is encrypted */
    HAGGLE_GO,     /* the session is complete */
    HAGGLE_CLOSES, /* the server ends the connection */
};

struct haggle {
    const struct nbd_export *export;
    const struct nbd_policy *policy;
    bool dry; /* read the options only, not the replies */
    struct wire_reader in, out;

    struct nbd_session session; /* as negotiated so far */
    bool has_flags, no_zeroes;
    const uint8_t *context_name;
    uint32_t context_size;
};

/* Read on until the handshake ends or has to wait.  `in` and `out` are then after what was
 * read. */
enum haggle_end haggle_run(struct haggle *haggle);

#endif
