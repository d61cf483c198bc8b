/* SPDX-License-Identifier: BSD-3-Clause */

/* attempt - requests as a server's loop makes them: with the form that never waits and, for what
 * is left after -EAGAIN, with the form that waits
 *
 * Results are those of the form that waits.
 */

#ifndef NBDRAM_TESTS_ATTEMPT_H
#define NBDRAM_TESTS_ATTEMPT_H

#include <stddef.h>
#include <stdint.h>

struct disk;

int attempt_write(struct disk *disk, uint64_t offset, size_t count, const void *buf);
int attempt_zero(struct disk *disk, uint64_t offset, uint64_t count, unsigned flags);
int attempt_trim(struct disk *disk, uint64_t offset, uint64_t count);

#endif
