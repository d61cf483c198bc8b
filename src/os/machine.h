/* SPDX-License-Identifier: BSD-3-Clause */

/* os/machine - how much memory the machine has */

#ifndef NBDRAM_OS_MACHINE_H
#define NBDRAM_OS_MACHINE_H

#include <stdint.h>

struct os_memory_room {
    uint64_t total;     /* bytes of memory that this process could ever have */
    uint64_t swap;      /* bytes of swap that the machine has */
    uint64_t available; /* bytes that it could still take without swapping or being killed */
};

/* Ask the machine (/proc/meminfo) and every control group that this process is in, version 1 or
 * 2, and answer with the tightest of them.  What the kernel would drop to make room (clean page
 * cache) counts as available.  root is put before each path; "" is the real machine.
 *
 * -ENOENT if the machine does not tell; -EMFILE, -ENFILE, -ENOMEM if it cannot be asked at the
 * moment.  May be called from any thread. */
int os_memory_room(const char *root, struct os_memory_room *room);

#endif
