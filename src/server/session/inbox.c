/* SPDX-License-Identifier: BSD-3-Clause */

#include "server/session/inbox.h"

#include <errno.h>
#include <string.h>

#include "disk/disk.h"
#include "server/session/commands.h"
#include "server/session/negotiation.h"
#include "server/session/requests.h"

/* If fewer than this many bytes of a payload are missing, they are received into a buffer, and
 * copied to the disk.  The copy costs less than a loan of memory from the disk. */
#define FILL_MIN 4096

/* The functions in this section process the bytes that have arrived. */

static int process_by_state(struct connection *connection, struct input *input)
{
    int r = 0;
    if (connection->state == CONNECTION_HANDSHAKE)
        r = negotiation_take(connection, input);
    if (r == 0 && connection->state == CONNECTION_TRANSMISSION)
        r = requests_take(connection, input);
    return r;
}

/* Process the first `size` bytes of scratch->in.  The bytes that are not consumed are stored in
 * connection->unread. */
static int process_input(struct connection *connection, size_t size)
{
    struct input input = {connection->worker->scratch->in, size};
    int r = process_by_state(connection, &input);
    if (connection->state == CONNECTION_TLS || connection->state == CONNECTION_DRAINING)
        input.left = 0; /* ignore bytes after a STARTTLS, an ABORT or a DISC */
    connection->unread_ready = false;
    if (input.left == 0 || (r < 0 && r != -EAGAIN))
        return r;
    int stored = buffer_store(&connection->unread, input.at, input.left);
    if (stored < 0)
        return stored;
    connection->unread_ready = r == -EAGAIN;
    return r;
}

/* The functions in this section receive large payloads. */

/* The arguments and results of receive_into_disk. */
struct direct_receive {
    struct connection *connection;
    size_t missing;  /* argument: bytes of the payload that have not arrived yet */
    size_t received; /* result: bytes of the payload that were received */
    size_t header;   /* result: bytes of the next header that were received */
    bool was_full;   /* result: the received bytes filled all of the buffers */
};

/* Receive a part of a payload straight into memory of the disk.  Called by disk_fill, inside a
 * read section of the disk.  If the memory is enough for the whole rest of the payload, the
 * function also receives the header of the next request, into scratch->in, with the same system
 * call. */
static ssize_t receive_into_disk(void *opaque, struct iovec *vectors, int n)
{
    struct direct_receive *receive = opaque;
    struct connection *connection = receive->connection;
    size_t lent = 0, header = nbd_request_size(connection->session.style);
    for (int i = 0; i < n; i++)
        lent += vectors[i].iov_len;
    if (lent == receive->missing)
        vectors[n++] = (struct iovec){connection->worker->scratch->in, header};
    else
        header = 0;
    ssize_t r = transport_receive(&connection->transport, vectors, n);
    if (r <= 0)
        return r < 0 ? r : -ENOTCONN;
    receive->received = (size_t)r < lent ? (size_t)r : lent;
    receive->header = (size_t)r - receive->received;
    receive->was_full = (size_t)r == lent + header;
    return (ssize_t)receive->received;
}

static bool is_payload_worth_filling(const struct connection *connection)
{
    const struct payload_job *job = &connection->payload;
    return job->active && job->error == 0 && job->request.payload - job->at >= FILL_MIN;
}

/* Receive more bytes of a large payload into memory of the disk.  If the disk has no memory to
 * lend, nothing is received, and the result is -ENOBUFS.  Otherwise the result is as for
 * inbox_receive. */
static int receive_payload(struct connection *connection)
{
    const struct payload_job *job = &connection->payload;
    struct direct_receive receive = {.connection = connection,
                                     .missing = (size_t)(job->request.payload - job->at)};
    size_t lent;
    ssize_t n = disk_fill(connection->service->disk, job->request.offset + job->at,
                          receive.missing, &lent, receive_into_disk, &receive);
    if (n < 0 && receive.received == 0)
        return (int)n;
    commands_payload_filled(connection, receive.received, n < 0 ? (int)n : 0);
    int r = process_input(connection, receive.header);
    return r < 0 ? r : receive.was_full;
}

/* The functions in this section receive everything except large payloads. */

/* Returns the number of bytes to receive now.  They will be placed after the bytes of
 * connection->unread. */
static size_t bytes_wanted(const struct connection *connection)
{
    size_t unread = buffer_left(&connection->unread);
    size_t header = nbd_request_size(connection->session.style);
    if (connection->bulk && !connection->payload.active && unread < header)
        return header - unread;
    return SCRATCH_IN - unread;
}

/* Move the bytes of connection->unread to the beginning of scratch->in.  Unless inbox_is_ready,
 * also receive up to `want` bytes, and place them after the unread bytes.  *received is the
 * number of bytes that were received.
 *
 * Returns the number of bytes that are now in scratch->in, or -errno.  At the end of the stream
 * the error is -ENOTCONN.  After an error the unread bytes are still in connection->unread. */
static ssize_t receive_after_unread(struct connection *connection, size_t want, size_t *received)
{
    struct buffer *unread = &connection->unread;
    uint8_t *in = connection->worker->scratch->in;
    size_t before = buffer_left(unread);
    ssize_t n = 0;
    if (!inbox_is_ready(connection)) {
        struct iovec vector = {in + before, want};
        n = transport_receive(&connection->transport, &vector, 1);
        if (n <= 0)
            return n == 0 ? -ENOTCONN : n;
    }
    if (before)
        memcpy(in, unread->bytes + unread->at, before);
    buffer_drop(unread);
    *received = (size_t)n;
    return (ssize_t)before + n;
}

int inbox_receive(struct connection *connection)
{
    if (is_payload_worth_filling(connection)) {
        int r = receive_payload(connection);
        if (r != -ENOBUFS)
            return r;
    }
    size_t want = bytes_wanted(connection), received;
    ssize_t size = receive_after_unread(connection, want, &received);
    if (size < 0)
        return (int)size;
    int r = process_input(connection, (size_t)size);
    return r < 0 ? r : connection->bulk || received == want;
}
