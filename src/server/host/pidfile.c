/* SPDX-License-Identifier: BSD-3-Clause */

#include "server/host/pidfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/host/file_replace.h"
#include "text/reason.h"

struct pid_line {
    char text[32];
    size_t length;
};

/* Make the line that the file contains.  The line is made again whenever it is needed, because
 * the process id changes when the process goes to the background. */
static struct pid_line make_line(void)
{
    struct pid_line line;
    line.length = (size_t)snprintf(line.text, sizeof line.text, "%ld\n", (long)getpid());
    return line;
}

int pidfile_open(struct pidfile *pidfile, const char *path, struct reason *reason)
{
    int folder = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0)
        return reason_set(reason, -errno, "the current folder: ");
    if (file_is_link(folder, path)) {
        close(folder);
        return reason_set(reason, -ELOOP,
                          "the pid file %s is a symbolic link: a file, a new one, "
                          "or a FIFO is accepted",
                          path);
    }
    *pidfile = (struct pidfile){.path = path, .folder = folder};
    return 0;
}

static int write_line(int folder, const char *path)
{
    const struct pid_line line = make_line();
    struct stat status;
    bool exists = fstatat(folder, path, &status, AT_SYMLINK_NOFOLLOW) == 0;
    /* A FIFO or /dev/fd/3 must not be replaced, because another process may be reading from
     * it. */
    if (exists && !S_ISREG(status.st_mode) && !file_is_link(folder, path))
        return file_write_in_place(folder, path, line.text, line.length);
    int r = file_replace(folder, path, line.text, line.length);
    /* The file may have been prepared for us in a folder in which we are not permitted to create
     * files.  Then we write into that file. */
    if (exists && (r == -EACCES || r == -EPERM))
        r = file_write_in_place(folder, path, line.text, line.length);
    return r;
}

int pidfile_write(struct pidfile *pidfile, struct reason *reason)
{
    int r = write_line(pidfile->folder, pidfile->path);
    if (r < 0)
        return reason_set(reason, r, "cannot write the pid file %s: ", pidfile->path);
    pidfile->is_written = true;
    return 0;
}

static bool holds_our_number(const struct pidfile *pidfile)
{
    const struct pid_line line = make_line();
    char found[sizeof line.text];
    struct stat status;
    /* If a FIFO or a link is at the path, it is not our file.  So this call neither waits for the
     * writer of a FIFO nor follows a link. */
    int fd = openat(pidfile->folder, pidfile->path,
                    O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return false;
    bool is_ours = fstat(fd, &status) == 0 && S_ISREG(status.st_mode) &&
                   read(fd, found, sizeof found) == (ssize_t)line.length &&
                   memcmp(line.text, found, line.length) == 0;
    close(fd);
    return is_ours;
}

void pidfile_close(struct pidfile *pidfile)
{
    if (!pidfile->path)
        return;
    if (pidfile->is_written && holds_our_number(pidfile))
        unlinkat(pidfile->folder, pidfile->path, 0);
    close(pidfile->folder);
    *pidfile = (struct pidfile){.path = NULL};
}
