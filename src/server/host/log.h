/* SPDX-License-Identifier: BSD-3-Clause */

/* log - one line per thing that somebody should know
 *
 * Lines go to standard error ("nbdram: ..."), to syslog, or nowhere.  Written whole, by any
 * thread, or lost if standard error has no room for them now: no caller waits for who reads it.
 * Never a payload, never a secret; what a client sent (names) is made printable by the
 * caller.
 */

#ifndef NBDRAM_SERVER_HOST_LOG_H
#define NBDRAM_SERVER_HOST_LOG_H

#include <stdbool.h>
#include <stddef.h>

/* Where lines go. */
enum log_target {
    LOG_TO_DEFAULT, /* standard error; syslog once the process is in the background */
    LOG_TO_STDERR,
    LOG_TO_SYSLOG,
    LOG_TO_NULL, /* nowhere */
};

/* By the main thread: at the start, and once more after going to the background, when there may
 * be other threads: LOG_TO_DEFAULT is standard error until then, and syslog afterwards. */
void log_init(enum log_target target, bool verbose, bool in_background);

/* What an operator must act on; what is of use to who looks for a fault (-v only). */
__attribute__((format(printf, 1, 2))) void log_error(const char *format, ...);
__attribute__((format(printf, 1, 2))) void log_debug(const char *format, ...);

/* Some lines (at most PIPE_BUF bytes) to standard error, wherever the log goes; lost likewise. */
void log_write(const char *text, size_t length);

/* To ask before something costly is put together for log_debug. */
bool log_is_verbose(void);

#endif
