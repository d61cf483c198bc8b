/* SPDX-License-Identifier: BSD-3-Clause */

/* Peers are kept in a hash table of lists.  A peer is in the table as long as it holds at least
 * one connection, so there are never more peers than descriptors. */

#include "server/session/peers.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct peer {
    LIST_ENTRY(peer) link;
    unsigned connections;
    char name[];
};

void peers_init(struct peers *peers)
{
    pthread_mutex_init(&peers->lock, NULL);
}

/* Returns the bucket for a name.  The hash function is FNV-1a. */
static struct peer_list *bucket_of(struct peers *peers, const char *name)
{
    uint32_t hash = 2166136261u;
    for (; *name; name++)
        hash = (hash ^ (unsigned char)*name) * 16777619u;
    return &peers->buckets[hash % PEERS_BUCKETS];
}

/* Find the peer with this name, or add it.  Returns NULL if there is no memory.  The caller must
 * hold the lock. */
static struct peer *find_or_add_locked(struct peers *peers, const char *name)
{
    struct peer_list *bucket = bucket_of(peers, name);
    struct peer *peer = NULL;
    LIST_FOREACH(peer, bucket, link)
    {
        if (strcmp(peer->name, name) == 0)
            return peer;
    }
    size_t size = strlen(name) + 1;
    peer = calloc(1, sizeof *peer + size);
    if (!peer)
        return NULL;
    memcpy(peer->name, name, size);
    LIST_INSERT_HEAD(bucket, peer, link);
    return peer;
}

int peers_join(struct peers *peers, const char *name, unsigned most, struct peer **peer)
{
    int r = 0;
    pthread_mutex_lock(&peers->lock);
    *peer = find_or_add_locked(peers, name);
    if (!*peer)
        r = -ENOMEM;
    else if ((*peer)->connections >= most)
        r = -EDQUOT;
    else
        (*peer)->connections++;
    pthread_mutex_unlock(&peers->lock);
    return r;
}

void peers_leave(struct peers *peers, struct peer *peer)
{
    pthread_mutex_lock(&peers->lock);
    if (--peer->connections == 0) {
        LIST_REMOVE(peer, link);
        free(peer);
    }
    pthread_mutex_unlock(&peers->lock);
}
