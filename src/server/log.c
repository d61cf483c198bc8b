/* SPDX-License-Identifier: BSD-3-Clause */

/* A line is put together on the stack and handed over with one call, so that lines of several
 * threads do not mix: write() to a terminal, a pipe or a file opened for appending, or syslog().
 *
 * Where it goes is the one thing here that a process has once.  It is set while there are no
 * threads, and only read afterwards. */

#include "server/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#define LINE_MAX_BYTES 2048

static struct {
    enum log_target target; /* never LOG_TO_DEFAULT */
    bool verbose;
} where = {.target = LOG_TO_STDERR};

void log_init(enum log_target target, bool verbose, bool in_background)
{
    if (target == LOG_TO_DEFAULT)
        target = in_background ? LOG_TO_SYSLOG : LOG_TO_STDERR;
    where.target = target;
    where.verbose = verbose;
    if (target == LOG_TO_SYSLOG)
        openlog("nbdram", LOG_PID, LOG_DAEMON);
}

bool log_is_verbose(void)
{
    return where.verbose;
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
    if (where.target == LOG_TO_NULL)
        return;
    char *text = line + sizeof prefix - 1;
    memcpy(line, prefix, sizeof prefix);
    /* One byte stays for the newline. */
    if (vsnprintf(text, sizeof line - sizeof prefix, format, arguments) < 0)
        return;
    keep_on_one_line(text);
    if (where.target == LOG_TO_SYSLOG) {
        syslog(priority, "%s", text);
        return;
    }
    size_t length = strlen(line);
    line[length++] = '\n';
    /* There is nobody to tell that the log cannot be written. */
    ssize_t written = write(STDERR_FILENO, line, length);
    (void)written;
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
    if (!where.verbose)
        return;
    va_list arguments;
    va_start(arguments, format);
    log_line(LOG_DEBUG, format, arguments);
    va_end(arguments);
}
