/* SPDX-License-Identifier: BSD-3-Clause */

/* If GnuTLS cannot write a whole record, it expects the caller to repeat the send with the same
 * bytes.  But GnuTLS does not say how many bytes these are, because a client may have asked for
 * shorter records.  And if the keys change in between, the repeated send fails.
 *
 * So we hide from GnuTLS that a descriptor is full.  If the descriptor does not take all
 * encrypted bytes, we keep the rest in session->unsent, and return to GnuTLS as if all bytes had
 * been written.  While session->unsent has bytes, no new record is made.  So it holds at most one
 * record, and the messages that GnuTLS sends with that record.
 *
 * Records are made from a copy of the data, for two reasons:
 *
 *   - Several small vectors have to become one record.
 *   - Other clients may write to the pages that the disk has lent us.  Some ciphers (CCM) read
 *     the data twice while they encrypt it.  If the data changed in between, the client would
 *     reject the record as forged.
 *
 * The functions of this file read and write the descriptors for GnuTLS.  GnuTLS's own functions
 * expect sockets, but with -s the descriptors can be pipes. */

#include "server/net/tls.h"

#include <errno.h>
#include <gnutls/gnutls.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "os/bytes.h"
#include "server/net/tls_credentials.h"
#include "server/net/tls_peer.h"
#include "text/reason.h"

#define RECORD_SIZE 16384 /* bytes in the largest record: RFC 8446, section 5.1 */

/* continue_handshake calls GnuTLS at most this many times.  GnuTLS can ask to be called again
 * although there is more to read.  Without the limit, a client that causes this could keep the
 * thread from serving other clients. */
#define TURNS_MAX 8

/* One receive takes at most this many records.  A record costs a microsecond or more, even if it
 * holds a single byte.  Without the limit, one receive filled its buffer with 160,000 such
 * records, and other clients waited for 6 s. */
#define RECORDS_MAX 16

struct tls_session {
    gnutls_session_t gnutls;
    int in, out;
    int system_error;    /* errno of the last read, write or allocation that failed */
    int failed;          /* 0, or the -errno that ended the session; later calls return it */
    bool is_established; /* the handshake is complete */
    bool has_ended;      /* the client has sent close_notify */
    bool is_drained;     /* the last read from the descriptor found nothing */
    bool is_at_end; /* the last read found the end of the stream, with or without close_notify */
    bool is_half_done; /* the last receive stopped although the descriptor may have more bytes */
    struct tls_peer peer;

    uint8_t *unsent;    /* encrypted bytes that wait to be written; NULL: none */
    size_t unsent_at;   /* number of bytes of `unsent` that were written */
    size_t unsent_size; /* size of `unsent` in bytes */

    struct tls_credentials *credentials; /* the session holds them */
};

/* Return session->system_error as an -errno.  ECONNRESET becomes -EPIPE, because both mean that
 * the client is gone. */
static int system_failure(const struct tls_session *session)
{
    return session->system_error == ECONNRESET ? -EPIPE : -session->system_error;
}

/* Write as many bytes of the vectors as the descriptor takes.  Returns the number of bytes
 * written, which is 0 if the descriptor is full, or -1 with session->system_error set. */
static ssize_t write_some(struct tls_session *session, const struct iovec *iov, int count)
{
    for (;;) {
        ssize_t written = writev(session->out, iov, count);
        if (written >= 0)
            return written;
        if (errno == EAGAIN)
            return 0;
        if (errno != EINTR) {
            session->system_error = errno;
            return -1;
        }
    }
}

/* Append the bytes of the vectors to session->unsent, but skip the first `skip` bytes.  Returns
 * 0, or -1 with session->system_error set. */
static int keep_unsent(struct tls_session *session, const struct iovec *iov, int count,
                       size_t skip)
{
    for (int i = 0; i < count; i++) {
        size_t from = skip < iov[i].iov_len ? skip : iov[i].iov_len;
        size_t size = iov[i].iov_len - from;
        skip -= from;
        if (size == 0)
            continue;
        uint8_t *longer = realloc(session->unsent, session->unsent_size + size);
        if (!longer) {
            session->system_error = ENOMEM;
            return -1;
        }
        memcpy(longer + session->unsent_size, (const uint8_t *)iov[i].iov_base + from, size);
        session->unsent = longer;
        session->unsent_size += size;
    }
    return 0;
}

/* Called by GnuTLS to write encrypted bytes.  Accepts all bytes, unless there is an error.  Bytes
 * that cannot be written at once are kept in session->unsent. */
