/* SPDX-License-Identifier: BSD-3-Clause */

/* pidfile - a file with the process id
 *
 * Only the main thread calls these functions.
 */

#ifndef NBDRAM_SERVER_HOST_PIDFILE_H
#define NBDRAM_SERVER_HOST_PIDFILE_H

#include <stdbool.h>

struct reason; /* text/reason.h */

struct pidfile {
    const char *path; /* path of the file, owned by the caller; NULL: there is no file */
    int folder;       /* descriptor of the folder to which `path` is relative */
    bool is_written;
    int held; /* descriptor that keeps the lock of the file that we have written; -1: none */
};

/* Open the current folder, to which path is relative.  Writes nothing.  If there is a symbolic
 * link at path, it is refused, because an attacker may have put it there.  Links that the kernel
 * makes, such as /dev/fd/3, are accepted.
 *
 * If the file is that of a server that runs, it is refused, too: its lock is held, and it names a
 * process that lives.  Either alone shows nothing.  A server that was killed leaves the number,
 * which another process may have got since, and flock(1) may hold the lock of the same file.
 * Returns 0, or -errno with a reason. */
int pidfile_open(struct pidfile *pidfile, const char *path, struct reason *reason);

/* Write the process id and a newline.  A plain file is replaced whole, so that a reader never
 * finds a part of a number.  In two cases the line is written into the existing file instead: if
 * the file is a FIFO or a device, or if we are not permitted to create files in its folder.  A
 * plain file is then locked until pidfile_close.  The file may have become that of another server
 * since pidfile_open; that is an error.  Returns 0, or -errno with a reason. */
int pidfile_write(struct pidfile *pidfile, struct reason *reason);

/* If we have written the file, and it is still a plain file with our process id, remove it.  Then
 * close the folder.  Does nothing if path is NULL. */
void pidfile_close(struct pidfile *pidfile);

#endif
