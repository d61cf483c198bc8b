/* SPDX-License-Identifier: BSD-3-Clause */

#include "server/serve.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "os/thread.h"
#include "server/host/signals.h"
#include "server/net/socket_kind.h"
#include "server/program.h"
#include "text/reason.h"
#include "text/string_builder.h"

#define RETRY_MILLISECONDS 100 /* in the state ACCEPTING_FAILED, accept again after this time */

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

/* Read certificates or keys again.  Whatever is wrong with the files, the server goes on. */
static void reload_credentials(struct program *program)
{
    struct reason reason;
    if (program->options.tls.mode == TLS_OFF)
        log_debug(&program->log, "SIGHUP: there is no TLS, and nothing to read again");
    else if (tls_store_reload(&program->tls, &reason) < 0)
        log_error(&program->log, "SIGHUP: %s; what was read before stays in use", reason.text);
    else
        log_notice(&program->log, "SIGHUP: %s was read again, for new connections",
                   program->tls.path);
}

/* Handle one signal.  Returns false if the server has to stop. */
static bool handle_signal(struct program *program)
{
    switch (signals_read(program->signals)) {
    case SIGNAL_NONE:
        return true;
    case SIGNAL_STATS:
        print_stats(program);
        program->stats_due = 0;
        return true;
    case SIGNAL_CHILD:
        return !captive_has_ended(&program->captive, &program->status);
    case SIGNAL_HANGUP:
        if (program->ends_at_hangup)
            return false;
        reload_credentials(program);
        return true;
    case SIGNAL_STOP:
        return false;
    }
    return true;
}

/* Return the timeout for poll: the number of milliseconds after which the main thread has work
 * even if no descriptor is ready, or -1 if there will be no such work. */
static int poll_timeout(const struct program *program)
{
    int64_t timeout = -1;
    if (program->stats.folder >= 0) {
        timeout = program->stats_due - os_clock_ms();
        timeout = timeout < 0 ? 0 : timeout;
    }
    if (program->accepting == ACCEPTING_FAILED && (timeout < 0 || timeout > RETRY_MILLISECONDS))
        timeout = RETRY_MILLISECONDS;
    return (int)timeout;
}

static enum accepting accepting_after(int r)
{
    if (r == -EAGAIN)
        return ACCEPTING_AT_LIMIT;
    return r < 0 ? ACCEPTING_FAILED : ACCEPTING_NOW;
}

/* Accept all connections that wait.  If accepting fails several times in a row, only the first
 * failure is logged. */
static void accept_connections(struct program *program)
{
    enum accepting before = program->accepting;
    program->accepting = ACCEPTING_NOW;
    for (unsigned i = 0; i < program->listeners.count && program->accepting == ACCEPTING_NOW;
         i++) {
        int r = server_accept(&program->server, program->listeners.fds[i]);
        program->accepting = accepting_after(r);
        if (program->accepting == ACCEPTING_FAILED && before != ACCEPTING_FAILED)
            log_error(&program->log,
                      "accepting a connection: %s; clients wait until it works again",
                      strerror(-r));
    }
}

static bool has_lost_its_only_client(const struct program *program)
{
    return program->options.listen.kind->is_single && server_connections(&program->server) == 0;
}

/* Reset an eventfd, so that it is unreadable until the next event. */
static void drain_events(int fd)
{
    uint64_t events;
    while (read(fd, &events, sizeof events) > 0)
        ;
}

/* With --swap the heap keeps its memory, because it is locked, and memory may be short. */
static void handle_ended(struct program *program)
{
    drain_events(program->server.open.ended_event);
    if (!program->options.swap)
        server_tidy(&program->server);
}

/* What the main thread waits for.  The listening sockets follow, from POLLED_LISTENERS on. */
enum polled { POLLED_SIGNALS, POLLED_PARENT, POLLED_ENDED, POLLED_LISTENERS };

/* The main thread waits in this function for signals, for the end of the parent, and for the ends
 * of connections.  While program->accepting is ACCEPTING_NOW, the main thread also waits for new
 * connections. */
void serve(struct program *program)
{
    struct pollfd polled[POLLED_LISTENERS + LISTENERS_MAX] = {
        [POLLED_SIGNALS] = {.fd = program->signals, .events = POLLIN},
        [POLLED_PARENT] = {.fd = program->parent, .events = POLLIN}, /* -1 is left out by poll */
        [POLLED_ENDED] = {.fd = program->server.open.ended_event, .events = POLLIN},
    };
    unsigned count = program->listeners.count;
    for (unsigned i = 0; i < count; i++)
        polled[POLLED_LISTENERS + i] =
            (struct pollfd){.fd = program->listeners.fds[i], .events = POLLIN};
    while (!has_lost_its_only_client(program)) {
        nfds_t n = POLLED_LISTENERS + (program->accepting == ACCEPTING_NOW ? count : 0);
        int r = poll(polled, n, poll_timeout(program));
        if (r > 0 && polled[POLLED_PARENT].revents)
            return;
        if (r > 0 && polled[POLLED_SIGNALS].revents && !handle_signal(program))
            return;
        if (r > 0 && polled[POLLED_ENDED].revents)
            handle_ended(program);
        accept_connections(program);
        if (program->stats_due <= os_clock_ms())
            program_write_stats(program);
    }
}
