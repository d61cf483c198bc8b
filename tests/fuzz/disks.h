/* SPDX-License-Identifier: BSD-3-Clause */

/* disks - the disks of the targets, each with its shadow
 *
 * A disk is made when it is first used, and zeroed for the next input.  The first byte of an
 * input chooses the disk.
 */

#ifndef NBDRAM_TESTS_DISKS_H
#define NBDRAM_TESTS_DISKS_H

#include <stdint.h>

#include "disk/disk.h"

const struct disk_options *disks_options(uint8_t choice);
struct disk *disks_find(uint8_t choice);
void disks_clean(uint8_t choice);

#endif
