/* SPDX-License-Identifier: BSD-3-Clause */

/* mutate - changes to an input that is a head and records of one size
 *
 * Half of the time the fuzzer's own; else a record is doubled, dropped, moved, or changed alone.
 */

#ifndef NBDRAM_TESTS_MUTATE_H
#define NBDRAM_TESTS_MUTATE_H

#include <stddef.h>
#include <stdint.h>

#define MUTATE_RECORD_MAX 64u

struct mutate_shape {
    size_t head, record;
};

/* libFuzzer's LLVMFuzzerCustomMutator. */
size_t mutate_records(const struct mutate_shape *shape, uint8_t *data, size_t size, size_t max,
                      unsigned seed);

#endif
