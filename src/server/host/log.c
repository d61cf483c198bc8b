/* SPDX-License-Identifier: BSD-3-Clause */

/* A line is put together on the stack and handed over with one call, so that lines of several
 * threads do not mix: write() to a terminal, a pipe or a file opened for appending, or syslog().
 *
 * Nobody waits for who reads standard error, or does not: a pipe or terminal that says it has
 * room takes a line whole, and without room the line is lost.  One thread at a time asks and
 * writes, so that the room it was told of is still there; O_NONBLOCK would be set for all who
 * share it. */

#include "server/host/log.h"

#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#define LINE_MAX_BYTES 2048 /* below PIPE_BUF */

/* What a process has once.  Set by the main thread, which may be while others log: relaxed, since
 * a line is good in either place. */
static struct {
    _Atomic int target; /* enum log_target, never LOG_TO_DEFAULT */
    atomic_bool verbose;
    pthread_mutex_t writing; /* to standard error */
} where = {.target = LOG_TO_STDERR, .writing = PTHREAD_MUTEX_INITIALIZER};

void log_init(enum log_target target, bool verbose, bool in_background)
{
    if (target == LOG_TO_DEFAULT)
        target = in_background ? LOG_TO_SYSLOG : LOG_TO_STDERR;
    if (target == LOG_TO_SYSLOG)
        openlog("nbdram", LOG_PID, LOG_DAEMON);
    atomic_store_explicit(&where.target, (int)target, memory_order_relaxed);
    atomic_store_explicit(&where.verbose, verbose, memory_order_relaxed);
}

bool log_is_verbose(void)
{
    return atomic_load_explicit(&where.verbose, memory_order_relaxed);
}

void log_write(const char *text, size_t length)
{
    struct pollfd polled = {.fd = STDERR_FILENO, .events = POLLOUT};
    pthread_mutex_lock(&where.writing);
    if (poll(&polled, 1, 0) == 1) {
        /* There is nobody to tell that the log cannot be written. */
        ssize_t written = write(STDERR_FILENO, text, length);
        (void)written;
    }
    pthread_mutex_unlock(&where.writing);
}

/* Who reads a log takes a line for one message: nothing may pretend to be another, or steer a
 * terminal. */
static void keep_on_one_line(char *text)
{
    for (; *text != '\0'; text++)
        if ((unsigned char)*text < ' ' || *text == 0x7f)
            *text = '?';
}

static void __attribute__((format(printf, 2, 0)))
log_line(int priority, const char *format, va_list arguments)
{
    static const char prefix[] = "nbdram: ";
    char line[LINE_MAX_BYTES];
    int target = atomic_load_explicit(&where.target, memory_order_relaxed);
    if (target == LOG_TO_NULL)
        return;
    char *text = line + sizeof prefix - 1;
    memcpy(line, prefix, sizeof prefix);
    /* One byte stays for the newline. */
    if (vsnprintf(text, sizeof line - sizeof prefix, format, arguments) < 0)
        return;
    keep_on_one_line(text);
    if (target == LOG_TO_SYSLOG) {
        syslog(priority, "%s", text);
        return;
    }
    size_t length = strlen(line);
    line[length++] = '\n';
    log_write(line, length);
}

void log_error(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    log_line(LOG_ERR, format, arguments);
    va_end(arguments);
}

void log_debug(const char *format, ...)
{
    if (!log_is_verbose())
        return;
    va_list arguments;
    va_start(arguments, format);
    log_line(LOG_DEBUG, format, arguments);
    va_end(arguments);
}
