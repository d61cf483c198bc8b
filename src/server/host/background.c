/* SPDX-License-Identifier: BSD-3-Clause */

/* Going to the background:
 *
 *   parent                                child
 *   fork  ------------------------------> new session, folder /, no input
 *   waits for a byte on a pipe            ... prepares to serve; can still print ...
 *   exit 0  <---------------------------- background_ready: no output any more; then a byte
 *   exit 1  <---------------------------- or it ends: the pipe is closed
 *
 * Until it is ready, the child is sent SIGTERM if the parent ends: who stops waiting (Ctrl-C does
 * not reach a session of its own) wants no server to appear later. */

#include "server/host/background.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "text/reason.h"

#define PID_LINE_BYTES 32

/* What a process has once, and the main thread only uses: the way back to where it was started.
 */
static struct {
    int waiting; /* where the parent waits for a byte, or -1 */
    int folder;  /* that was current at the start; for *at() functions */
} start = {.waiting = -1, .folder = AT_FDCWD};

/* Never returns. */
static void wait_for(pid_t child, int pipe)
{
    char byte;
    ssize_t got;
    sigset_t none;
    /* The server may take its signals in its own way already; this is to end by them. */
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    do {
        got = read(pipe, &byte, 1);
    } while (got < 0 && errno == EINTR);
    if (got == 1)
        _exit(0);
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        continue;
    /* A child that ended by itself has said why. */
    if (WIFSIGNALED(status))
        fprintf(stderr, "nbdram: ended by signal %d (%s) before it was ready\n", WTERMSIG(status),
                strsignal(WTERMSIG(status)));
    _exit(1);
}

static int detach(pid_t parent, int folder, struct reason *reason)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0)
        return reason_set(reason, -errno, "/dev/null: ");
    int err = 0;
    if (setsid() < 0 || chdir("/") < 0 || dup2(null, STDIN_FILENO) < 0)
        err = reason_set(reason, -errno, "cannot go to the background: ");
    if (null > STDERR_FILENO)
        close(null);
    start.folder = folder;
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent)
        raise(SIGTERM);
    return err;
}

int background_enter(struct reason *reason)
{
    int pipe[2];
    int folder = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0)
        return reason_set(reason, -errno, "the current folder: ");
    if (pipe2(pipe, O_CLOEXEC) < 0) {
        int err = reason_set(reason, -errno, "cannot make a pipe: ");
        close(folder);
        return err;
    }
    /* Or both would write what is still in the buffers. */
    fflush(NULL);
    pid_t parent = getpid(), child = fork();
    if (child < 0) {
        int err = reason_set(reason, -errno, "cannot fork: ");
        close(folder);
        close(pipe[0]);
        close(pipe[1]);
        return err;
    }
    if (child > 0) {
        close(pipe[1]);
        wait_for(child, pipe[0]);
    }
    close(pipe[0]);
    start.waiting = pipe[1];
    return detach(parent, folder, reason);
}

void background_ready(void)
{
    if (start.waiting < 0)
        return;
    prctl(PR_SET_PDEATHSIG, 0);
    fflush(NULL);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null >= 0) {
        dup2(null, STDOUT_FILENO);
        dup2(null, STDERR_FILENO);
        if (null > STDERR_FILENO)
            close(null);
    }
    /* The parent may have been killed: nobody is waiting then. */
    ssize_t written = write(start.waiting, "", 1);
    (void)written;
    close(start.waiting);
    start.waiting = -1;
}

static int pid_line(char *line)
{
    return snprintf(line, PID_LINE_BYTES, "%ld\n", (long)getpid());
}

/* The file open gives, written and closed. */
static int write_pid(int fd)
{
    char line[PID_LINE_BYTES];
    if (fd < 0)
        return -errno;
    size_t length = (size_t)pid_line(line);
    ssize_t written = write(fd, line, length);
    int err = written < 0 ? -errno : written == (ssize_t)length ? 0 : -ENOSPC;
    if (close(fd) < 0 && !err)
        err = -errno;
    return err;
}

/* What is not a plain file (a FIFO that somebody waits at, a link to /dev/fd) is written to, not
 * replaced. */
static int write_in_place(const char *path)
{
    return write_pid(
        openat(start.folder, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY, 0644));
}

static int replace(const char *path)
{
    char *draft = NULL;
    if (asprintf(&draft, "%s.%ld", path, (long)getpid()) < 0)
        return -ENOMEM;
    /* Left there by an earlier process of our number. */
    unlinkat(start.folder, draft, 0);
    int fd = openat(start.folder, draft, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    int err = fd < 0 ? -errno : write_pid(fd);
    if (!err && renameat(start.folder, draft, start.folder, path) < 0)
        err = -errno;
    if (err && fd >= 0)
        unlinkat(start.folder, draft, 0);
    free(draft);
    return err;
}

int pidfile_write(const char *path, struct reason *reason)
{
    struct stat status;
    bool exists = fstatat(start.folder, path, &status, AT_SYMLINK_NOFOLLOW) == 0;
    int err = exists && !S_ISREG(status.st_mode) ? write_in_place(path) : replace(path);
    /* A file that was prepared for us, in a folder that is not ours. */
    if (exists && (err == -EACCES || err == -EPERM))
        err = write_in_place(path);
    if (err)
        return reason_set(reason, err, "cannot write the pid file %s: ", path);
    return 0;
}

void pidfile_remove(const char *path)
{
    char line[PID_LINE_BYTES], found[PID_LINE_BYTES];
    int length = pid_line(line);
    /* Not a FIFO, nor through a link: those were there before us. */
    int fd =
        openat(start.folder, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return;
    struct stat status;
    bool ours = fstat(fd, &status) == 0 && S_ISREG(status.st_mode) &&
                read(fd, found, sizeof found) == length &&
                memcmp(line, found, (size_t)length) == 0;
    close(fd);
    if (ours)
        unlinkat(start.folder, path, 0);
}

int background_exit_with_parent(struct reason *reason)
{
    pid_t parent = getppid();
    if (prctl(PR_SET_PDEATHSIG, SIGTERM) < 0)
        return reason_set(reason, -errno, "--exit-with-parent: ");
    if (getppid() != parent)
        return reason_set(reason, -ESRCH, "--exit-with-parent: the parent has ended already");
    return 0;
}
