/* SPDX-License-Identifier: BSD-3-Clause */

/* input - received bytes, processed from the front
 *
 * The bytes are in the scratch of the worker, and are good until the step ends.  What is still in
 * the input when its processing ends is kept by inbox.h.
 */

#ifndef NBDRAM_SERVER_SESSION_INPUT_H
#define NBDRAM_SERVER_SESSION_INPUT_H

#include <stddef.h>
#include <stdint.h>

struct input {
    const uint8_t *at;
    size_t left; /* bytes */
};

/* Consume n bytes, of which there must be so many.  Returns where they are. */
static inline const uint8_t *input_consume(struct input *input, size_t n)
{
    const uint8_t *at = input->at;
    input->at += n;
    input->left -= n;
    return at;
}

#endif
