/* SPDX-License-Identifier: BSD-3-Clause */

/* log - one line about each event that the operator should know of
 *
 * Lines go to standard error ("nbdram: ..."), to syslog, or nowhere.  Each line is written whole.
 * Control characters become '?', so a line stays one line.
 *
 * No caller waits for the reader of the log, because a separate thread writes the lines.  A line
 * is left out in two cases:
 *
 *   - LOG_LINES_MAX lines of the same level have been logged in the current interval of
 *     LOG_INTERVAL_MILLISECONDS already
 *   - the buffer is full, because earlier lines have not been written yet
 *
 * In both cases a later line says how many lines are missing.
 *
 * Any thread may call log_error, log_notice, log_debug, log_write and log_wants_debug.  Only the
 * main thread calls the other functions.
 *
 * Never log a payload or a secret.
 */

#ifndef NBDRAM_SERVER_HOST_LOG_H
#define NBDRAM_SERVER_HOST_LOG_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum log_target {
    LOG_TO_DEFAULT, /* standard error, or syslog once the process is in the background */
    LOG_TO_STDERR,  /* standard error */
    LOG_TO_SYSLOG,  /* syslog, with the name nbdram and the facility daemon */
    LOG_TO_NULL,    /* nowhere */
};

/* In LOG_INTERVAL_MILLISECONDS, at most LOG_LINES_MAX lines of each level are logged. */
#define LOG_LINES_MAX 1000u
#define LOG_INTERVAL_MILLISECONDS 5000

enum log_level {
    LOG_LEVEL_ERROR,
    LOG_LEVEL_NOTICE,
    LOG_LEVEL_DEBUG,
    LOG_LEVELS, /* the number of levels */
};

struct log_rate {
    int64_t ends;      /* when the interval ends, as a time of os_clock_ms */
    unsigned lines;    /* lines logged in this interval */
    uint64_t left_out; /* lines left out in this interval */
    uint64_t untold;   /* lines left out in earlier intervals, and not reported yet */
};

#define LOG_BUFFER_SIZE (128u << 10) /* bytes: enough for LOG_LINES_MAX lines of usual length */

struct log_buffer {
    size_t used;
    char bytes[LOG_BUFFER_SIZE];
};

/* main.c makes the only logger of the server.  Only log.c uses the fields. */
struct logger {
    _Atomic int target; /* an enum log_target, but never LOG_TO_DEFAULT */
    atomic_bool is_verbose;

    pthread_mutex_t lock; /* guards all fields below, except the buffer that is being written */
    pthread_cond_t changed;
    struct log_rate rates[LOG_LEVELS];
    uint64_t lost;    /* number of lines lost because the buffer was full, and not reported yet */
    unsigned filling; /* the index of the buffer that takes lines; the other is being written */
    bool is_writing, is_closing, has_ended;

    bool has_writer; /* the thread `writer` was started; only the main thread uses has_writer */
    pthread_t writer;

    struct log_buffer buffers[2];
};

/* Initialize the log.  Its target is standard error, and it is not verbose. */
void log_init(struct logger *log);

/* Start the thread that writes the lines.  To be called after the last fork.  Lines that were
 * logged before this call are now written, too.  Returns 0 or -errno. */
int log_start(struct logger *log);

/* Wait until all lines have been written, but do not wait long for the reader of the log.  To be
 * called after log_start. */
void log_drain(struct logger *log);

/* Wait as log_drain does, and end the thread that writes the lines.  If the thread still waits
 * for the reader of the log, it is left running.  log_close must be called before the program
 * ends, even if log_start was not called. */
void log_close(struct logger *log);

/* Set the target of all lines that are logged from now on.  LOG_TO_DEFAULT means syslog if
 * is_in_background is true, and standard error otherwise. */
void log_set(struct logger *log, enum log_target target, bool is_verbose, bool is_in_background);

/* Log an event on which the operator must act. */
__attribute__((format(printf, 2, 3))) void log_error(struct logger *log, const char *format, ...);

/* Log an event that the operator waits for. */
__attribute__((format(printf, 2, 3))) void log_notice(struct logger *log, const char *format,
                                                      ...);

/* Log an event that helps to find a fault.  Only a verbose log (-v) has such lines. */
__attribute__((format(printf, 2, 3))) void log_debug(struct logger *log, const char *format, ...);

/* Write lines to standard error, whatever the target of the log is.  The lines have at most
 * PIPE_BUF bytes in all, and do not count towards the limit of lines. */
void log_write(struct logger *log, const char *text, size_t length);

/* Would log_debug log a line now?  To be called before a caller does expensive work for a line.
 * If the limit of lines has been reached, returns false, and counts one more line as left out. */
bool log_wants_debug(struct logger *log);

#endif
