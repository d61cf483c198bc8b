/* SPDX-License-Identifier: BSD-3-Clause */

/* os/machine - how much memory the machine can give to this process */

#ifndef NBDRAM_OS_MACHINE_H
#define NBDRAM_OS_MACHINE_H

#include <stdint.h>

struct os_memory_room {
    uint64_t total;     /* bytes: the most memory that the process could ever have */
    uint64_t swap;      /* bytes: the machine's swap */
    uint64_t available; /* bytes: what it could take now without swapping or being killed */
};

/* Ask the machine (/proc/meminfo) and each control group that the process is in, of version 1 or
 * 2, and fill in *room with the lowest of their answers.  The limit of a group is memory.max or
 * memory.high, whichever is lower: beyond memory.high the kernel lets a process do next to
 * nothing.  Memory that the kernel would free to make room (page cache that need not be written
 * first) counts as available.  The paths of files are appended to root: "" is the real machine,
 * and tests make up others.
 *
 * 0
 * -ENOENT                    the machine has no /proc/meminfo, or not with these lines
 * -EMFILE, -ENFILE, -ENOMEM  a file cannot be opened at the moment
 *
 * After an error *room is undefined.  Reads four files for each group and two others: some 100
 * microseconds.  Any thread may call it. */
int os_memory_room(const char *root, struct os_memory_room *room);

#endif