static ssize_t push_encrypted(gnutls_transport_ptr_t opaque, const giovec_t *iov, int count)
{
    struct tls_session *session = opaque;
    size_t total = 0;
    for (int i = 0; i < count; i++)
        total += iov[i].iov_len;
    ssize_t written = session->unsent ? 0 : write_some(session, iov, count);
    if (written < 0 ||
        ((size_t)written < total && keep_unsent(session, iov, count, (size_t)written) < 0)) {
        errno = EIO; /* EIO, because GnuTLS would repeat the call after EAGAIN or EINTR */
        return -1;
    }
    return (ssize_t)total;
}

/* Called by GnuTLS to read encrypted bytes. */
static ssize_t pull_encrypted(gnutls_transport_ptr_t opaque, void *buf, size_t size)
{
    struct tls_session *session = opaque;
    for (;;) {
        ssize_t got = read(session->in, buf, size);
        if (got >= 0) {
            session->is_at_end = got == 0;
            return got;
        }
        if (errno == EAGAIN) {
            session->is_drained = true;
            return -1;
        }
        if (errno != EINTR) {
            session->system_error = errno;
            return -1;
        }
    }
}

/* Write the bytes that are kept in session->unsent.  Returns 0 if none are left, or -errno. */
static int flush_unsent(struct tls_session *session)
{
    while (session->unsent) {
        struct iovec rest = {.iov_base = session->unsent + session->unsent_at,
                             .iov_len = session->unsent_size - session->unsent_at};
        ssize_t written = write_some(session, &rest, 1);
        if (written < 0)
            return system_failure(session);
        if (written == 0)
            return -EAGAIN;
        session->unsent_at += (size_t)written;
        if (session->unsent_at == session->unsent_size) {
            free(session->unsent);
            session->unsent = NULL;
            session->unsent_at = session->unsent_size = 0;
        }
    }
    return 0;
}

int tls_session_create(struct tls_credentials *credentials, int in, int out,
                       struct tls_session **session)
{
    struct tls_session *made = calloc(1, sizeof *made);
    if (!made)
        return -ENOMEM;
    made->credentials = credentials;
    tls_credentials_hold(credentials);
    made->in = in;
    made->out = out;
    if (gnutls_init(&made->gnutls, GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_TICKETS) < 0) {
        tls_credentials_release(credentials);
        free(made);
        return -ENOMEM;
    }
    gnutls_transport_set_ptr(made->gnutls, made);
    gnutls_transport_set_vec_push_function(made->gnutls, push_encrypted);
    gnutls_transport_set_pull_function(made->gnutls, pull_encrypted);
    if (tls_peer_init(&made->peer, credentials, made->gnutls) < 0) {
        tls_session_free(made);
        return -ENOMEM;
    }
    *session = made;
    return 0;
}

void tls_session_free(struct tls_session *session)
{
    if (!session)
        return;
    gnutls_deinit(session->gnutls);
    tls_credentials_release(session->credentials);
    free(session->unsent);
    free(session);
}

/* End the session because of an error of GnuTLS.  If the client is still connected, it is sent an
 * alert.  Returns the -errno, which is also in session->failed. */
static int end_session(struct tls_session *session, int error)
{
    /* If the stream ends inside a record, GnuTLS may say that this record is forged. */
    if (session->is_at_end && error != GNUTLS_E_MEMORY_ERROR)
        error = GNUTLS_E_PREMATURE_TERMINATION;
    switch (error) {
    case GNUTLS_E_PULL_ERROR:
    case GNUTLS_E_PUSH_ERROR:
        session->failed = system_failure(session);
        break;
    case GNUTLS_E_PREMATURE_TERMINATION: /* GnuTLS also returns this error for ECONNRESET */
        session->failed = -EPIPE;
        break;
    case GNUTLS_E_FATAL_ALERT_RECEIVED:
    case GNUTLS_E_WARNING_ALERT_RECEIVED:
        session->failed = session->is_established ? -EPIPE : -EPROTO;
        break;
    case GNUTLS_E_MEMORY_ERROR:
        session->failed = -ENOMEM;
        break;
    default:
        session->failed = -EPROTO;
        gnutls_alert_send_appropriate(session->gnutls, error);
        break;
    }
    return session->failed;
}

/* End the session during the handshake, and store the reason. */
static int end_handshake(struct tls_session *session, int error, struct reason *reason)
{
    int r = end_session(session, error);
    if (error == GNUTLS_E_PULL_ERROR || error == GNUTLS_E_PUSH_ERROR)
        return reason_set(reason, r, "%s", strerror(session->system_error));
    if (error == GNUTLS_E_FATAL_ALERT_RECEIVED || error == GNUTLS_E_WARNING_ALERT_RECEIVED)
        return reason_set(reason, r, "the client gave up: %s",
                          gnutls_alert_get_name(gnutls_alert_get(session->gnutls)));
    return tls_peer_explain(&session->peer, error, r, reason);
}

/* Continue the handshake until GnuTLS has to wait, but at most for TURNS_MAX calls.  Returns 0 or
 * an error of GnuTLS. */
