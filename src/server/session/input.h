/* SPDX-License-Identifier: BSD-3-Clause */

/* input - received bytes, processed from the front
 *
 * The bytes are in the worker's scratch, and are valid until the step ends.  inbox.c keeps the
 * bytes that were not processed.
 */

#ifndef NBDRAM_SERVER_SESSION_INPUT_H
#define NBDRAM_SERVER_SESSION_INPUT_H

#include <stddef.h>
#include <stdint.h>

struct input {
    const uint8_t *at; /* the next byte */
    size_t left;       /* the number of bytes not consumed yet */
};

/* Consume n bytes.  At least n bytes must be left.  Returns a pointer to the first of them. */
static inline const uint8_t *input_consume(struct input *input, size_t n)
{
    const uint8_t *at = input->at;
    input->at += n;
    input->left -= n;
    return at;
}

#endif
