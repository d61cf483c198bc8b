/* SPDX-License-Identifier: BSD-3-Clause */

#include "server/cli/option_table.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "server/cli/options.h"
#include "server/net/socket_kind.h"

/* Return the offset of a member of struct options.  The macro compiles only if the member has the
 * given type.  `type` has no parentheses, because _Generic does not accept them. */
#define OFFSET(type, member)                                                                     \
    /* NOLINTNEXTLINE(bugprone-macro-parentheses) */                                             \
    _Generic(((struct options *)0)->member, type : offsetof(struct options, member))

#define ROW(k, l, a, h, ...)                                                                     \
    .kind = OPTION_##k, .letter = (l), .names = {__VA_ARGS__}, .argument = (a), .help = (h)
#define FIELD(type, member) .field = OFFSET(type, member)

#define OPT_FLAG(letter, name, member, help)                                                     \
    ROW(FLAG, letter, NULL, help, name), FIELD(bool, member)
#define OPT_TEXT(letter, name, member, argument, help)                                           \
    ROW(TEXT, letter, argument, help, name), FIELD(const char *, member)
#define OPT_NAME(letter, name, member, argument, help)                                           \
    ROW(NAME, letter, argument, help, name), FIELD(const char *, member)
#define OPT_ADDRESS(letter, name, member, argument, help)                                        \
    ROW(ADDRESS, letter, argument, help, name), FIELD(struct listen_addresses, member)
#define OPT_NUMBER(letter, name, member, limit, argument, help)                                  \
    ROW(NUMBER, letter, argument, help, name), .max = (limit), FIELD(unsigned, member)
#define OPT_SECONDS(letter, name, member, limit, argument, help)                                 \
    ROW(SECONDS, letter, argument, help, name), .max = (limit), FIELD(unsigned, member)
#define OPT_MODE(letter, name, member, argument, help)                                           \
    ROW(MODE, letter, argument, help, name), FIELD(mode_t, member)
#define OPT_MASK(letter, name, member, argument, help)                                           \
    ROW(MASK, letter, argument, help, name), FIELD(uint16_t, member)
#define OPT_TLS(letter, name, member, argument, help)                                            \
    ROW(TLS, letter, argument, help, name), FIELD(enum tls_mode, member)
#define OPT_LOG(letter, name, member, argument, help)                                            \
    ROW(LOG, letter, argument, help, name), FIELD(enum log_target, member)
#define OPT_FAMILY(letter, name, member, value, help)                                            \
    ROW(FAMILY, letter, NULL, help, name), .family = (value), FIELD(int, member)
#define OPT_PRINT(letter, name, text, help) ROW(PRINT, letter, NULL, help, name), .print = (text)
#define OPT_SOCKET(letter, name, kind, help)                                                     \
    ROW(SOCKET, letter, NULL, help, name), .socket = (kind)
#define OPT_IGNORED(letter, name, help) ROW(IGNORED, letter, NULL, help, name)
#define OPT_REFUSED(letter, name, argument, help) ROW(REFUSED, letter, argument, help, name)

/* Each OPT_... macro takes all names of an option as one argument.  If an option has several
 * names, NAMES joins them into that argument. */
#define NAMES(...) __VA_ARGS__

/* An option with AS_NEXT as its help text shares a line of --help with the option in the next
 * row. */
#define AS_NEXT NULL

/* The rows are in the order in which --help prints them.  A help text has at most 44 characters,
 * so that no line of --help has more than 80 characters. */
