/* SPDX-License-Identifier: BSD-3-Clause */

/* mutate - changes to an input that is a head and a list of things
 *
 * Half of the changes are those of the fuzzer; else a thing is doubled, dropped, made or moved,
 * or a single thing is changed.
 */

#ifndef NBDRAM_TESTS_MUTATE_H
#define NBDRAM_TESTS_MUTATE_H

#include <stddef.h>
#include <stdint.h>

struct mutate_shape {
    size_t head;  /* bytes */
    size_t thing; /* bytes; 0: the second byte of a thing says how many follow it */
};

/* libFuzzer's LLVMFuzzerCustomMutator. */
size_t mutate_things(const struct mutate_shape *shape, uint8_t *data, size_t size, size_t max,
                     unsigned seed);

#endif
