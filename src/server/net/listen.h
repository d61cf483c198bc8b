/* SPDX-License-Identifier: BSD-3-Clause */

/* listen - the sockets that clients connect to
 *
 * Opened by the main thread before the process goes to the background, closed by it at the end.
 * Sockets are close-on-exec, non-blocking and listening (backlog: the system's most).
 */

#ifndef NBDRAM_SERVER_NET_LISTEN_H
#define NBDRAM_SERVER_NET_LISTEN_H

#include <stddef.h>
#include <sys/types.h>

#include "server/cli/options.h"

struct reason; /* text/reason.h */

#define LISTENERS_MAX 64

struct listeners {
    int fds[LISTENERS_MAX];
    unsigned count;
    char *unix_path; /* ours to remove at the end, or NULL */
    dev_t unix_device;
    ino_t unix_inode; /* of that file */
    char *unix_dir;   /* made for `-U -`, to be removed too, or NULL */
    unsigned port;    /* the TCP or vsock port that was bound; 0: neither */
    char *uri; /* nbd://..., nbd+unix://..., nbds+...; with the export name, percent-encoded
                * where the URI standard wants that */
    char *nbd; /* the same, as in nbdkit since 1.24: for its variable $nbd */
};

/* Open what options ask for: one Unix socket; TCP on every address that the name stands for (v4
 * and v6; without -i, both loopbacks; port 0 is one free port for all of them); vsock; or take
 * over the descriptors that were passed (from 3 on, LISTEN_FDS of them; the variables are removed
 * from the environment).  LISTEN_STDIO opens nothing.
 *
 * A Unix socket file that nobody listens on any more is replaced; a live one is an error, as is a
 * file that is no socket.  On an error, -errno, and one line in why; nothing is left behind. */
int listen_open(const struct options *options, struct listeners *listeners,
                struct reason *reason);

/* Close, and remove the file and folder that open made, if they are still those. */
void listen_close(struct listeners *listeners);

#endif
