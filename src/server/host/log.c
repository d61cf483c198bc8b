/* SPDX-License-Identifier: BSD-3-Clause */

/* There are two buffers.  A thread, the writer, empties one buffer while new lines go into the
 * other.
 *
 *     log_error ---> | filling | ---> they change places ---> | writing | ---> write(), syslog()
 *     under the lock, without a system call                   without the lock; may wait for ever
 *
 * The writer is a separate thread, because every call that writes a log may wait:
 *
 *   - syslog(3) waits for the daemon.  When /dev/log had no reader, 11 clients without
 *     credentials once blocked both loops for ever.
 *   - write() to a terminal may wait in the middle of a line, even after poll() has returned
 *     POLLOUT.
 *   - write() to a file waits for the disk of the file.
 *
 * O_NONBLOCK does not help, because it would be set for every process that shares standard error.
 *
 * A buffer holds records.  A record is a struct record, followed by a text, which is not
 * terminated. */

#include "server/host/log.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "os/thread.h"
#include "text/reason.h"

#define LINE_MAX_BYTES 2048 /* lines are shorter than PIPE_BUF, so that a pipe splits no line */

/* log_drain and log_close wait up to WRITER_MILLISECONDS until the writer begins to write, and
 * then up to READER_MILLISECONDS for the reader of the log.  When both times were 300 ms,
 * messages were lost on a busy machine. */
#define READER_MILLISECONDS 500
#define WRITER_MILLISECONDS 10000

static const char prefix[] = "nbdram: ";
#define PREFIX_LENGTH (sizeof prefix - 1)

struct record {
    size_t length;  /* length of the text, which is prefix, line and newline */
    int priority;   /* the priority for syslog */
    bool is_syslog; /* true: the line goes to syslog; false: to standard error */
};

static const struct level {
    int priority;
    const char *plural;
} levels[LOG_LEVELS] = {
    [LOG_LEVEL_ERROR] = {LOG_ERR, "errors"},
    [LOG_LEVEL_NOTICE] = {LOG_NOTICE, "notices"},
    [LOG_LEVEL_DEBUG] = {LOG_DEBUG, "lines of -v"},
};

/* These functions limit the rate of lines. */

static void begin_interval_if_over(struct log_rate *rate, int64_t now)
{
    if (now < rate->ends)
        return;
    *rate = (struct log_rate){
        .ends = now + LOG_INTERVAL_MILLISECONDS,
        .untold = rate->untold + rate->left_out,
    };
}

static bool is_too_many_locked(struct logger *log, enum log_level level)
{
    struct log_rate *rate = &log->rates[level];
    begin_interval_if_over(rate, os_clock_ms());
    if (rate->lines < LOG_LINES_MAX)
        return false;
    rate->left_out++;
    /* Wake the writer, so that it logs the number of lines left out when the interval ends. */
    if (rate->left_out == 1)
        pthread_cond_broadcast(&log->changed);
    return true;
}

/* These functions put lines into the buffer. */

static void append_record_locked(struct logger *log, struct record record, const char *text)
{
    struct log_buffer *buffer = &log->buffers[log->filling];
    char *end = buffer->bytes + buffer->used;
    if (sizeof record + record.length > sizeof buffer->bytes - buffer->used) {
        log->lost++;
        return;
    }
    memcpy(end, &record, sizeof record);
    memcpy(end + sizeof record, text, record.length);
    if (buffer->used == 0)
        pthread_cond_broadcast(&log->changed);
    buffer->used += sizeof record + record.length;
}

void log_write(struct logger *log, const char *text, size_t length)
{
    pthread_mutex_lock(&log->lock);
    append_record_locked(log, (struct record){.length = length}, text);
    pthread_mutex_unlock(&log->lock);
}

/* Put prefix, line and newline into text.  Returns the length.  Control characters are replaced,
 * so that one message cannot look like two, and cannot control a terminal. */
static size_t __attribute__((format(printf, 2, 0)))
format_line(char text[LINE_MAX_BYTES], const char *format, va_list arguments)
{
    memcpy(text, prefix, sizeof prefix);
    /* Leave one byte for the newline. */
    if (vsnprintf(text + PREFIX_LENGTH, LINE_MAX_BYTES - sizeof prefix, format, arguments) < 0)
        return 0;
    reason_make_one_line(text + PREFIX_LENGTH);
    size_t length = strlen(text);
    text[length++] = '\n';
    return length;
}

static void __attribute__((format(printf, 3, 0)))
log_line(struct logger *log, enum log_level level, const char *format, va_list arguments)
{
    char text[LINE_MAX_BYTES];
    int target = atomic_load_explicit(&log->target, memory_order_relaxed);
    if (target == LOG_TO_NULL)
        return;
    const struct record record = {
        .length = format_line(text, format, arguments),
        .priority = levels[level].priority,
        .is_syslog = target == LOG_TO_SYSLOG,
    };
    if (record.length == 0)
        return;
    pthread_mutex_lock(&log->lock);
    if (!is_too_many_locked(log, level)) {
        log->rates[level].lines++;
        append_record_locked(log, record, text);
    }
    pthread_mutex_unlock(&log->lock);
}

