/* SPDX-License-Identifier: BSD-3-Clause */

/* --run: a shell script of assignments, then the command as it was given.  The variables are the
 * shell's, not exported, as with nbdkit; all are always set, so that none comes from outside. */

#include "server/host/captive.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "os/thread.h"
#include "server/host/parent_death.h"
#include "text/reason.h"
#include "text/string_builder.h"

/* What a shell answers when there is no such program. */
#define NOT_FOUND_STATUS 127

void captive_raise_descriptors(struct captive *captive)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return;
    captive->descriptors_at_start = limit;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

static void put_variable(FILE *script, const char *name, const char *value)
{
    fprintf(script, "%s='", name);
    for (; value && *value != '\0'; value++)
        if (*value == '\'')
            fputs("'\\''", script);
        else
            fputc(*value, script);
    fputs("'\n", script);
}

/* To be freed; NULL: no memory. */
static char *make_script(const struct captive_options *options)
{
    struct string_builder text;
    char port[16] = "";
    if (options->port != 0)
        snprintf(port, sizeof port, "%u", options->port);
    FILE *script = string_builder_open(&text);
    if (!script)
        return NULL;
    put_variable(script, "uri", options->uri);
    put_variable(script, "nbd", options->uri);
    put_variable(script, "port", port);
    put_variable(script, "unixsocket", options->unix_path);
    put_variable(script, "exportname", options->export_name);
    put_variable(script, "tls", options->tls);
    fprintf(script, "%s\n", options->command);
    return string_builder_close(&text, script);
}

/* In the child.  There may have been threads at the fork: async-signal-safe calls only. */
static void exec_shell(const struct captive *captive, const char *script, pid_t parent)
{
    static const char message[] = "nbdram: cannot start /bin/sh\n";
    struct sigaction ordinary = {.sa_handler = SIG_DFL};
    sigset_t none;
    /* Signals that cannot be changed, or are the C library's own, refuse; that is all right. */
    for (int signal_number = 1; signal_number < NSIG; signal_number++)
        sigaction(signal_number, &ordinary, NULL);
    if (parent_death_signal(SIGTERM, parent) < 0)
        _exit(NOT_FOUND_STATUS);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (captive->descriptors_at_start.rlim_max != 0)
        setrlimit(RLIMIT_NOFILE, &captive->descriptors_at_start);
    /* Our descriptors are close-on-exec; those that we were started with are the command's. */
    execl("/bin/sh", "sh", "-c", script, (char *)NULL);
    ssize_t written = write(STDERR_FILENO, message, sizeof message - 1);
    (void)written;
    _exit(NOT_FOUND_STATUS);
}

int captive_start(struct captive *captive, const struct captive_options *options,
                  struct reason *reason)
{
    char *script = make_script(options);
    if (!script)
        return reason_set(reason, -ENOMEM, "no memory for the command of --run");
    pid_t parent = getpid(), pid = fork();
    if (pid == 0)
        exec_shell(captive, script, parent);
    int err = pid < 0 ? -errno : 0;
    free(script);
    if (err)
        return reason_set(reason, err, "cannot fork: ");
    captive->child = pid;
    return 0;
}

bool captive_has_ended(struct captive *captive, int *status)
{
    int wait_status;
    if (captive->child == 0 || waitpid(captive->child, &wait_status, WNOHANG) != captive->child)
        return false;
    captive->child = 0;
    *status = captive_exit_status(wait_status);
    return true;
}

void captive_terminate(struct captive *captive)
{
    if (captive->child)
        kill(captive->child, SIGTERM);
}

void captive_wait(struct captive *captive, int64_t deadline)
{
    sigset_t ended;
    int status;
    sigemptyset(&ended);
    sigaddset(&ended, SIGCHLD);
    while (captive->child && !captive_has_ended(captive, &status)) {
        int64_t left = deadline - os_clock_ms();
        const struct timespec timeout = {left / 1000, left % 1000 * 1000000};
        if (left <= 0) {
            kill(captive->child, SIGKILL);
            waitpid(captive->child, NULL, 0);
            captive->child = 0;
            return;
        }
        sigtimedwait(&ended, NULL, &timeout);
    }
}

int captive_exit_status(int status)
{
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}
