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
    const char *path; /* the caller's; NULL: no file */
    int folder;       /* a descriptor of the folder to which a relative path belongs */
    bool is_written;
};

/* Remember the current folder, to which path is relative.  Writes nothing.  A symbolic link is
 * refused, because somebody else may have put it there; but not /dev/fd/3.  Returns 0, or -errno
 * with a reason. */
int pidfile_open(struct pidfile *pidfile, const char *path, struct reason *reason);

/* Write the number of this process and a newline.  A plain file is replaced whole, so that a
 * reader never finds a part of a number.  A FIFO or a device is written to instead, as is a file
 * in a folder in which we may not create another.  Returns 0, or -errno with a reason. */
int pidfile_write(struct pidfile *pidfile, struct reason *reason);

/* Remove the file if it was written, is still a plain file and still holds our number, and forget
 * the folder.  Does nothing if there is no file (path NULL). */
void pidfile_close(struct pidfile *pidfile);

#endif