/* The writer. */

/* Write a line to standard error.  Errors are ignored, because there is nowhere to report
 * them. */
static void write_to_stderr(const char *text, size_t length)
{
    struct pollfd polled = {.fd = STDERR_FILENO, .events = POLLOUT};
    while (length > 0) {
        ssize_t written = write(STDERR_FILENO, text, length);
        if (written > 0) {
            text += written;
            length -= (size_t)written;
        } else if (written == 0 || errno != EAGAIN || poll(&polled, 1, -1) < 0) {
            /* After EAGAIN, we wait and try again.  EAGAIN occurs if another process that shares
             * our standard error has set O_NONBLOCK.  After any other error, we give up. */
            return;
        }
    }
}

static void write_record(const struct record *record, const char *text)
{
    if (record->is_syslog) {
        syslog(record->priority, "%.*s", (int)(record->length - PREFIX_LENGTH - 1),
               text + PREFIX_LENGTH);
        return;
    }
    write_to_stderr(text, record->length);
}

static void write_buffer(struct log_buffer *buffer)
{
    struct record record;
    for (size_t at = 0; at < buffer->used; at += sizeof record + record.length) {
        memcpy(&record, buffer->bytes + at, sizeof record);
        write_record(&record, buffer->bytes + at + sizeof record);
    }
    buffer->used = 0;
}

/* Write a line of the writer's own.  Such a line needs no space in a buffer, and does not count
 * towards the limit of lines. */
static void __attribute__((format(printf, 3, 4)))
write_notice(struct logger *log, enum log_level level, const char *format, ...)
{
    char text[LINE_MAX_BYTES];
    va_list arguments;
    va_start(arguments, format);
    const struct record record = {
        .length = format_line(text, format, arguments),
        .priority = levels[level].priority,
        .is_syslog = atomic_load_explicit(&log->target, memory_order_relaxed) == LOG_TO_SYSLOG,
    };
    va_end(arguments);
    if (record.length)
        write_record(&record, text);
}

static void end_intervals_locked(struct logger *log)
{
    int64_t now = os_clock_ms();
    for (enum log_level level = 0; level < LOG_LEVELS; level++) {
        struct log_rate *rate = &log->rates[level];
        if (log->is_closing)
            rate->ends = now;
        if (rate->left_out)
            begin_interval_if_over(rate, now);
    }
}

static bool has_something_to_write_locked(const struct logger *log)
{
    bool has = log->buffers[log->filling].used || log->lost;
    for (enum log_level level = 0; level < LOG_LEVELS; level++)
        has = has || log->rates[level].untold;
    return has;
}

static void write_notices(struct logger *log, uint64_t lost, const uint64_t untold[LOG_LEVELS])
{
    if (lost)
        write_notice(log, LOG_LEVEL_ERROR, "%llu lines of the log were lost: nobody read it",
                     (unsigned long long)lost);
    for (enum log_level level = 0; level < LOG_LEVELS; level++)
        if (untold[level])
            write_notice(log, level, "%llu %s were left out: at most %u in %d seconds are logged",
                         (unsigned long long)untold[level], levels[level].plural, LOG_LINES_MAX,
                         LOG_INTERVAL_MILLISECONDS / 1000);
}

/* Write all lines in the buffer.  The lock is released during the write, and taken again
 * afterwards. */
static void write_all_locked(struct logger *log)
{
    struct log_buffer *buffer = &log->buffers[log->filling];
    uint64_t lost = log->lost, untold[LOG_LEVELS];
    for (enum log_level level = 0; level < LOG_LEVELS; level++) {
        untold[level] = log->rates[level].untold;
        log->rates[level].untold = 0;
    }
    log->lost = 0;
    log->filling ^= 1;
    log->is_writing = true;
    pthread_cond_broadcast(&log->changed);
    pthread_mutex_unlock(&log->lock);
    write_buffer(buffer);
    write_notices(log, lost, untold);
    pthread_mutex_lock(&log->lock);
    log->is_writing = false;
    pthread_cond_broadcast(&log->changed);
}

static void wait_locked(struct logger *log, int64_t deadline)
{
    const struct timespec until = {deadline / 1000, deadline % 1000 * 1000000};
    pthread_cond_timedwait(&log->changed, &log->lock, &until);
}

static void wait_for_lines_locked(struct logger *log)
{
    int64_t deadline = INT64_MAX;
    for (enum log_level level = 0; level < LOG_LEVELS; level++)
        if (log->rates[level].left_out && log->rates[level].ends < deadline)
            deadline = log->rates[level].ends;
    if (deadline == INT64_MAX)
        pthread_cond_wait(&log->changed, &log->lock);
    else
        wait_locked(log, deadline);
}

