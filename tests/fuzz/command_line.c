/* SPDX-License-Identifier: BSD-3-Clause */

/* Command lines, each line of the input being a word.  What is accepted is within its limits,
 * points into the words, and means the same when it is written out in full.  What is refused has
 * a reason. */

#include <inttypes.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "demand.h"
#include "disk/allocator.h"
#include "server/cli/command_line.h"
#include "server/cli/options.h"
#include "server/net/socket_kind.h"
#include "text.h"
#include "text/reason.h"

#define WORDS_MAX 80

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct line {
    int count;
    char *words[WORDS_MAX + 2];
};

static char program[] = "nbdram";

static enum command_line_action parse(struct line *line, struct options *options,
                                      struct reason *reason)
{
    line->words[line->count] = NULL;
    return command_line_parse(line->count, line->words, options, reason);
}

/* Limits. */

static bool is_within(const char *value, const struct line *line)
{
    for (int i = 1; i < line->count; i++)
        if (value >= line->words[i] && value <= line->words[i] + strlen(line->words[i]))
            return true;
    return value == NULL;
}

static void check_texts(const struct options *options, const struct line *line)
{
    const char *const texts[] = {
        options->listen.unix_path,
        options->listen.port,
        options->listen.export_name,
        options->listen.socket_group,
        options->run,
        options->pidfile,
        options->run_as.user,
        options->run_as.group,
        options->tls.psk_file,
        options->stats,
        options->debug_flag,
        options->tls.certificates,
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        DEMAND(is_within(texts[i], line), "text %zu is not a word of the line", i);
    DEMAND(options->listen.addresses.count <= LISTEN_ADDRESSES_MAX, "addresses");
    for (unsigned i = 0; i < options->listen.addresses.count; i++)
        DEMAND(is_within(options->listen.addresses.names[i], line), "address %u", i);
}

static void check(const struct options *options, const struct line *line)
{
    check_texts(options, line);
    DEMAND(options->disk.size <= DISK_SIZE_MAX, "size");
    DEMAND(!options->disk.limit ||
               (options->disk.limit >= DISK_LIMIT_MIN && options->disk.limit <= DISK_SIZE_MAX),
           "limit");
    DEMAND(options->disk.level >= DISK_LEVEL_MIN && options->disk.level <= DISK_LEVEL_MAX,
           "level");
    DEMAND(options->threads <= OPTIONS_THREADS_MAX, "threads");
    DEMAND(options->max_connections <= OPTIONS_CONNECTIONS_MAX, "connections");
    DEMAND(options->max_per_peer <= OPTIONS_CONNECTIONS_MAX, "connections of a peer");
    DEMAND(options->timeout_seconds <= OPTIONS_TIMEOUT_MAX, "timeout");
    DEMAND(options->idle_seconds <= OPTIONS_TIMEOUT_MAX, "idle timeout");
    DEMAND(options->tls.mode <= TLS_REQUIRE && options->log <= LOG_TO_NULL, "TLS %d, log %d",
           (int)options->tls.mode, (int)options->log);
    DEMAND(options->listen.family == AF_UNSPEC || options->listen.family == AF_INET ||
               options->listen.family == AF_INET6,
           "family %d", options->listen.family);
    DEMAND(options->listen.kind != &socket_unix || options->listen.unix_path,
           "a socket without a path");
    DEMAND(!options->tls.verify_peer || options->tls.mode != TLS_OFF, "verified without TLS");
}

/* Writing out. */

__attribute__((format(printf, 2, 3))) static void add(struct line *line, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int length = vasprintf(&line->words[line->count], format, arguments);
    va_end(arguments);
    DEMAND(length >= 0 && line->count < WORDS_MAX, "no room");
    line->count++;
}

static void add_texts(struct line *line, const struct options *options)
{
    const struct {
        const char *name, *value;
    } texts[] = {
        {"unix", options->listen.unix_path},
        {"port", options->listen.port},
        {"export-name", options->listen.export_name},
        {"socket-group", options->listen.socket_group},
        {"run", options->run},
        {"pidfile", options->pidfile},
        {"user", options->run_as.user},
        {"group", options->run_as.group},
        {"tls-certificates", options->tls.certificates},
        {"tls-psk", options->tls.psk_file},
        {"stats", options->stats},
        {"debug", options->debug_flag},
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (texts[i].value)
            add(line, "--%s=%s", texts[i].name, texts[i].value);
    for (unsigned i = 0; i < options->listen.addresses.count; i++)
        add(line, "--ip-addr=%s", options->listen.addresses.names[i]);
}

static void add_flags(struct line *line, const struct options *options)
{
    const struct {
        const char *name;
        bool on;
    } flags[] = {
        {"print-uri", options->print_uri},
        {"foreground", options->foreground},
        {"exit-with-parent", options->exit_with_parent},
        {"read-only", options->read_only},
        {"keepalive", options->keepalive},
        {"swap", options->swap},
        {"tls-verify-peer", options->tls.verify_peer},
        {"no-sr", options->no_structured},
        {"verbose", options->verbose},
        {"vsock", options->listen.kind == &socket_vsock},
        {"single", options->listen.kind == &socket_stdio},
        {"ipv4-only", options->listen.family == AF_INET},
        {"ipv6-only", options->listen.family == AF_INET6},
    };
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
        if (flags[i].on)
            add(line, "--%s", flags[i].name);
}

static void add_values(struct line *line, const struct options *options)
{
    static const char *const tls[] = {"off", "on", "require"};
    static const char *const log[] = {"default", "stderr", "syslog", "null"};
    const struct disk_options *disk = &options->disk;
    add(line, "--threads=%u", options->threads);
    add(line, "--max-connections=%u", options->max_connections);
    add(line, "--max-per-peer=%u", options->max_per_peer);
    add(line, "--timeout=%u", options->timeout_seconds);
    add(line, "--idle-timeout=%u", options->idle_seconds);
    add(line, "--mask-handshake=%#x", options->handshake_mask);
    add(line, "--tls=%s", tls[options->tls.mode]);
    add(line, "--log=%s", log[options->log]);
    add(line, "size=%" PRIu64, disk->size);
    if (options->listen.socket_mode)
        add(line, "--socket-mode=%o", options->listen.socket_mode);
    if (disk->limit)
        add(line, "limit=%" PRIu64, disk->limit);
    if (disk->allocator && disk->allocator->takes_level)
        add(line, "allocator=%s,level=%d", disk->allocator->name, disk->level);
    else if (disk->allocator)
        add(line, "allocator=%s,mlock=%s", disk->allocator->name, disk->mlock ? "on" : "off");
}

static bool is_same_text(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

static bool is_same_addresses(const struct listen_addresses *a, const struct listen_addresses *b)
{
    for (unsigned i = 0; i < a->count && i < b->count; i++)
        if (!is_same_text(a->names[i], b->names[i]))
            return false;
    return a->count == b->count;
}

static void demand_same_texts(const struct options *a, const struct options *b)
{
    DEMAND(is_same_text(a->listen.unix_path, b->listen.unix_path) &&
               is_same_text(a->listen.port, b->listen.port) &&
               is_same_addresses(&a->listen.addresses, &b->listen.addresses) &&
               is_same_text(a->listen.export_name, b->listen.export_name) &&
               is_same_text(a->listen.socket_group, b->listen.socket_group) &&
               is_same_text(a->run, b->run) && is_same_text(a->pidfile, b->pidfile) &&
               is_same_text(a->run_as.user, b->run_as.user) &&
               is_same_text(a->run_as.group, b->run_as.group) &&
               is_same_text(a->tls.certificates, b->tls.certificates) &&
               is_same_text(a->tls.psk_file, b->tls.psk_file) &&
               is_same_text(a->stats, b->stats) && is_same_text(a->debug_flag, b->debug_flag),
           "another text");
}

static void demand_same(const struct options *a, const struct options *b)
{
    demand_same_texts(a, b);
    DEMAND(a->disk.size == b->disk.size && a->disk.limit == b->disk.limit &&
               a->disk.allocator == b->disk.allocator && a->disk.mlock == b->disk.mlock &&
               a->disk.level == b->disk.level,
           "another disk");
    DEMAND(a->listen.kind == b->listen.kind && a->listen.second == b->listen.second &&
               a->listen.family == b->listen.family &&
               a->listen.socket_mode == b->listen.socket_mode && a->foreground == b->foreground &&
               a->print_uri == b->print_uri && a->exit_with_parent == b->exit_with_parent &&
               a->swap == b->swap && a->read_only == b->read_only && a->threads == b->threads &&
               a->max_connections == b->max_connections && a->max_per_peer == b->max_per_peer &&
               a->idle_seconds == b->idle_seconds && a->timeout_seconds == b->timeout_seconds &&
               a->keepalive == b->keepalive && a->no_structured == b->no_structured &&
               a->handshake_mask == b->handshake_mask && a->tls.mode == b->tls.mode &&
               a->tls.verify_peer == b->tls.verify_peer && a->verbose == b->verbose &&
               a->log == b->log,
           "another number or flag");
}

static void check_written(const struct options *options)
{
    struct line line = {.count = 1, .words = {program}};
    struct options again;
    struct reason reason = {0};
    add_texts(&line, options);
    add_flags(&line, options);
    add_values(&line, options);
    enum command_line_action action = parse(&line, &again, &reason);
    DEMAND(action == COMMAND_LINE_SERVE, "written out it is refused: %s", reason.text);
    demand_same(options, &again);
    while (--line.count)
        free(line.words[line.count]);
}

/* A run. */

/* Standard output goes to the null device: --help and other options print there. */
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    DEMAND(freopen("/dev/null", "w", stdout), "no null device");
    return 0;
}

/* Make this look like a process that was passed sockets; NULL: that was not. */
static void pretend_activation(const char *count)
{
    char pid[24];
    unsetenv("LISTEN_PID");
    if (!count)
        return;
    snprintf(pid, sizeof pid, "%ld", (long)getpid());
    setenv("LISTEN_PID", pid, 1);
    setenv("LISTEN_FDS", count, 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct line line = {.count = 1, .words = {program}};
    struct options options;
    struct reason reason = {0};
    bool activated = size && data[0] == '\n'; /* the first word is LISTEN_FDS */
    for (size_t at = activated; at < size && line.count <= WORDS_MAX;) {
        const uint8_t *end = memchr(data + at, '\n', size - at);
        size_t n = end ? (size_t)(end - data) - at : size - at;
        line.words[line.count++] = text_copy(data + at, n);
        at += n + 1;
    }
    pretend_activation(activated && line.count > 1 ? line.words[1] : NULL);
    enum command_line_action action = parse(&line, &options, &reason);
    if (action == COMMAND_LINE_WRONG)
        text_check_reason(&reason);
    if (action == COMMAND_LINE_SERVE)
        check(&options, &line);
    if (action == COMMAND_LINE_SERVE && options.listen.kind != &socket_activated)
        check_written(&options);
    while (--line.count)
        free(line.words[line.count]);
    return 0;
}
