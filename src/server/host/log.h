/* SPDX-License-Identifier: BSD-3-Clause */

/* log - one line about each event that somebody should know of
 *
 * Lines go to standard error ("nbdram: ..."), to syslog, or nowhere.  Each is written whole, by
 * any thread.  A line is lost if standard error has no room for it at that moment: no caller ever
 * waits for the reader of the log.  Control characters become '?', so a line stays one line.
 *
 * Never log a payload or a secret.
 */

#ifndef NBDRAM_SERVER_HOST_LOG_H
#define NBDRAM_SERVER_HOST_LOG_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

enum log_target {
    LOG_TO_DEFAULT, /* standard error; syslog once the process is in the background */
    LOG_TO_STDERR,  /* standard error */
    LOG_TO_SYSLOG,  /* the system's log, as a daemon of the name nbdram */
    LOG_TO_NULL,    /* nowhere */
};

/* main owns the only logger of the server.  Initialize it with LOG_INITIALIZER; only log.c
 * looks inside. */
struct logger {
    _Atomic int target; /* enum log_target, but never LOG_TO_DEFAULT */
    atomic_bool is_verbose;
    pthread_mutex_t writing; /* to standard error */
};

/* To standard error, and not verbose. */
#define LOG_INITIALIZER                                                                          \
    {                                                                                            \
        .target = LOG_TO_STDERR, .writing = PTHREAD_MUTEX_INITIALIZER                            \
    }

/* Send the lines from now on to target.  Called by the main thread; other threads may log at the
 * same time. */
void log_set(struct logger *log, enum log_target target, bool is_verbose, bool is_in_background);

/* Something that an operator must act on. */
__attribute__((format(printf, 2, 3))) void log_error(struct logger *log, const char *format, ...);

/* Something that helps to find a fault; only a verbose log (-v) has it. */
__attribute__((format(printf, 2, 3))) void log_debug(struct logger *log, const char *format, ...);

/* Write lines (at most PIPE_BUF bytes) to standard error, wherever the log goes.  They are lost
 * under the same condition. */
void log_write(struct logger *log, const char *text, size_t length);

/* Ask before anything expensive is put together for log_debug. */
bool log_is_verbose(struct logger *log);

#endif