static void *writer_main(void *arg)
{
    struct logger *log = arg;
    pthread_mutex_lock(&log->lock);
    for (;;) {
        end_intervals_locked(log);
        if (has_something_to_write_locked(log))
            write_all_locked(log);
        else if (log->is_closing)
            break;
        else
            wait_for_lines_locked(log);
    }
    log->has_ended = true;
    pthread_cond_broadcast(&log->changed);
    pthread_mutex_unlock(&log->lock);
    return NULL;
}

/* These are the functions that log.h declares. */

void log_init(struct logger *log)
{
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&log->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&log->lock, NULL);
    atomic_init(&log->target, LOG_TO_STDERR);
    atomic_init(&log->is_verbose, false);
    memset(log->rates, 0, sizeof log->rates);
    log->lost = 0;
    log->filling = 0;
    log->is_writing = log->is_closing = log->has_ended = log->has_writer = false;
    log->buffers[0].used = log->buffers[1].used = 0;
}

int log_start(struct logger *log)
{
    int r = os_thread_start(&log->writer, writer_main, log);
    log->has_writer = r == 0;
    return r;
}

static bool is_empty_locked(const struct logger *log)
{
    return !log->is_writing && !has_something_to_write_locked(log);
}

static bool has_ended_locked(const struct logger *log)
{
    return log->has_ended;
}

/* Wait until is_so_far returns true.  Gives up if the writer does not begin to write within
 * WRITER_MILLISECONDS, or does not finish within another READER_MILLISECONDS. */
static void wait_for_writer_locked(struct logger *log, bool (*is_so_far)(const struct logger *))
{
    int64_t now = os_clock_ms(), deadline = now + WRITER_MILLISECONDS;
    bool has_begun = false;
    for (; !is_so_far(log) && now < deadline; now = os_clock_ms()) {
        if (log->is_writing && !has_begun) {
            has_begun = true;
            deadline = now + READER_MILLISECONDS;
        }
        wait_locked(log, deadline);
    }
}

void log_drain(struct logger *log)
{
    pthread_mutex_lock(&log->lock);
    wait_for_writer_locked(log, is_empty_locked);
    pthread_mutex_unlock(&log->lock);
}

void log_close(struct logger *log)
{
    /* If log_start was not called, there are no clients.  This thread can then write to standard
     * error itself: if it has to wait, no client is delayed. */
    bool may_wait = atomic_load_explicit(&log->target, memory_order_relaxed) != LOG_TO_SYSLOG;
    if (!log->has_writer && (may_wait || log_start(log) < 0)) {
        log->is_closing = true;
        writer_main(log);
        return;
    }
    pthread_mutex_lock(&log->lock);
    log->is_closing = true;
    pthread_cond_broadcast(&log->changed);
    wait_for_writer_locked(log, has_ended_locked);
    bool has_ended = log->has_ended;
    pthread_mutex_unlock(&log->lock);
    if (has_ended)
        pthread_join(log->writer, NULL);
}

/* Target and verbosity are accessed with relaxed order, because no other data depends on them.  A
 * line that is logged while the target changes may go to the old target or to the new one. */

void log_set(struct logger *log, enum log_target target, bool is_verbose, bool is_in_background)
{
    if (target == LOG_TO_DEFAULT)
        target = is_in_background ? LOG_TO_SYSLOG : LOG_TO_STDERR;
    int before = atomic_load_explicit(&log->target, memory_order_relaxed);
    /* openlog waits while the writer uses syslog, so it is called only if syslog was not the
     * target before. */
    if (target == LOG_TO_SYSLOG && before != LOG_TO_SYSLOG)
        openlog("nbdram", LOG_PID, LOG_DAEMON);
    atomic_store_explicit(&log->target, (int)target, memory_order_relaxed);
    atomic_store_explicit(&log->is_verbose, is_verbose, memory_order_relaxed);
}

bool log_wants_debug(struct logger *log)
{
    if (!atomic_load_explicit(&log->is_verbose, memory_order_relaxed))
        return false;
    pthread_mutex_lock(&log->lock);
    bool is_too_many = is_too_many_locked(log, LOG_LEVEL_DEBUG);
    pthread_mutex_unlock(&log->lock);
    return !is_too_many;
}

void log_error(struct logger *log, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    log_line(log, LOG_LEVEL_ERROR, format, arguments);
    va_end(arguments);
}

void log_notice(struct logger *log, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    log_line(log, LOG_LEVEL_NOTICE, format, arguments);
    va_end(arguments);
}

void log_debug(struct logger *log, const char *format, ...)
{
    if (!atomic_load_explicit(&log->is_verbose, memory_order_relaxed))
        return;
    va_list arguments;
    va_start(arguments, format);
    log_line(log, LOG_LEVEL_DEBUG, format, arguments);
    va_end(arguments);
}
