/* SPDX-License-Identifier: BSD-3-Clause */

/* The shell gets a script: an assignment to each variable, then the command as it was given.  As
 * in nbdkit the variables are not exported.  Each is always assigned to, so that no value comes
 * from the environment. */

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

/* The status of a shell that does not find a program. */
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

/* Assign a value in single quotes, in which only a single quote is special. */
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

/* In the child.  Other threads may have held locks at the fork, so only async-signal-safe
 * functions may be called. */
static void exec_shell(const struct captive *captive, const char *script, pid_t parent)
{
    static const char message[] = "nbdram: cannot start /bin/sh\n";
    struct sigaction ordinary = {.sa_handler = SIG_DFL};
    sigset_t none;
    /* This fails for SIGKILL, SIGSTOP and the C library's own signals, which need no change. */
    for (int signal_number = 1; signal_number < NSIG; signal_number++)
        sigaction(signal_number, &ordinary, NULL);
    if (parent_death_signal(SIGTERM, parent) < 0)
        _exit(NOT_FOUND_STATUS);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (captive->descriptors_at_start.rlim_max != 0)
        setrlimit(RLIMIT_NOFILE, &captive->descriptors_at_start);
    /* Exec closes our own descriptors, which are close-on-exec. */
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
    int r = pid < 0 ? reason_set(reason, -errno, "cannot fork: ") : 0;
    free(script);
    if (r < 0)
        return r;
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

int captive_exit_status(int wait_status)
{
    return WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
}
