/* SPDX-License-Identifier: BSD-3-Clause */

/* nbdram - a RAM disk, served over NBD
 *
 * The main thread sets everything up, in the order that the comments below ask for, accepts
 * connections, and takes it all down again.
 */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "disk/disk.h"
#include "os/thread.h"
#include "server/cli/command_line.h"
#include "server/cli/options.h"
#include "server/host/background.h"
#include "server/host/captive.h"
#include "server/host/lock_memory.h"
#include "server/host/log.h"
#include "server/host/parent_death.h"
#include "server/host/pidfile.h"
#include "server/host/privileges.h"
#include "server/net/listen.h"
#include "server/net/socket_kind.h"
#include "server/net/tls.h"
#include "server/session/server.h"
#include "server/session/stats.h"
#include "text/reason.h"
#include "text/string_builder.h"

#define STATS_MILLISECONDS 1000
#define RETRY_MILLISECONDS 100  /* after the system refused to accept a connection */
#define CHILD_MILLISECONDS 1000 /* for --run's command to end when we do */
#define PAYLOAD_MAX (64u << 20) /* bytes: twice what every server should take */

/* Whether listeners are looked at: yes; when a connection has ended; when some time has passed.
 */
enum accepting { ACCEPT, WAIT, RETRY };

struct program {
    struct options options;
    struct logger log;
    struct disk *disk;
    struct tls_credentials *credentials;
    struct listeners listeners;
    struct server server;
    struct stats_file stats;
    int signals;            /* signalfd */
    struct captive captive; /* of --run */
    struct background background;
    struct pidfile pidfile;
    enum accepting accepting;
    int64_t stats_due; /* milliseconds */
    int stats_error;   /* that was told, -errno */
    int status;        /* to exit with */
};

static int report(struct program *program, const char *text)
{
    log_error(&program->log, "%s", text);
    return -1;
}

/* Set up. */

/* Nothing that we open may land on a standard stream that we were started without. */
static void open_streams(void)
{
    int fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO)
        fd = open("/dev/null", O_RDWR);
    if (fd >= 0)
        close(fd);
}

static int take_signals(struct program *program)
{
    sigset_t set;
    struct sigaction hangup;
    const int taken[] = {SIGINT, SIGTERM, SIGQUIT, SIGUSR1, SIGCHLD};
    signal(SIGPIPE, SIG_IGN);
    signal(SIGCHLD, SIG_DFL); /* ignored, as it may have been left to us, it is never told */
    sigemptyset(&set);
    for (size_t i = 0; i < sizeof taken / sizeof taken[0]; i++)
        sigaddset(&set, taken[i]);
    /* nohup has its way. */
    if (sigaction(SIGHUP, NULL, &hangup) == 0 && hangup.sa_handler != SIG_IGN)
        sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);
    program->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return program->signals < 0 ? report(program, strerror(errno)) : 0;
}

/* What can be refused, is refused while somebody looks at the terminal. */
static int prepare(struct program *program)
{
    const struct options *options = &program->options;
    struct reason reason;
    captive_raise_descriptors(&program->captive);
    if (options->disk.mlock || options->swap)
        lock_memory_raise_limit();
    if (options->tls.mode != TLS_OFF &&
        tls_credentials_load(&options->tls, &program->credentials, &reason) < 0)
        return report(program, reason.text);
    int r = disk_create(&options->disk, &program->disk);
    if (r < 0) {
        disk_explain(&options->disk, r, &reason);
        return report(program, reason.text);
    }
    if (options->pidfile && pidfile_open(&program->pidfile, options->pidfile, &reason) < 0)
        return report(program, reason.text);
    if (options->stats && stats_file_open(&program->stats, options->stats, &reason) < 0)
        return report(program, reason.text);
    if (listen_open(&options->listen, &program->listeners, &reason) < 0 ||
        listen_give_away(&program->listeners, &options->run_as, &reason) < 0)
        return report(program, reason.text);
    return 0;
}

static int exit_with_parent(struct program *program)
{
    int r = parent_death_signal(SIGTERM, getppid());
    if (r == -ESRCH)
        return report(program, "--exit-with-parent: the parent has ended already");
    if (r < 0)
        log_error(&program->log, "--exit-with-parent: %s", strerror(-r));
    return r;
}

