/* SPDX-License-Identifier: BSD-3-Clause */

/* options - the command line of nbdram
 *
 * Letters and names are nbdkit's.  Nothing here opens, locks or starts anything: it turns the
 * words of the command line into a struct options, or into one line that says what is wrong and
 * what is accepted.
 *
 * Called once, by the main thread, before there are other threads.  Strings in struct options
 * point into argv and live as long as it does.
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
#define OPTIONS_TIMEOUT_MAX 1000000 /* seconds; as milliseconds it still fits into an int */
#define OPTIONS_TIMEOUT_DEFAULT 30

struct options {
    /* Made of the options of the rooms that carry them out. */
    struct disk_options disk;     /* size=, limit=, allocator= */
    struct listen_options listen; /* -U, -p, -i, -4, -6, --vsock, -s, -e */
    struct tls_options tls;       /* --tls...; if only credentials are named, the mode is on */
    struct user_names run_as;     /* -u, -g */

    /* The process. */
    const char *run; /* the command of --run; NULL: none */
    bool foreground; /* -f; implied by -s, --run, --exit-with-parent and socket activation */
    bool print_uri;
    const char *pidfile; /* -P; NULL: none */
    bool exit_with_parent;
    bool
        swap; /* --swap: this machine swaps to the disk, so the process must not be swapped out */
    bool verbose;
    enum log_target log;
    const char *stats; /* the file of --stats; NULL: none */

    /* The server. */
    bool read_only;
    unsigned threads;         /* -t, to OPTIONS_THREADS_MAX; 0: one per processor */
    unsigned max_connections; /* to OPTIONS_CONNECTIONS_MAX; 0: only descriptors limit them */
    unsigned timeout;         /* of handshakes, in seconds, to OPTIONS_TIMEOUT_MAX; 0: none */
    bool keepalive;
    bool no_structured;      /* --no-sr */
    uint16_t handshake_mask; /* --mask-handshake: flags outside of it are not offered */
};

/* What the command line asks for. */
enum options_action {
    OPTIONS_SERVE, /* serve, as options say */
    OPTIONS_DONE,  /* exit with 0: what --help or another such option asked for is printed */
    OPTIONS_WRONG, /* exit with 1: the reason says what is wrong */
};

/* Parse the command line.  With socket activation (LISTEN_PID and LISTEN_FDS in the environment)
 * the kind of socket is socket_activated.  options is overwritten; it is good only if the result
 * is OPTIONS_SERVE. */
enum options_action options_parse(int argc, char **argv, struct options *options,
                                  struct reason *reason);

#endif
