/* SPDX-License-Identifier: BSD-3-Clause */

/* set_up, at the end of this file, lists all steps in their order, and gives the reasons for that
 * order.  The functions of the steps are defined in the same order.  Each function returns 0, or
 * logs an error and returns a negative number. */

#include "server/set_up.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "disk/disk.h"
#include "os/thread.h"
#include "server/cli/announce.h"
#include "server/host/lock_memory.h"
#include "server/host/parent_death.h"
#include "server/host/privileges.h"
#include "server/host/process.h"
#include "server/host/signals.h"
#include "server/net/socket_kind.h"
#include "server/program.h"
#include "text/reason.h"

#define PAYLOAD_MAX (64u << 20) /* bytes; NBD asks every server to accept half of this payload */

static int report_disk(struct program *program, int error)
{
    struct reason reason;
    disk_explain(&program->options.disk, error, &reason);
    return program_report(program, reason.text);
}

static int report_error(struct program *program, const char *what, int error)
{
    log_error(&program->log, "%s: %s", what, strerror(-error));
    return -1;
}

static int fork_command(struct program *program)
{
    const struct options *options = &program->options;
    bool gives_up_rights = options->run_as.user || options->run_as.group;
    struct reason reason;
    if (options->run && captive_fork(&program->captive, gives_up_rights, &reason) < 0)
        return program_report(program, reason.text);
    return 0;
}

/* In the foreground, descriptors stay open: the command of --run inherits them, and a
 * person who wants to hold a lock for as long as nbdram runs passes it to us. */
static int note_inherited(struct program *program)
{
    if (program->options.foreground)
        return 0;
    int r = inherited_note(&program->inherited);
    return r < 0 ? report_error(program, "cannot note the open descriptors", r) : 0;
}

static int open_signals(struct program *program)
{
    struct reason reason;
    /* A process in the background has no terminal, and does not end with that of its parent. */
    program->ends_at_hangup = program->options.foreground && signals_have_terminal();
    program->signals = signals_open(&reason);
    return program->signals < 0 ? program_report(program, reason.text) : 0;
}

/* A program that starts us with sockets of its own (nbdcopy does) has no other user for the disk.
 * If such a program is killed, nobody else ends us.  Process 1 does not count: it is a service
 * manager, or has become our parent because the true one has ended. */
static int watch_parent(struct program *program)
{
    const struct options *options = &program->options;
    pid_t parent = getppid();
    if (!options->exit_with_parent && !(options->listen.kind->is_passed && parent > 1))
        return 0;
    program->parent = process_open(parent);
    int r = getppid() == parent ? 0 : -ESRCH;
    /* Old kernels offer only the signal, and so do containers if the parent is outside. */
    if (r == 0 && program->parent < 0 && options->exit_with_parent)
        r = parent_death_signal(SIGTERM, parent);
    if (r == -ESRCH)
        return program_report(program, "the process that started nbdram has ended already");
    return r < 0 ? report_error(program, "--exit-with-parent", r) : 0;
}

