/* SPDX-License-Identifier: BSD-3-Clause */

/* Going to the background:
 *
 *   parent                                child
 *   fork  ------------------------------> new session, folder /, no input
 *   waits for a byte on a pipe            ... prepares to serve; can still print ...
 *   exit 0  <---------------------------- background_ready: output is let go; then a byte
 *   exit 1  <---------------------------- the child ends earlier: the pipe is closed
 *
 * Ctrl-C ends only the parent, because the child has its own session.  But a person who has
 * pressed Ctrl-C does not expect a server to appear later.  So if the parent ends before the
 * child is ready, the kernel sends SIGTERM to the child. */

#include "server/host/background.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "server/host/parent_death.h"
#include "text/reason.h"

/* Called in the parent.  Never returns. */
static void await_child(pid_t child, int pipe)
{
    char byte;
    ssize_t got;
    sigset_t none;
    /* The server may have blocked signals that it handles itself.  The parent unblocks all
     * signals, because a signal has to end the parent. */
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
    /* If the child has exited, it has printed the reason itself.  If a signal has ended the
     * child, the parent prints that. */
    if (WIFSIGNALED(status))
        fprintf(stderr, "nbdram: ended by signal %d (%s) before it was ready\n", WTERMSIG(status),
                strsignal(WTERMSIG(status)));
    _exit(1);
}

/* Called in the child. */
static int detach(pid_t parent, struct reason *reason)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0)
        return reason_set(reason, -errno,
                          "cannot go to the background without /dev/null (mount /dev, or stay in "
                          "the foreground with -f): ");
    int r = 0;
    if (setsid() < 0 || chdir("/") < 0 || dup2(null, STDIN_FILENO) < 0)
        r = reason_set(reason, -errno, "cannot go to the background: ");
    if (null > STDERR_FILENO)
        close(null);
    if (parent_death_signal(SIGTERM, parent) == -ESRCH)
        raise(SIGTERM);
    return r;
}

int background_enter(struct background *background, struct reason *reason)
{
    int pipe[2];
    if (pipe2(pipe, O_CLOEXEC) < 0)
        return reason_set(reason, -errno, "cannot make a pipe: ");
    /* If the bytes in the buffers of standard output were not written before the fork, both
     * processes would write them. */
    fflush(NULL);
    pid_t parent = getpid(), child = fork();
    if (child < 0) {
        int r = reason_set(reason, -errno, "cannot fork: ");
        close(pipe[0]);
        close(pipe[1]);
        return r;
    }
    if (child > 0) {
        close(pipe[1]);
        await_child(child, pipe[0]);
    }
    close(pipe[0]);
    *background = (struct background){.is_awaited = true, .pipe = pipe[1]};
    return detach(parent, reason);
}

void background_ready(struct background *background, bool keeps_errors)
{
    if (!background->is_awaited)
        return;
    parent_death_signal(0, getppid());
    fflush(NULL);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null >= 0) {
        dup2(null, STDOUT_FILENO);
        if (!keeps_errors)
            dup2(null, STDERR_FILENO);
        if (null > STDERR_FILENO)
            close(null);
    }
    /* The write fails if the parent has been killed.  The failure does not matter, because no
     * other process waits for the byte. */
    ssize_t written = write(background->pipe, "", 1);
    (void)written;
    close(background->pipe);
    background->is_awaited = false;
}
