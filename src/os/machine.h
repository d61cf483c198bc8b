/* SPDX-License-Identifier: BSD-3-Clause */

/* os/machine - how much memory the machine can give to this process */

#ifndef NBDRAM_OS_MACHINE_H
#define NBDRAM_OS_MACHINE_H

#include <stdint.h>

struct os_memory_room {
    uint64_t total;     /* bytes: the most memory that the process could ever have */
    uint64_t swap;      /* bytes: the size of the machine's swap */
    uint64_t available; /* bytes that the process can take now without swapping or being killed */
};

/* Find out how much memory this process can get.  The machine (/proc/meminfo) gives an answer,
 * and so does each control group of the process, of version 1 or 2.  In *room, total and
 * available become the lowest of the answers.
 *
 * The limit of a group is memory.max or memory.high, whichever is lower, because above
 * memory.high the kernel slows a process down until it does almost nothing.  Memory that the
 * kernel can free when memory is needed counts as available.  An example is page cache that need
 * not be written to its file first.  `root` is put before the path of each file.  It is "" for
 * the real machine; tests pass a directory with files that they made up.
 *
 * 0                          *room is filled in
 * -ENOENT                    there is no /proc/meminfo, or it lacks a line that is needed
 * -EMFILE, -ENFILE, -ENOMEM  a file cannot be opened at the moment
 *
 * After an error *room is undefined.  The function reads four files for each group, and two other
 * files.  That takes some 100 microseconds.  Any thread may call the function. */
int os_memory_room(const char *root, struct os_memory_room *room);

#endif
