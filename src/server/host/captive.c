/* SPDX-License-Identifier: BSD-3-Clause */

/* The command of --run starts last, but runs with the rights, limits and descriptors with which
 * the server was started.  So the process of the command is forked first.  The process then waits
 * for a shell script, which the server sends when the command has to start.
 *
 *     server ---- fork ----------------------------------> child     waits at a pipe
 *       | \------ fork, if rights are to be given up -----> killer    waits at a pipe
 *       |  raises limits, opens sockets, becomes a user ...
 *       |  script, and a NUL ----------------------------> child     becomes /bin/sh
 *       |  the number of a signal --------> killer ------> child
 *       |  ends: the pipe is closed ------> killer --SIGTERM--> child
 *
 * Only root and the user of the command are permitted to send signals to the command.  If the
 * server becomes another user, the killer sends the signals instead.
 *
 * The child has asked the kernel for a SIGTERM when the server ends.  If the server has become
 * another user, the kernel does not send this signal, so the killer sends SIGTERM when the server
 * ends.
 *
 * The script first assigns a value to every variable, even if the value is empty.  So no variable
 * has a value from the environment.  The command follows as it was given.  As in nbdkit, the
 * variables are not exported. */

#include "server/host/captive.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "os/thread.h"
#include "server/host/parent_death.h"
#include "server/host/process.h"
#include "text/reason.h"
#include "text/string_builder.h"

/* The exit status of a shell that cannot find a program. */
#define NOT_FOUND_STATUS 127

/* The longest argument that Linux accepts (MAX_ARG_STRLEN). */
#define SCRIPT_MAX (128u << 10)

/* We wait this long for the command to end after SIGKILL.  The time is limited, because the
 * killer, which sends the signal, may be stopped or gone. */
#define KILL_MILLISECONDS 200

/* Write the shell assignment NAME='VALUE'.  Inside single quotes, only a single quote has a
 * special meaning. */
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

/* Make the script: the assignments of the variables, and then the command.  Returns the script,
 * which the caller frees, or NULL if there is no memory. */
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

/* In the child. */

/* Receive the script.  Returns true if the whole script has arrived.  A part of a script must not
 * run, because the beginning of a command can do something else than the whole command. */
static bool receive_script(int from, char script[SCRIPT_MAX])
{
    char piece[4096];
    size_t size = 0;
    ssize_t n;
    while ((n = read(from, piece, sizeof piece)) > 0 || (n < 0 && errno == EINTR)) {
        if (n > 0 && (size_t)n <= SCRIPT_MAX - size) {
            memcpy(script + size, piece, (size_t)n);
            size += (size_t)n;
        }
    }
    return size > 0 && script[size - 1] == '\0';
}

static void __attribute__((noreturn)) run_child(int from, pid_t parent)
{
    static const char message[] = "nbdram: cannot start /bin/sh\n";
    static char script[SCRIPT_MAX];
    struct sigaction ordinary = {.sa_handler = SIG_DFL};
    sigset_t none;
    /* sigaction fails for SIGKILL, for SIGSTOP and for the C library's own signals.  The actions
     * of these signals need no change. */
    for (int signal_number = 1; signal_number < NSIG; signal_number++)
        sigaction(signal_number, &ordinary, NULL);
    if (parent_death_signal(SIGTERM, parent) < 0)
        _exit(NOT_FOUND_STATUS);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (!receive_script(from, script))
        _exit(NOT_FOUND_STATUS);
    /* Exec closes the descriptors of the server, because they are close-on-exec. */
    execl("/bin/sh", "sh", "-c", script, (char *)NULL);
    ssize_t written = write(STDERR_FILENO, message, sizeof message - 1);
    (void)written;
    _exit(NOT_FOUND_STATUS);
}

/* In the killer. */

/* The killer uses a pidfd of the child instead of the child's process id, because another process
 * can get the same id after the child has ended. */
static void __attribute__((noreturn)) run_killer(int from, int child)
{
    unsigned char number = 0;
    while (read(from, &number, 1) == 1)
        syscall(SYS_pidfd_send_signal, child, number, NULL, 0);
    syscall(SYS_pidfd_send_signal, child, SIGTERM, NULL, 0);
    _exit(0);
}