static int continue_handshake(struct tls_session *session)
{
    int error, turns = TURNS_MAX;
    do {
        session->is_drained = false;
        error = gnutls_handshake(session->gnutls);
    } while (error == GNUTLS_E_AGAIN && !session->is_drained && !session->is_at_end &&
             --turns > 0);
    return error == GNUTLS_E_AGAIN && session->is_at_end ? GNUTLS_E_PREMATURE_TERMINATION : error;
}

int tls_session_handshake(struct tls_session *session, struct reason *reason)
{
    int r = session->failed < 0 ? session->failed : flush_unsent(session);
    if (r < 0 && r != -EAGAIN)
        return reason_set(reason, r, "%s", strerror(-r));
    if (r < 0 || session->is_established)
        return r;
    int error = continue_handshake(session);
    if (error == GNUTLS_E_AGAIN)
        return -EAGAIN;
    if (error < 0)
        return end_handshake(session, error, reason);
    session->is_established = true;
    return session->unsent ? -EAGAIN : 0;
}

bool tls_session_wants_write(const struct tls_session *session)
{
    return session->unsent;
}

/* Called when gnutls_record_recv has returned no bytes.  `result` is the value that it has
 * returned: 0 or an error.  Returns 0 at the end of the stream, or -errno. */
static int stop_receiving(struct tls_session *session, ssize_t result)
{
    if (result == 0) {
        session->has_ended = true;
        return 0;
    }
    if (result == GNUTLS_E_AGAIN && !session->is_at_end) {
        session->is_half_done = !session->is_drained;
        return -EAGAIN;
    }
    return end_session(session, (int)result);
}

ssize_t tls_session_receive(struct tls_session *session, const struct iovec *iov, int count)
{
    if (session->failed < 0 || session->has_ended)
        return session->failed;
    ssize_t total = 0;
    unsigned records = 0;
    session->is_drained = session->is_half_done = false;
    for (int i = 0; i < count; i++) {
        for (size_t filled = 0; filled < iov[i].iov_len;) {
            if (records++ == RECORDS_MAX) {
                session->is_half_done = true;
                return total;
            }
            ssize_t got = gnutls_record_recv(session->gnutls, (uint8_t *)iov[i].iov_base + filled,
                                             iov[i].iov_len - filled);
            if (got <= 0) {
                int r = stop_receiving(session, got);
                return total > 0 ? total : r;
            }
            filled += (size_t)got;
            total += got;
        }
    }
    return total;
}

/* The position of the next byte to send in an array of vectors. */
struct cursor {
    const struct iovec *iov;
    int count;
    size_t done; /* how many bytes of the first vector lie before the position */
};

static void move_cursor(struct cursor *at, size_t size)
{
    while (at->count > 0 && size >= at->iov->iov_len - at->done) {
        size -= at->iov->iov_len - at->done;
        at->done = 0;
        at->iov++;
        at->count--;
    }
    at->done += size;
}

/* Copy the bytes of the next record from the vectors.  Returns the number of bytes. */
static size_t gather_record(struct cursor at, uint8_t *record)
{
    size_t size = 0;
    while (at.count > 0 && size < RECORD_SIZE) {
        size_t left = at.iov->iov_len - at.done, room = RECORD_SIZE - size;
        size_t piece = left < room ? left : room;
        if (piece > 0)
            bytes_load(record + size, (const uint8_t *)at.iov->iov_base + at.done, piece);
        size += piece;
        move_cursor(&at, piece);
    }
    return size;
}

ssize_t tls_session_send(struct tls_session *session, const struct iovec *iov, int count)
{
    if (session->failed == 0) {
        int r = flush_unsent(session);
        if (r == -EAGAIN)
            return r;
        session->failed = r;
    }
    if (session->failed < 0)
        return session->failed;

    uint8_t record[RECORD_SIZE];
    struct cursor at = {.iov = iov, .count = count};
    ssize_t total = 0;
    while (!session->unsent) {
        size_t size = gather_record(at, record);
        if (size == 0)
            break;
        ssize_t sent = gnutls_record_send(session->gnutls, record, size);
        if (sent < 0) {
            int r = end_session(session, (int)sent);
            return total > 0 ? total : r;
        }
        move_cursor(&at, (size_t)sent);
        total += sent;
    }
    return total;
}

bool tls_session_wants_flush(const struct tls_session *session)
{
    return session->unsent;
}

bool tls_session_has_pending(const struct tls_session *session)
{
    return session->is_half_done || gnutls_record_check_pending(session->gnutls) > 0;
}

void tls_session_bye(struct tls_session *session)
{
    if (session->is_established && session->failed == 0)
        gnutls_bye(session->gnutls, GNUTLS_SHUT_WR);
    flush_unsent(session);
}
