/* SPDX-License-Identifier: BSD-3-Clause */

#include "server/session/server.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "os/memory.h"
#include "server/host/log.h"
#include "server/net/socket_kind.h"
#include "server/session/connection.h"
#include "server/session/peers.h"

void server_stop(struct server *server)
{
    for (unsigned i = 0; i < server->loop_count; i++)
        loop_ask_to_stop(&server->loops[i]);
    for (unsigned i = 0; i < server->loop_count; i++)
        loop_join(&server->loops[i]);
    park_stop(&server->park);
}

void server_free(struct server *server)
{
    free(server->loops);
    close(server->open.ended_event);
    server->loops = NULL;
    server->loop_count = 0;
}

int server_start(struct server *server, unsigned loops)
{
    int r = 0;
    peers_init(&server->open.peers);
    server->open.ended_event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (server->open.ended_event < 0)
        return -errno;
    server->loops = calloc(loops, sizeof *server->loops);
    if (!server->loops) {
        close(server->open.ended_event);
        return -ENOMEM;
    }
    park_init(&server->park, server->service.disk);
    for (server->loop_count = 0; r == 0 && server->loop_count < loops;) {
        r = loop_start(&server->loops[server->loop_count], &server->service, &server->open,
                       &server->park);
        server->loop_count += r == 0;
    }
    if (r < 0) {
        server_stop(server);
        server_free(server);
    }
    return r;
}

static int adopt(struct server *server, int in, int out, struct peer *peer)
{
    struct connection *connection;
    int r = connection_create(&server->service, in, out, &connection);
    if (r < 0)
        return r;
    connection->peer = peer;
    atomic_fetch_add_explicit(&server->open.count, 1, memory_order_relaxed);
    loop_hand_over(&server->loops[server->accepted++ % server->loop_count], connection);
    return 0;
}

int server_adopt(struct server *server, int in, int out)
{
    return adopt(server, in, out, NULL);
}

unsigned server_connections(const struct server *server)
{
    return atomic_load_explicit(&server->open.count, memory_order_relaxed);
}

/* Without os_memory_tidy, malloc would return only memory at the end of its heap, and would keep
 * 5 to 10 MiB after 4,000 simultaneous connections. */
#define TIDY_AFTER ((size_t)512 << 10)

void server_tidy(struct server *server)
{
    if (atomic_load_explicit(&server->open.freed, memory_order_relaxed) < TIDY_AFTER)
        return;
    atomic_store_explicit(&server->open.freed, 0, memory_order_relaxed);
    os_memory_tidy();
}

/* Whether accept failed with an error that concerns only one connection.  If it did, the server
 * can accept the next connection. */
static bool is_fault_of_connection(int error)
{
    return error == ECONNABORTED || error == EINTR || error == EPROTO || error == EPERM;
}

/* Give a new connection to a loop, and return 0.  If its peer already holds max_per_peer
 * connections, close the connection instead, and also return 0.  On an error, return -errno.  The
 * caller then has to close the connection. */
static int admit(struct server *server, int fd)
{
    const struct service *service = &server->service;
    struct peer *peer = NULL;
    char name[64];
    if (service->max_per_peer) {
        socket_name_holder(fd, name, sizeof name);
        int r = peers_join(&server->open.peers, name, service->max_per_peer, &peer);
        if (r < 0 && r != -EDQUOT)
            return r;
        if (r == -EDQUOT) {
            log_error(service->log, "%s: refused: it holds %u connections already", name,
                      service->max_per_peer);
            close(fd);
            return 0;
        }
    }
    int r = adopt(server, fd, fd, peer);
    if (r < 0 && peer)
        peers_leave(&server->open.peers, peer);
    return r;
}

int server_accept(struct server *server, int listener)
{
    for (unsigned i = 0; i < TURN_ACCEPTS; i++) {
        if (server->service.max_connections &&
            server_connections(server) >= server->service.max_connections)
            return -EAGAIN;
        /* cppcheck-suppress nullPointer ; the address of the peer is not needed */
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0 && is_fault_of_connection(errno))
            continue;
        if (fd < 0)
            return errno == EAGAIN ? 0 : -errno;
        int r = admit(server, fd);
        if (r < 0) {
            close(fd);
            return r;
        }
    }
    return 0;
}
