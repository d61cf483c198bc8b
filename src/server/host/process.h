/* SPDX-License-Identifier: BSD-3-Clause */

/* process - a descriptor that refers to a process
 *
 * Another process can get the same process id after a process has ended.  A descriptor never
 * refers to another process.  Any thread may call this function.
 */

#ifndef NBDRAM_SERVER_HOST_PROCESS_H
#define NBDRAM_SERVER_HOST_PROCESS_H

#include <sys/types.h>

/* Open a pidfd, close-on-exec.  poll reports it as readable when the process has ended.  Returns
 * the descriptor, or -errno. */
int process_open(pid_t process);

#endif