/* Threads and memory locks do not survive the fork; the pid file tells the number after it. */
static int settle(struct program *program)
{
    const struct options *options = &program->options;
    struct reason reason;
    if (options->exit_with_parent && exit_with_parent(program) < 0)
        return -1;
    if (!options->foreground && background_enter(&program->background, &reason) < 0)
        return report(program, reason.text);
    if (options->swap)
        lock_memory_become_flusher();
    /* What --run starts may want it: fusermount is such a program. */
    if ((options->run_as.user || options->run_as.group) && !options->run)
        privileges_forbid_new();
    int r = disk_start(program->disk);
    if (r < 0) {
        disk_explain(&options->disk, r, &reason);
        return report(program, reason.text);
    }
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
        .credentials = program->credentials,
        .log = &program->log,
        .timeout_seconds = options->timeout,
        .keepalive = options->keepalive,
        .max_connections = options->max_connections,
    };
    int r = server_start(&program->server, options->threads ? options->threads : os_cpu_count());
    return r < 0 ? report(program, strerror(-r)) : 0;
}

/* All of it that is not the disk. */
static int lock_program(struct program *program)
{
    struct reason reason;
    int r = lock_memory_of_program(&reason);
    for (unsigned i = 0; r == 0 && i < program->server.loop_count; i++) {
        const struct loop *loop = &program->server.loops[i];
        r = lock_memory_of_thread(loop->thread, loop->worker.scratch, &reason);
    }
    return r < 0 ? report(program, reason.text) : 0;
}

/* Locks that were made as root stay, where there is a limit for others: so -u comes after them,
 * for all threads at once, and before there is a client. */
static int become_user(struct program *program)
{
    const struct options *options = &program->options;
    struct reason reason;
    if (options->swap && lock_program(program) < 0)
        return -1;
    if (privileges_become(&options->run_as, &reason) < 0)
        return report(program, reason.text);
    if (!options->listen.kind->is_single)
        return 0;
    int r = server_adopt(&program->server, STDIN_FILENO, STDOUT_FILENO);
    return r < 0 ? report(program, strerror(-r)) : 0;
}

static void announce(const struct program *program)
{
    const struct options *options = &program->options;
    const char *uri = program->listeners.uri;
    /* Whoever passed the sockets knows, and may have passed its own standard output too: what
     * nbdcopy writes there is a disk. */
    bool is_known = options->run || options->listen.kind->is_passed;
    if (!uri || (is_known && !options->print_uri))
        return;
    if (!options->foreground || is_known) {
        puts(uri);
    } else {
        printf("A RAM disk at %s\n\n", uri);
        printf("    nbdinfo '%s'\n", uri);
        printf("    nbdcopy FILE '%s'\n", uri);
        printf("    qemu-img convert -n -O raw FILE '%s'\n\n", uri);
        printf("Ctrl-C stops it, and what is in it is gone.\n");
    }
    fflush(stdout);
}

/* What fails is said once, not every second. */
static int write_stats(struct program *program)
{
    if (program->stats.folder < 0)
        return 0;
    int r = stats_file_write(&program->stats, &program->server);
    if (r < 0 && r != program->stats_error)
        log_error(&program->log, "--stats=%s: %s", program->options.stats, strerror(-r));
    program->stats_error = r;
    program->stats_due = os_clock() + STATS_MILLISECONDS;
    return r;
}

static int start_command(struct program *program)
{
    static const char *const tls[] = {[TLS_OFF] = NULL, [TLS_ON] = "1", [TLS_REQUIRE] = "2"};
    const struct options *options = &program->options;
    const struct captive_options command = {
        .command = options->run,
        .uri = program->listeners.uri,
        .unix_path = program->listeners.unix_path,
        .export_name = options->listen.export_name,
        .port = program->listeners.port,
        .tls = tls[options->tls.mode],
    };
    struct reason reason;
    if (options->run && captive_start(&program->captive, &command, &reason) < 0)
        return report(program, reason.text);
    return 0;
}

/* Clients can connect: tell everybody. */
static int tell_ready(struct program *program)
{
    const struct options *options = &program->options;
    struct reason reason;
    if (write_stats(program) < 0)
        return -1;
    if (options->pidfile) {
        if (pidfile_write(&program->pidfile, &reason) < 0)
            return report(program, reason.text);
    }
    announce(program);
    background_ready(&program->background);
    log_set(&program->log, options->log, options->verbose, !options->foreground);
    return start_command(program);
}

/* Serve. */

static void print_stats(struct program *program)
{
    struct string_builder text;
    FILE *to = string_builder_open(&text);
    if (!to)
        return;
    stats_print(&program->server, to);
    char *bytes = string_builder_close(&text, to);
    if (bytes)
        log_write(&program->log, bytes, text.size);
    free(bytes);
}