const struct option_row option_table[] = {
    {OPT_NAME('U', "unix", listen.unix_path, "PATH", "listen on a Unix socket; -: on a new one"),
     .socket = &socket_unix},
    {OPT_MODE(0, "socket-mode", listen.socket_mode, "MODE", AS_NEXT)},
    {OPT_NAME(0, "socket-group", listen.socket_group, "GROUP", "who may connect")},
    {OPT_NAME('p', "port", listen.port, "PORT", "listen on this port (10809); 0: a free one")},
    {OPT_ADDRESS('i', NAMES("ip-addr", "ipaddr"), listen.addresses, "ADDRESS",
                 "listen there, not on loopback; repeatable")},
    {OPT_FAMILY('4', "ipv4-only", listen.family, AF_INET, AS_NEXT)},
    {OPT_FAMILY('6', "ipv6-only", listen.family, AF_INET6, "listen on one address family only")},
    {OPT_SOCKET(0, "vsock", &socket_vsock, "listen on a virtual machine socket")},
    {OPT_SOCKET('s', NAMES("single", "stdin"), &socket_stdio,
                "serve one client on stdin and stdout")},
    {OPT_TEXT(0, "run", run, "COMMAND", "serve while COMMAND runs, with $uri set")},
    {OPT_TEXT('e', NAMES("export-name", "export", "exportname"), listen.export_name, "NAME",
              "the export's name in $uri")},
    {OPT_FLAG(0, "print-uri", print_uri, "print the URI, also with --run")},
    {OPT_FLAG('f', NAMES("foreground", "no-fork"), foreground, "do not go to the background")},
    {OPT_NAME('P', NAMES("pidfile", "pid-file"), pidfile, "FILE",
              "write the process id there when ready")},
    {OPT_FLAG(0, "exit-with-parent", exit_with_parent, "end when the parent process does")},
    {OPT_NAME('u', "user", run_as.user, "USER", AS_NEXT)},
    {OPT_NAME('g', "group", run_as.group, "GROUP", "become them")},
    {OPT_FLAG('r', NAMES("read-only", "readonly"), read_only, "refuse writes")},
    {OPT_NUMBER('t', "threads", threads, OPTIONS_THREADS_MAX, "N",
                "serve with N threads (one per processor)")},
    {OPT_NUMBER(0, "max-connections", max_connections, OPTIONS_CONNECTIONS_MAX, "N", AS_NEXT)},
    {OPT_NUMBER(0, "max-per-peer", max_per_peer, OPTIONS_CONNECTIONS_MAX, "N",
                "limit connections (no limit)")},
    {OPT_SECONDS(0, "timeout", timeout_seconds, OPTIONS_TIMEOUT_MAX, "SECONDS", AS_NEXT)},
    {OPT_SECONDS(0, "idle-timeout", idle_seconds, OPTIONS_TIMEOUT_MAX, "SECONDS",
                 "limit handshakes (30), silence")},
    {OPT_FLAG(0, "keepalive", keepalive, "have TCP detect clients that vanished")},
    {OPT_FLAG(0, "swap", swap, "this machine swaps to the disk")},
    {OPT_TLS(0, "tls", tls.mode, "off|on|require", "encrypt never, on request, or always")},
    {OPT_NAME(0, "tls-certificates", tls.certificates, "DIR", "use the certificates in DIR")},
    {OPT_NAME(0, "tls-psk", tls.psk_file, "FILE", "use the shared keys in FILE instead")},
    {OPT_FLAG(0, "tls-verify-peer", tls.verify_peer, "require a certificate of clients, too")},
    {OPT_FLAG(0, NAMES("no-sr", "no-structured-replies"), no_structured, AS_NEXT)},
    {OPT_MASK(0, "mask-handshake", handshake_mask, "MASK", "offer fewer features to clients")},
    {OPT_FLAG('v', "verbose", verbose, "log more")},
    {OPT_LOG(0, "log", log, "stderr|syslog|null", "where to log")},
    {OPT_NAME(0, "stats", stats, "FILE", "write statistics there, as JSON")},
    {OPT_NAME('D', "debug", debug_flag, "FLAG", AS_NEXT)},
    {OPT_IGNORED('n', NAMES("newstyle", "new-style"), "accepted, and without effect")},
    {OPT_PRINT(0, "dump-config", TEXT_CONFIG, AS_NEXT)},
    {OPT_PRINT(0, "dump-plugin", TEXT_PLUGIN, "print what this build is and can do")},
    {OPT_PRINT(0, "long-options", TEXT_LONG_OPTIONS, AS_NEXT)},
    {OPT_PRINT(0, "short-options", TEXT_SHORT_OPTIONS, "print the options")},
    {OPT_PRINT(0, "help", TEXT_HELP, AS_NEXT)},
    {OPT_PRINT('V', "version", TEXT_VERSION, "print this; print the version")},

    {OPT_REFUSED('o', NAMES("oldstyle", "old-style"), NULL,
                 "clients have spoken newstyle since 2011: only that is served")},
    {OPT_REFUSED(0, "filter", "FILTER",
                 "only nbdkit has filters: 'nbdkit --filter=... memory' serves the same disk")},
    {OPT_REFUSED(0, "selinux-label", "LABEL",
                 "sockets are not labelled: chcon can label the Unix socket's file")},
    {OPT_REFUSED(0, "tls-priority", "PRIORITY", "GnuTLS's default priorities are used")},
};

const size_t option_count = sizeof option_table / sizeof option_table[0];
