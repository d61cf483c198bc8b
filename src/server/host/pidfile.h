/* SPDX-License-Identifier: BSD-3-Clause */

/* pidfile - the number of the process, in a file
 *
 * Called by the main thread.
 */

#ifndef NBDRAM_SERVER_HOST_PIDFILE_H
#define NBDRAM_SERVER_HOST_PIDFILE_H

#include <stdbool.h>

struct reason; /* text/reason.h */

struct pidfile {
    const char *path; /* owned by the caller; NULL: no file */
    int folder;       /* a descriptor of the folder to which a relative path belongs */
    bool is_written;
};

/* Open the current folder, to which path is relative.  Writes nothing.  A symbolic link at path
 * is refused, because an attacker may have put it there; but links that the kernel makes, such as
 * /dev/fd/3, are accepted.  Returns 0, or -errno with a reason. */
int pidfile_open(struct pidfile *pidfile, const char *path, struct reason *reason);

/* Write the number of this process and a newline.  A plain file is replaced whole, so that a
 * reader never finds a part of a number.  A FIFO or a device is not replaced, but written to; so
 * is a plain file in a folder in which we may not create files.  Returns 0, or -errno with a
 * reason. */
int pidfile_write(struct pidfile *pidfile, struct reason *reason);

/* Remove the file, if we have written it, and it is still a plain file and still holds our
 * number. Closes the folder.  Does nothing if path is NULL. */
void pidfile_close(struct pidfile *pidfile);

#endif
