/* SPDX-License-Identifier: BSD-3-Clause */

/* peers - how many connections each peer holds, for --max-per-peer
 *
 * A peer is an IP address, a user at a Unix socket, or a virtual machine: see
 * socket_name_holder (net/socket_kind.h).  Any thread may call.
 */

#ifndef NBDRAM_SERVER_SESSION_PEERS_H
#define NBDRAM_SERVER_SESSION_PEERS_H

#include <pthread.h>
#include <sys/queue.h>

#define PEERS_BUCKETS 1024

struct peer;
LIST_HEAD(peer_list, peer);

struct peers {
    pthread_mutex_t lock; /* guards the buckets and the peers in them */
    struct peer_list buckets[PEERS_BUCKETS];
};

/* Initialize peers, whose memory must be all zero. */
void peers_init(struct peers *peers);

/* Count one more connection of the peer called name.  Returns 0 and stores the peer in *peer;
 * -EDQUOT if the peer holds `most` connections already; or -ENOMEM. */
int peers_join(struct peers *peers, const char *name, unsigned most, struct peer **peer);

/* Count one connection less.  The peer is freed with its last connection. */
void peers_leave(struct peers *peers, struct peer *peer);

#endif
