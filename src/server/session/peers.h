/* SPDX-License-Identifier: BSD-3-Clause */

/* peers - how many connections each peer holds, for --max-per-peer
 *
 * A peer is an IP address, a user at a Unix socket, or a virtual machine.  socket_name_holder
 * (net/socket_kind.h) gives each peer its name.
 *
 * Threads: any thread may call the functions.
 */

#ifndef NBDRAM_SERVER_SESSION_PEERS_H
#define NBDRAM_SERVER_SESSION_PEERS_H

#include <pthread.h>
#include <sys/queue.h>

#define PEERS_BUCKETS 1024

struct peer;
LIST_HEAD(peer_list, peer);

struct peers {
    pthread_mutex_t lock; /* guards all buckets, and all peers in the buckets */
    struct peer_list buckets[PEERS_BUCKETS];
};

/* Initialize a struct that is all zero. */
void peers_init(struct peers *peers);

/* Count one more connection of the peer called `name`, and store the peer in *peer.  Returns 0;
 * -EDQUOT if the peer already holds `most` connections; or -ENOMEM.  On an error nothing is
 * counted, and *peer is not valid. */
int peers_join(struct peers *peers, const char *name, unsigned most, struct peer **peer);

/* Count one connection less.  If it was the peer's last connection, frees the peer. */
void peers_leave(struct peers *peers, struct peer *peer);

#endif
