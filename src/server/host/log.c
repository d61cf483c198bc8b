/* SPDX-License-Identifier: BSD-3-Clause */

/* A line is put together on the stack and handed over with one call, so that lines of several
 * threads do not mix: write() to a terminal, a pipe or a file opened for appending, or syslog().
 *
 * A line to standard error is written only if poll() says that there is room.  A pipe or terminal
 * with room takes the whole line; without room the line is lost, and nobody waits.  The mutex
 * makes asking and writing one step: another thread cannot use up the room in between.
 * O_NONBLOCK is no alternative: it would be set for every process that shares standard error. */

#include "server/host/log.h"

#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#include "text/reason.h"

#define LINE_MAX_BYTES 2048 /* below PIPE_BUF */

/* Target and verbosity are relaxed: they guard nothing, and a line that is logged while they
 * change is good in either place. */

void log_set(struct logger *log, enum log_target target, bool is_verbose, bool is_in_background)
{
    if (target == LOG_TO_DEFAULT)
        target = is_in_background ? LOG_TO_SYSLOG : LOG_TO_STDERR;
    if (target == LOG_TO_SYSLOG)
        openlog("nbdram", LOG_PID, LOG_DAEMON);
    atomic_store_explicit(&log->target, (int)target, memory_order_relaxed);
    atomic_store_explicit(&log->is_verbose, is_verbose, memory_order_relaxed);
}

bool log_is_verbose(struct logger *log)
{
    return atomic_load_explicit(&log->is_verbose, memory_order_relaxed);
}

void log_write(struct logger *log, const char *text, size_t length)
{
    struct pollfd polled = {.fd = STDERR_FILENO, .events = POLLOUT};
    pthread_mutex_lock(&log->writing);
    if (poll(&polled, 1, 0) == 1) {
        /* If this fails, there is nowhere left to report it. */
        ssize_t written = write(STDERR_FILENO, text, length);
        (void)written;
    }
    pthread_mutex_unlock(&log->writing);
}

/* One message must not look like two, nor control a terminal. */
static void __attribute__((format(printf, 3, 0)))
log_line(struct logger *log, int priority, const char *format, va_list arguments)
{
    static const char prefix[] = "nbdram: ";
    char line[LINE_MAX_BYTES];
    int target = atomic_load_explicit(&log->target, memory_order_relaxed);
    if (target == LOG_TO_NULL)
        return;
    char *text = line + sizeof prefix - 1;
    memcpy(line, prefix, sizeof prefix);
    /* One byte stays for the newline. */
    if (vsnprintf(text, sizeof line - sizeof prefix, format, arguments) < 0)
        return;
    reason_make_one_line(text);
    if (target == LOG_TO_SYSLOG) {
        syslog(priority, "%s", text);
        return;
    }
    size_t length = strlen(line);
    line[length++] = '\n';
    log_write(log, line, length);
}

void log_error(struct logger *log, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    log_line(log, LOG_ERR, format, arguments);
    va_end(arguments);
}

void log_debug(struct logger *log, const char *format, ...)
{
    if (!log_is_verbose(log))
        return;
    va_list arguments;
    va_start(arguments, format);
    log_line(log, LOG_DEBUG, format, arguments);
    va_end(arguments);
}
