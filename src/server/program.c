/* SPDX-License-Identifier: BSD-3-Clause */

#include "server/program.h"

#include <string.h>

#include "os/thread.h"

#define STATS_MILLISECONDS 1000

int program_report(struct program *program, const char *text)
{
    log_error(&program->log, "%s", text);
    return -1;
}

int program_write_stats(struct program *program)
{
    if (program->stats.folder < 0)
        return 0;
    int r = stats_file_write(&program->stats, &program->server);
    if (r < 0 && r != program->stats_error)
        log_error(&program->log, "--stats=%s: %s", program->options.stats, strerror(-r));
    program->stats_error = r;
    program->stats_due = os_clock_ms() + STATS_MILLISECONDS;
    return r;
}
