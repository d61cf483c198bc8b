/* SPDX-License-Identifier: BSD-3-Clause */

/* haggle - what a server has to answer in the handshake
 *
 * Written from the specification ("Fixed newstyle negotiation", "Option types") a second time, to
 * be held against src/nbd/handshake.c: both read the same bytes.
 */

#ifndef NBDRAM_TESTS_HAGGLE_H
#define NBDRAM_TESTS_HAGGLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nbd/session.h"
#include "nbd/wire.h"

enum haggle_end {
    HAGGLE_WAITS,  /* for more bytes */
    HAGGLE_TLS,    /* what follows is encrypted */
    HAGGLE_GO,     /* the session is complete */
    HAGGLE_CLOSES, /* the server ends the connection */
};

struct haggle {
    const struct nbd_export *export;
    const struct nbd_policy *policy;
    bool dry; /* look at what is asked only, not at answers */
    struct wire_reader in, out;

    struct nbd_session session; /* as agreed on so far */
    bool has_flags, no_zeroes;
    const uint8_t *context_name;
    uint32_t context_size;
};

/* Read on until it ends somehow.  in and out are then behind what was looked at. */
enum haggle_end haggle_run(struct haggle *haggle);

#endif