static void raise_descriptors(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

static int raise_limits(struct program *program)
{
    const struct options *options = &program->options;
    raise_descriptors();
    if (options->disk.mlock || options->swap)
        lock_memory_raise_limit();
    return 0;
}

static int load_credentials(struct program *program)
{
    const struct tls_options *options = &program->options.tls;
    struct reason reason;
    if (options->mode != TLS_OFF && tls_store_open(&program->tls, options, &reason) < 0)
        return program_report(program, reason.text);
    return 0;
}

static int create_disk(struct program *program)
{
    int r = disk_create(&program->options.disk, &program->disk);
    return r < 0 ? report_disk(program, r) : 0;
}

static int open_files(struct program *program)
{
    const struct options *options = &program->options;
    struct reason reason;
    if (options->pidfile && pidfile_open(&program->pidfile, options->pidfile, &reason) < 0)
        return program_report(program, reason.text);
    if (options->stats && stats_file_open(&program->stats, options->stats, &reason) < 0)
        return program_report(program, reason.text);
    return 0;
}

static int open_listeners(struct program *program)
{
    const struct options *options = &program->options;
    struct reason reason;
    if (listen_open(&options->listen, &program->listeners, &reason) < 0 ||
        listen_give_away(&options->listen, &program->listeners, &options->run_as, &reason) < 0)
        return program_report(program, reason.text);
    return 0;
}

static int enter_background(struct program *program)
{
    struct reason reason;
    if (!program->options.foreground && background_enter(&program->background, &reason) < 0)
        return program_report(program, reason.text);
    return 0;
}

static int set_attributes(struct program *program)
{
    const struct options *options = &program->options;
    if (options->swap) {
        lock_memory_become_flusher();
        if (lock_memory_avoid_oom_killer() >= 0)
            log_error(&program->log, "--swap: the kernel may kill nbdram when memory runs out: "
                                     "CAP_SYS_RESOURCE prevents that");
    }
    if (options->run_as.user || options->run_as.group)
        privileges_forbid_new();
    return 0;
}

static int lock_process(struct program *program)
{
    struct reason reason;
    if (program->options.swap && lock_memory_of_process(&reason) < 0)
        return program_report(program, reason.text);
    return 0;
}

static int start_log(struct program *program)
{
    int r = log_start(&program->log);
    return r < 0 ? report_error(program, "cannot start a thread", r) : 0;
}

static int start_disk(struct program *program)
{
    int r = disk_start(program->disk);
    return r < 0 ? report_disk(program, r) : 0;
}

static int raise_priority(struct program *program)
{
    if (program->options.swap && lock_memory_raise_priority() < 0)
        log_error(&program->log, "--swap: this machine may hang when memory runs out: "
                                 "CAP_SYS_NICE, for real-time priority, prevents that");
    return 0;
}

static int start_server(struct program *program)
{
    const struct options *options = &program->options;
    program->server.service = (struct service){
        .disk = program->disk,
        .export = {.size = disk_size(program->disk),
                   .read_only = options->read_only,
                   .preferred = disk_page_size(program->disk),
                   .payload_max = PAYLOAD_MAX,
                   .name = options->listen.export_name ? options->listen.export_name : "",
                   .description = "a RAM disk"},
        .policy = {.handshake_flags = (uint16_t)(options->handshake_mask &
                                                 (NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES)),
                   .structured = !options->no_structured,
                   .tls_offered = options->tls.mode != TLS_OFF,
                   .tls_required = options->tls.mode == TLS_REQUIRE},
        .tls = options->tls.mode != TLS_OFF ? &program->tls : NULL,
        .log = &program->log,
        .timeout_seconds = options->timeout_seconds,
        .idle_seconds = options->idle_seconds,
        .keepalive = options->keepalive,
        .max_connections = options->max_connections,
        .max_per_peer = options->max_per_peer,
    };
    int r = server_start(&program->server, options->threads ? options->threads : os_cpu_count());
    if (r == -EMFILE || r == -ENFILE)
        return report_error(program,
                            "cannot start the threads: raise the limit on descriptors "
                            "(ulimit -n), or use fewer threads (-t)",
                            r);
    return r < 0 ? report_error(program, "cannot start the threads", r) : 0;
}

static int become_user(struct program *program)
{
    struct reason reason;
    if (privileges_become(&program->options.run_as, &reason) < 0)
        return program_report(program, reason.text);
    return 0;
}

static int check_swap(struct program *program)
{
    struct reason reason;
    if (!program->options.swap)
        return 0;
    if (lock_memory_check_limit(&reason) < 0)
        return program_report(program, reason.text);
    if (disk_grows(program->disk))
        log_error(&program->log, "--swap: this disk takes memory as it is written, which is when "
                                 "the machine has none: allocator=malloc takes all of it now");
    return 0;
}

static int adopt_streams(struct program *program)
{
    if (!program->options.listen.kind->is_single)
        return 0;
    int r = server_adopt(&program->server, STDIN_FILENO, STDOUT_FILENO);
    return r < 0 ? report_error(program, "-s", r) : 0;
}

static int write_pidfile(struct program *program)
{
    struct reason reason;
    if (program->options.pidfile && pidfile_write(&program->pidfile, &reason) < 0)
        return program_report(program, reason.text);
    return 0;
}

static int leave_terminal(struct program *program)
{
    const struct options *options = &program->options;
    announce(options, &program->listeners);
    log_drain(&program->log); /* the next calls let standard error go */
    inherited_close(&program->inherited);
    background_ready(&program->background, options->log == LOG_TO_STDERR);
    log_set(&program->log, options->log, options->verbose, !options->foreground);
    return 0;
}

static int start_command(struct program *program)
{
    static const char *const tls[] = {[TLS_OFF] = NULL, [TLS_ON] = "1", [TLS_REQUIRE] = "2"};
    const struct options *options = &program->options;
    const struct captive_options command = {
        .command = options->run,
        .uri = program->listeners.uris[0],
        .unix_path = program->listeners.unix_path,
        .export_name = options->listen.export_name,
        .port = program->listeners.port,
        .tls = tls[options->tls.mode],
    };
    struct reason reason;
    if (options->run && captive_start(&program->captive, &command, &reason) < 0)
        return program_report(program, reason.text);
    return 0;
}

int set_up(struct program *program)
{
    static int (*const steps[])(struct program *) = {
        /* This is the first step, so that the command of --run inherits the rights, limits,
         * signals and descriptors with which we were started. */
        fork_command,
        /* This step comes before we open descriptors of our own. */
        note_inherited,
        /* After this step, a signal does not end the program at once, so take_down always
         * runs. */
        open_signals,
        /* This step comes early, because the parent may end at any moment. */
        watch_parent,
        /* Steps that can fail come early, while a person at the terminal can still read the
         * error. */
        raise_limits,
        load_credentials,
        create_disk,
        open_files,
        open_listeners,
        enter_background,
        /* These steps set attributes, start threads or lock memory.  They come after the fork of
         * enter_background, because a fork copies neither threads nor memory locks.
         * set_attributes comes before the first thread, because threads inherit attributes. */
        set_attributes,
        lock_process,
        start_log,
        start_disk,
        /* Only the main thread and the loops need priority.  With it, the compressor would keep
         * other processes from running. */
        raise_priority,
        start_server,
        /* Memory that root has locked stays locked, even if the process becomes a user that is
         * not permitted to lock so much.  All threads become that user at once, before there is a
         * client. */
        become_user,
        check_swap,
        adopt_streams,
        /* From here on clients can connect, and the process id does not change any more. */
        program_write_stats,
        write_pidfile,
        leave_terminal,
        start_command,
    };
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++)
        if (steps[i](program) < 0)
            return -1;
    return 0;
}
