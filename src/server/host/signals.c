/* SPDX-License-Identifier: BSD-3-Clause */

#include "server/host/signals.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "text/reason.h"

/* The kernel opens /dev/tty only for a process that has a controlling terminal.  If /dev/tty
 * cannot be opened for another reason, we suppose that there is no terminal: a server that stays
 * by mistake can be ended, but one that ends by mistake loses the disk. */
bool signals_have_terminal(void)
{
    int fd = open("/dev/tty", O_RDONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return false;
    close(fd);
    return true;
}

int signals_open(struct reason *reason)
{
    sigset_t set;
    struct sigaction hangup;
    static const int handled[] = {SIGINT, SIGTERM, SIGQUIT, SIGUSR1, SIGCHLD};
    signal(SIGPIPE, SIG_IGN);
    /* The kernel does not deliver an ignored signal, and SIGCHLD may have been ignored when we
     * were started. */
    signal(SIGCHLD, SIG_DFL);
    sigemptyset(&set);
    for (size_t i = 0; i < sizeof handled / sizeof handled[0]; i++)
        sigaddset(&set, handled[i]);
    if (sigaction(SIGHUP, NULL, &hangup) == 0 && hangup.sa_handler != SIG_IGN)
        sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);
    int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return fd < 0 ? reason_set(reason, -errno, "cannot receive signals: ") : fd;
}

enum signal_event signals_read(int fd)
{
    struct signalfd_siginfo signal;
    if (read(fd, &signal, sizeof signal) != (ssize_t)sizeof signal)
        return SIGNAL_NONE;
    switch (signal.ssi_signo) {
    case SIGUSR1:
        return SIGNAL_STATS;
    case SIGCHLD:
        return SIGNAL_CHILD;
    case SIGHUP:
        return SIGNAL_HANGUP;
    default:
        return SIGNAL_STOP;
    }
}
