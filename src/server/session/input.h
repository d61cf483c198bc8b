/* SPDX-License-Identifier: BSD-3-Clause */

/* input - a sequence of received bytes, which are processed one after the other
 *
 * The bytes are in scratch->in of the worker.  They are valid until the worker serves another
 * connection.  If bytes are left, inbox.c stores them in the connection.
 */

#ifndef NBDRAM_SERVER_SESSION_INPUT_H
#define NBDRAM_SERVER_SESSION_INPUT_H

#include <stddef.h>
#include <stdint.h>

struct input {
    const uint8_t *at; /* the next byte */
    size_t left;       /* the number of bytes that are not consumed yet */
};

/* Consume the next n bytes, and return a pointer to the first of them.  The input must have at
 * least n bytes left. */
static inline const uint8_t *input_consume(struct input *input, size_t n)
{
    const uint8_t *at = input->at;
    input->at += n;
    input->left -= n;
    return at;
}

#endif
