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

/* Initialize a struct peers.  All of its bytes must be zero. */
void peers_init(struct peers *peers);

/* Count one more connection of the peer with this name, and store the peer in *peer.  Returns 0,
 * or -EDQUOT if the peer already holds `most` connections, or -ENOMEM.  After an error the
 * connection is not counted, and *peer is not valid. */
int peers_join(struct peers *peers, const char *name, unsigned most, struct peer **peer);

/* Subtract 1 from the number of connections of a peer.  If the number is then 0, the peer is
 * freed. */
void peers_leave(struct peers *peers, struct peer *peer);

#endif
