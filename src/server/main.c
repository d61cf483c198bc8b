/* SPDX-License-Identifier: BSD-3-Clause */

/* nbdram - a RAM disk, served over NBD
 *
 * The main thread parses the command line, sets the server up, serves, and takes the server down.
 */

#include <stdlib.h>

#include "disk/disk.h"
#include "os/thread.h"
#include "server/cli/command_line.h"
#include "server/host/standard_streams.h"
#include "server/program.h"
#include "server/serve.h"
#include "server/set_up.h"
#include "text/reason.h"

#define COMMAND_MILLISECONDS 1000 /* the command of --run is killed if it takes longer to end */

static void take_down(struct program *program)
{
    /* The command of --run has until the deadline to end.  The server is stopped while the
     * command ends. */
    int64_t deadline = os_clock_ms() + COMMAND_MILLISECONDS;
    captive_terminate(&program->captive);
    if (program->server.loop_count) {
        server_stop(&program->server);
        program_write_stats(program);
        server_free(&program->server);
    }
    captive_wait(&program->captive, deadline);
    listen_close(&program->listeners);
    pidfile_close(&program->pidfile);
    inherited_forget(&program->inherited);
    stats_file_close(&program->stats);
    disk_destroy(program->disk);
    tls_store_close(&program->tls);
}

/* Set up, serve and take down.  Returns the exit status. */
static int run(struct program *program)
{
    const struct options *options = &program->options;
    log_set(&program->log, options->log, options->verbose, false);
    if (options->debug_flag)
        log_debug(&program->log, "--debug=%s: nbdram has no debug flags", options->debug_flag);
    bool is_ready = set_up(program) == 0;
    if (is_ready)
        serve(program);
    take_down(program);
    return is_ready ? program->status : EXIT_FAILURE;
}

int main(int argc, char **argv)
{
    static struct program program = {.status = EXIT_SUCCESS}; /* static: too large for a stack */
    struct reason reason;
    log_init(&program.log);
    program.stats.folder = -1;
    program.parent = -1;
    standard_streams_open();
    switch (command_line_parse(argc, argv, &program.options, &reason)) {
    case COMMAND_LINE_DONE:
        break;
    case COMMAND_LINE_WRONG:
        program_report(&program, reason.text);
        program.status = EXIT_FAILURE;
        break;
    case COMMAND_LINE_SERVE:
        program.status = run(&program);
        break;
    }
    log_close(&program.log);
    return program.status;
}
