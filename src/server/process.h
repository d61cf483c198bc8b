/* SPDX-License-Identifier: BSD-3-Clause */

/* process - what a server process does besides serving
 *
 * All called by the main thread.  -errno, and one line in why, unless said otherwise.
 */

#ifndef NBDRAM_SERVER_PROCESS_H
#define NBDRAM_SERVER_PROCESS_H

#include <pthread.h>
#include <stddef.h>
#include <sys/types.h>

#include "server/listen.h"
#include "server/options.h"

/* Go to the background (fork, new session, folder /, standard streams from and to the null
 * device), before any thread exists.  The parent waits: it exits 0 when the child calls
 * process_ready, and 1 if the child ends before, with what the child said on standard error
 * still shown; only the child returns.  Standard output and error stay until process_ready. */
int process_background(char *why, size_t why_size);

/* The server accepts connections: let the parent go, if there is one, and leave the terminal. */
void process_ready(void);

/* Write the process's number and a newline, whole: to a new file that is then renamed (a FIFO or
 * device is written to).  The folder is the one that was current at the start, also after
 * process_background. */
int process_write_pidfile(const char *path, char *why, size_t why_size);

/* Remove it, if it still holds our number. */
void process_remove_pidfile(const char *path);

/* Become another user and group, supplementary groups included; verified. */
int process_drop_privileges(const char *user, const char *group, char *why, size_t why_size);

/* As many descriptors as the hard limit allows. */
void process_raise_descriptors(void);

/* As much locked memory as we may have, for mlock=true and --swap: without a limit by the right
 * of root, else what the hard limit allows.  Before disk_create, and before privileges go. */
void process_raise_locked_memory(void);

/* --swap: tell the kernel that we are part of writing pages out (PR_SET_IO_FLUSHER), as far as it
 * lets us: before privileges go, and before there are threads, which inherit it. */
void process_become_flusher(void);

/* --swap: lock the program's own code and data (not the disk): when its threads have started. */
int process_prepare_swap(char *why, size_t why_size);

/* --swap: lock a thread's stack, as far down as it needs, and a piece of malloc's that it works
 * with (NULL: none). */
int process_lock_thread(pthread_t thread, void *piece, char *why, size_t why_size);

/* Have a signal (SIGTERM) sent when the parent ends. */
int process_exit_with_parent(char *why, size_t why_size);

/* Start COMMAND by /bin/sh with nbdkit's variables before it ($uri $nbd $unixsocket $port
 * $exportname, each quoted for the shell; also $tls and $tls_certificates where nbdkit has them);
 * it gets default signals and those descriptors that we were started with.  It is sent SIGTERM if
 * we end first. */
int process_run(const struct options *options, const struct listeners *listeners, pid_t *child,
                char *why, size_t why_size);

/* A wait status to our own exit status: its status, or 128 + signal. */
int process_exit_status(int status);

#endif
