/* SPDX-License-Identifier: BSD-3-Clause */

#include "server/session/negotiation.h"

#include <errno.h>
#include <stdlib.h>

#include "server/host/log.h"
#include "server/net/tls_credentials.h"
#include "server/net/tls_store.h"
#include "server/session/replies.h"
#include "text/reason.h"

#define OPTION_BYTES 4096u /* an option costs as much time as copying this many bytes (turn.h) */

static void enter_transmission(struct connection *connection)
{
    char peer[64];
    free(connection->handshake);
    connection->handshake = NULL;
    connection->state = CONNECTION_TRANSMISSION;
    if (log_wants_debug(connection->service->log)) {
        transport_peer(&connection->transport, peer, sizeof peer);
        log_debug(connection->service->log, "%s: enters transmission", peer);
    }
}

int negotiation_take(struct connection *connection, struct input *input)
{
    struct wire_writer *replies = &connection->worker->scratch->replies;
    struct turn *turn = &connection->worker->turn;
    enum nbd_progress progress = NBD_AGAIN;
    int r = 0;
    while (progress == NBD_AGAIN && r == 0) {
        if (turn_is_over(turn))
            return -EAGAIN;
        turn_spend(turn, OPTION_BYTES);
        struct wire_reader reader = wire_read(input->at, input->left);
        progress = nbd_handshake_step(connection->handshake, &reader, replies);
        input_consume(input, input->left - reader.left);
        if (replies_are_full(connection))
            r = replies_flush(connection);
    }
    if (progress == NBD_TRANSMISSION)
        enter_transmission(connection);
    else if (progress == NBD_TLS)
        connection->state = CONNECTION_TLS;
    else if (progress == NBD_CLOSE)
        connection->state = CONNECTION_DRAINING;
    return r;
}

/* Start TLS with the credentials that the server has now. */
static int begin_tls(struct connection *connection)
{
    struct tls_credentials *credentials = tls_store_take(connection->service->tls);
    int r = transport_start_tls(&connection->transport, credentials);
    tls_credentials_release(credentials);
    return r;
}

int negotiation_secure(struct connection *connection)
{
    struct transport *transport = &connection->transport;
    struct reason reason;
    char peer[64];
    if (!transport->tls) {
        int r = begin_tls(connection);
        if (r < 0)
            return r;
    }
    int r = transport_handshake(transport, &reason);
    if (r == 0) {
        connection->state = CONNECTION_HANDSHAKE;
        return 1;
    }
    if (r == -EPROTO) {
        transport_peer(transport, peer, sizeof peer);
        log_error(connection->service->log, "%s: TLS refused: %s", peer, reason.text);
    }
    return r;
}