static int fork_killer(struct captive *captive)
{
    int ends[2], child = process_open(captive->child);
    if (child < 0)
        return child;
    int r = pipe2(ends, O_CLOEXEC) < 0 ? -errno : 0;
    if (r == 0) {
        sigset_t all, before;
        /* Block all signals in the killer.  A signal that a terminal sends to all our processes
         * must not end the killer. */
        sigfillset(&all);
        sigprocmask(SIG_SETMASK, &all, &before);
        pid_t pid = fork();
        r = pid < 0 ? -errno : 0;
        if (pid == 0) {
            close(captive->script);
            close(ends[1]);
            run_killer(ends[0], child);
        }
        sigprocmask(SIG_SETMASK, &before, NULL);
        close(ends[0]);
        captive->killer = ends[1];
        captive->has_killer = r == 0;
        if (r < 0)
            close(ends[1]);
    }
    close(child);
    return r;
}

/* In the server. */

int captive_fork(struct captive *captive, bool has_killer, struct reason *reason)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return reason_set(reason, -errno, "cannot make a pipe: ");
    pid_t parent = getpid(), pid = fork();
    if (pid == 0) {
        close(ends[1]);
        run_child(ends[0], parent);
    }
    int r = pid < 0 ? -errno : 0;
    close(ends[0]);
    if (r < 0) {
        close(ends[1]);
        return reason_set(reason, r, "cannot fork: ");
    }
    *captive = (struct captive){.child = pid, .script = ends[1]};
    r = has_killer ? fork_killer(captive) : 0;
    return r < 0 ? reason_set(reason, r, "cannot watch over the command of --run: ") : 0;
}

static int send_script(int to, const char *script, size_t size)
{
    while (size > 0) {
        ssize_t n = write(to, script, size);
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0) {
            script += n;
            size -= (size_t)n;
        }
    }
    return 0;
}

int captive_start(struct captive *captive, const struct captive_options *options,
                  struct reason *reason)
{
    char *script = make_script(options);
    if (!script)
        return reason_set(reason, -ENOMEM, "no memory for the command of --run");
    size_t size = strlen(script) + 1;
    int r = size > SCRIPT_MAX ? -E2BIG : send_script(captive->script, script, size);
    free(script);
    if (r < 0)
        return reason_set(reason, r, "cannot start the command of --run: ");
    close(captive->script);
    captive->is_started = true;
    return 0;
}

static void send_signal(struct captive *captive, int number)
{
    const unsigned char byte = (unsigned char)number;
    if (!captive->has_killer)
        kill(captive->child, number);
    else if (write(captive->killer, &byte, 1) < 0)
        return; /* the killer has been killed, so no signal can be sent */
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
    if (captive->child == 0)
        return;
    if (captive->is_started) {
        send_signal(captive, SIGTERM);
        return;
    }
    close(captive->script); /* the child ends, because it has not received the whole script */
    captive->is_started = true;
}

/* Wait until the command has ended, or until the deadline.  Returns true if the command has
 * ended. */
static bool wait_until(struct captive *captive, int64_t deadline)
{
    sigset_t ended;
    int status;
    sigemptyset(&ended);
    sigaddset(&ended, SIGCHLD);
    while (captive->child && !captive_has_ended(captive, &status)) {
        int64_t left = deadline - os_clock_ms();
        const struct timespec timeout = {left / 1000, left % 1000 * 1000000};
        if (left <= 0)
            return false;
        sigtimedwait(&ended, NULL, &timeout);
    }
    return true;
}

void captive_wait(struct captive *captive, int64_t deadline)
{
    if (!wait_until(captive, deadline)) {
        send_signal(captive, SIGKILL);
        wait_until(captive, os_clock_ms() + KILL_MILLISECONDS);
    }
    if (captive->has_killer)
        close(captive->killer);
    captive->has_killer = false;
}

int captive_exit_status(int wait_status)
{
    return WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
}
