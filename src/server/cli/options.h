/* SPDX-License-Identifier: BSD-3-Clause */

/* options - the command line of nbdram
 *
 * Letters and names are nbdkit's.  Nothing here opens, locks or starts anything: it turns words
 * into a struct options, or into one line that says what is wrong and what is accepted.
 *
 * Called once, by the main thread, before there are others.  Strings in struct options point into
 * argv and live as long.
 */

#ifndef NBDRAM_SERVER_CLI_OPTIONS_H
#define NBDRAM_SERVER_CLI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "disk/disk.h"
#include "server/host/log.h"
#include "server/host/privileges.h"
#include "server/net/listen.h"
#include "server/net/tls.h"

struct reason; /* text/reason.h */

#define OPTIONS_THREADS_MAX 256
#define OPTIONS_CONNECTIONS_MAX 1000000
#define OPTIONS_TIMEOUT_MAX 1000000 /* seconds: in milliseconds still an int */
#define OPTIONS_TIMEOUT_DEFAULT 30

struct options {
    struct disk_options disk;

    struct listen_options listen; /* -U, -p, -i, -4, -6, -e (every export name is served) */

    const char *run; /* --run; NULL: none */
    bool foreground; /* -f; implied by -s, --run, --exit-with-parent and activation */
    bool print_uri;
    const char *pidfile; /* -P */
    bool exit_with_parent;
    struct user_names run_as; /* -u, -g */
    bool swap;                /* --swap: never be the cause of the swapping we serve */

    bool read_only;
    unsigned threads;         /* -t, to OPTIONS_THREADS_MAX; 0: one per processor */
    unsigned max_connections; /* 0: no limit but that of descriptors */
    unsigned timeout;         /* of handshakes, seconds; 0: none */
    bool keepalive;
    bool no_structured;      /* --no-sr */
    uint16_t handshake_mask; /* --mask-handshake: of the flags we offer; all ones by default */

    struct tls_options tls; /* mode, if not given: on if credentials are named, else off */

    bool verbose;
    enum log_target log;
    const char *stats; /* --stats FILE */
};

/* What the command line asks for. */
enum options_action {
    OPTIONS_SERVE, /* options are complete */
    OPTIONS_DONE,  /* --help, --version, --dump-...: printed to standard output; exit 0 */
    OPTIONS_WRONG, /* why holds one line, without the program's name; exit 1 */
};

/* environ tells about socket activation (LISTEN_PID, LISTEN_FDS): with it &socket_activated.
 * options is overwritten, and not to be used unless the answer is OPTIONS_SERVE. */
enum options_action options_parse(int argc, char **argv, struct options *options,
                                  struct reason *reason);

#endif