/* False when it is time to stop. */
static bool take_signal(struct program *program)
{
    struct signalfd_siginfo signal;
    int status;
    if (read(program->signals, &signal, sizeof signal) != (ssize_t)sizeof signal)
        return true;
    switch (signal.ssi_signo) {
    case SIGUSR1:
        print_stats(program);
        program->stats_due = 0;
        return true;
    case SIGCHLD:
        if (program->captive.child == 0 ||
            waitpid(program->captive.child, &status, WNOHANG) != program->captive.child)
            return true;
        program->captive.child = 0;
        program->status = captive_exit_status(status);
        return false;
    default:
        return false;
    }
}

static int64_t patience(const struct program *program)
{
    int64_t left = program->stats.folder >= 0 ? program->stats_due - os_clock() : -1;
    if (program->accepting == RETRY && (left < 0 || left > RETRY_MILLISECONDS))
        left = RETRY_MILLISECONDS;
    return program->stats.folder >= 0 && left < 0 ? 0 : left;
}

/* What is refused is said once, not for as long as it is so. */
static void accept_all(struct program *program)
{
    enum accepting before = program->accepting;
    program->accepting = ACCEPT;
    for (unsigned i = 0; i < program->listeners.count && program->accepting == ACCEPT; i++) {
        int r = server_accept(&program->server, program->listeners.fds[i]);
        program->accepting = r == 0 ? ACCEPT : r == -EAGAIN ? WAIT : RETRY;
        if (program->accepting == RETRY && before != RETRY)
            log_error(&program->log, "accepting a connection: %s; others have to wait",
                      strerror(-r));
    }
}

/* The only client of -s has gone. */
static bool is_deserted(const struct program *program)
{
    return program->options.listen.kind->is_single &&
           server_connections(&program->server) == 0;
}

static void forget_events(int fd)
{
    uint64_t events;
    while (read(fd, &events, sizeof events) > 0)
        ;
}

/* Polled: signals, connections that ended, and, while we accept, listeners. */
static void serve(struct program *program)
{
    struct pollfd polled[2 + LISTENERS_MAX] = {
        {.fd = program->signals, .events = POLLIN},
        {.fd = program->server.open.ended_event, .events = POLLIN},
    };
    unsigned count = program->listeners.count;
    for (unsigned i = 0; i < count; i++)
        polled[2 + i] = (struct pollfd){.fd = program->listeners.fds[i], .events = POLLIN};
    while (!is_deserted(program)) {
        nfds_t n = 2 + (program->accepting == ACCEPT ? count : 0);
        int r = poll(polled, n, (int)patience(program));
        if (r > 0 && polled[0].revents && !take_signal(program))
            return;
        if (r > 0 && polled[1].revents)
            forget_events(program->server.open.ended_event);
        accept_all(program);
        if (program->stats_due <= os_clock())
            write_stats(program);
    }
}

/* Take down. */

/* It was asked to end at some time before the deadline. */
static void await_child(pid_t child, int64_t deadline)
{
    sigset_t ended;
    sigemptyset(&ended);
    sigaddset(&ended, SIGCHLD);
    while (waitpid(child, NULL, WNOHANG) == 0) {
        int64_t left = deadline - os_clock();
        const struct timespec patience = {left / 1000, left % 1000 * 1000000};
        if (left <= 0) {
            kill(child, SIGKILL);
            waitpid(child, NULL, 0);
            return;
        }
        sigtimedwait(&ended, NULL, &patience);
    }
}

static void take_down(struct program *program)
{
    /* The command has the time to end that the server takes, and no more than a second. */
    int64_t deadline = os_clock() + CHILD_MILLISECONDS;
    if (program->captive.child)
        kill(program->captive.child, SIGTERM);
    if (program->server.loop_count) {
        server_stop(&program->server);
        write_stats(program);
    }
    if (program->captive.child)
        await_child(program->captive.child, deadline);
    listen_close(&program->listeners);
    pidfile_close(&program->pidfile);
    stats_file_close(&program->stats);
    disk_destroy(program->disk);
    tls_credentials_free(program->credentials);
}

int main(int argc, char **argv)
{
    struct program program = {.log = LOG_INITIALIZER, .stats.folder = -1};
    struct reason reason;
    open_streams();
    switch (command_line_parse(argc, argv, &program.options, &reason)) {
    case COMMAND_LINE_DONE:
        return EXIT_SUCCESS;
    case COMMAND_LINE_WRONG:
        log_error(&program.log, "%s", reason.text);
        return EXIT_FAILURE;
    case COMMAND_LINE_SERVE:
        break;
    }
    log_set(&program.log, program.options.log, program.options.verbose, false);
    bool ready = take_signals(&program) == 0 && prepare(&program) == 0 && settle(&program) == 0 &&
                 start_server(&program) == 0 && become_user(&program) == 0 &&
                 tell_ready(&program) == 0;
    if (ready)
        serve(&program);
    take_down(&program);
    return ready ? program.status : EXIT_FAILURE;
}
