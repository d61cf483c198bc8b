/* SPDX-License-Identifier: BSD-3-Clause */

/* log - one line about each event that somebody should know of
 *
 * Lines go to standard error ("nbdram: ..."), to syslog, or nowhere.  Each is written whole.
 * Control characters become '?', so a line stays one line.
 *
 * Nobody waits for the reader of the log: a thread of the log's own writes the lines.  Two things
 * can keep a line out, and in both cases a later line says how many are missing:
 *
 *     - more than LOG_LINES_MAX lines of its level in LOG_INTERVAL_MILLISECONDS
 *     - no room, because what was logged before has not been written yet
 *
 * Threads: log_error, log_debug, log_write and log_wants_debug are called by any thread, the
 * others by the main thread.
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
    LOG_TO_DEFAULT, /* standard error; syslog once the process is in the background */
    LOG_TO_STDERR,  /* standard error */
    LOG_TO_SYSLOG,  /* the system's log, as a daemon of the name nbdram */
    LOG_TO_NULL,    /* nowhere */
};

/* Each level may have so many lines. */
#define LOG_LINES_MAX 1000u
#define LOG_INTERVAL_MILLISECONDS 5000

enum log_level {
    LOG_LEVEL_ERROR,
    LOG_LEVEL_DEBUG,
    LOG_LEVELS, /* how many there are */
};

struct log_rate {
    int64_t ends;      /* when the interval is over, a time of os_clock_ms */
    unsigned lines;    /* logged in this interval */
    uint64_t left_out; /* in this interval */
    uint64_t untold;   /* left out in earlier intervals, and not reported yet */
};

#define LOG_BUFFER_SIZE (128u << 10) /* bytes: the lines of a level in an interval */

struct log_buffer {
    size_t used;
    char bytes[LOG_BUFFER_SIZE];
};

/* main owns the only logger of the server.  Only log.c looks inside. */
struct logger {
    _Atomic int target; /* enum log_target, but never LOG_TO_DEFAULT */
    atomic_bool is_verbose;

    pthread_mutex_t lock; /* guards all that follows, but not the buffer that is being written */
    pthread_cond_t changed;
    struct log_rate rates[LOG_LEVELS];
    uint64_t lost;    /* lines that found no room, and are not reported yet */
    unsigned filling; /* the index of the buffer that takes lines; the other is being written */
    bool is_writing, is_closing, has_ended;

    bool has_writer; /* the main thread's */
    pthread_t writer;

    struct log_buffer buffers[2];
};

/* To standard error, and not verbose. */
void log_init(struct logger *log);

/* Start the thread that writes.  To be called after the last fork.  Lines that were logged before
 * have waited for it.  Returns 0 or -errno. */
int log_start(struct logger *log);

/* Wait until what was logged has been written, but not long for the reader of the log.  log_start
 * was called. */
void log_drain(struct logger *log);

/* The same, and end the thread.  Must be called before the program ends, whether or not log_start
 * was.  A thread that waits for the reader of the log is left behind. */
void log_close(struct logger *log);

/* Send the lines from now on to target. */
void log_set(struct logger *log, enum log_target target, bool is_verbose, bool is_in_background);

/* Something that an operator must act on. */
__attribute__((format(printf, 2, 3))) void log_error(struct logger *log, const char *format, ...);

/* Something that helps to find a fault; only a verbose log (-v) has it. */
__attribute__((format(printf, 2, 3))) void log_debug(struct logger *log, const char *format, ...);

/* Write lines (at most PIPE_BUF bytes) to standard error, wherever the log goes, and however many
 * there are. */
void log_write(struct logger *log, const char *text, size_t length);

/* Ask before anything expensive is put together for log_debug.  If the answer is no because there
 * were too many lines, this one is counted as left out. */
bool log_wants_debug(struct logger *log);

#endif
