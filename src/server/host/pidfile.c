/* SPDX-License-Identifier: BSD-3-Clause */

#include "server/host/pidfile.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/host/file_replace.h"
#include "text/parse.h"
#include "text/reason.h"

struct pid_line {
    char text[32];
    size_t length;
};

/* Make the line that the file contains.  The line is made again whenever it is needed, because
 * the process id changes when the process goes to the background. */
static struct pid_line make_pid_line(void)
{
    struct pid_line line;
    line.length = (size_t)snprintf(line.text, sizeof line.text, "%ld\n", (long)getpid());
    return line;
}

/* Open the file at path if it is a plain file.  If a FIFO or a link is at the path, this neither
 * waits for the writer of the FIFO nor follows the link.  Returns a descriptor or -1. */
static int open_plain_file(int folder, const char *path)
{
    struct stat status;
    int fd = openat(folder, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
    if (fd < 0 || (fstat(fd, &status) == 0 && S_ISREG(status.st_mode)))
        return fd;
    close(fd);
    return -1;
}

/* Return the process id of the server that holds the lock of the file, or 0 if there is none. */
static pid_t find_holder(int folder, const char *path)
{
    char line[32];
    unsigned number = 0;
    int fd = open_plain_file(folder, path);
    if (fd < 0)
        return 0;
    ssize_t size = read(fd, line, sizeof line - 1);
    bool is_held = flock(fd, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK;
    close(fd);
    line[size < 0 ? 0 : size] = '\0';
    line[strcspn(line, "\n")] = '\0';
    if (!is_held || parse_number(line, PARSE_DECIMAL, 1, INT_MAX, &number) < 0)
        return 0;
    return kill((pid_t)number, 0) == 0 || errno == EPERM ? (pid_t)number : 0;
}

static int refuse_holder(int folder, const char *path, struct reason *reason)
{
    pid_t holder = find_holder(folder, path);
    if (holder == 0 || holder == getpid())
        return 0;
    return reason_set(
        reason, -EEXIST,
        "the pid file %s is that of process %ld, which runs: stop it, or give another "
        "file",
        path, (long)holder);
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
    int r = refuse_holder(folder, path, reason);
    if (r < 0) {
        close(folder);
        return r;
    }
    *pidfile = (struct pidfile){.path = path, .folder = folder, .held = -1};
    return 0;
}

/* Write the line, and lock the file if it is a plain file: see file_replace for *held. */
static int write_line(int folder, const char *path, int *held)
{
    const struct pid_line line = make_pid_line();
    struct stat status;
    bool exists = fstatat(folder, path, &status, AT_SYMLINK_NOFOLLOW) == 0;
    /* A FIFO or /dev/fd/3 must not be replaced, because another process may be reading from
     * it. */
    if (exists && !S_ISREG(status.st_mode) && !file_is_link(folder, path))
        return file_write_in_place(folder, path, line.text, line.length);
    int r = file_replace(folder, path, line.text, line.length, held);
    /* The file may have been prepared for us in a folder in which we are not permitted to create
     * files.  Then we write into that file. */
    if (exists && (r == -EACCES || r == -EPERM)) {
        r = file_write_in_place(folder, path, line.text, line.length);
        *held = r < 0 ? -1 : open_plain_file(folder, path);
        if (*held >= 0)
            flock(*held, LOCK_EX | LOCK_NB);
    }
    return r;
}

int pidfile_write(struct pidfile *pidfile, struct reason *reason)
{
    int r = refuse_holder(pidfile->folder, pidfile->path, reason);
    if (r < 0)
        return r;
    if (pidfile->held >= 0)
        close(pidfile->held);
    pidfile->held = -1;
    r = write_line(pidfile->folder, pidfile->path, &pidfile->held);
    if (r < 0)
        return reason_set(reason, r, "cannot write the pid file %s: ", pidfile->path);
    pidfile->is_written = true;
    return 0;
}

static bool holds_our_number(const struct pidfile *pidfile)
{
    const struct pid_line line = make_pid_line();
    char found[sizeof line.text];
    int fd = open_plain_file(pidfile->folder, pidfile->path);
    if (fd < 0)
        return false;
    bool is_ours = read(fd, found, sizeof found) == (ssize_t)line.length &&
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
    if (pidfile->held >= 0)
        close(pidfile->held);
    close(pidfile->folder);
    *pidfile = (struct pidfile){.path = NULL};
}
