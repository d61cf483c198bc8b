/* SPDX-License-Identifier: BSD-3-Clause */

/* GnuTLS wants a send that was not finished to be tried again, does not tell how many bytes it is
 * about (a peer may have asked for shorter records), and gets confused if a change of keys comes
 * in between.  So it never hears of it: what the descriptor does not take is kept here,
 * encrypted, and GnuTLS is told that it was sent.  No record is made while some are kept, so
 * there is at most one, and the messages that come with it.
 *
 * Records are made from a copy, not only to put small vectors together: the disk lends its pages
 * to be sent, others may write to them meanwhile, and there are ciphers that read what they
 * encrypt twice (CCM).  The client would find the record forged.
 *
 * The descriptors are read and written here too: GnuTLS's own functions want sockets, and with -s
 * they can be pipes.
 */

#include "server/net/tls.h"

#include <errno.h>
#include <gnutls/gnutls.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/net/tls_credentials.h"
#include "text/reason.h"

#define RECORD_SIZE 16384 /* the most that one may hold: RFC 8446, section 5.1 */

/* GnuTLS may want to be called again although there is more to read.  A peer that can cause that
 * must not keep the thread here. */
#define TURNS_MAX 8

struct tls_session {
    gnutls_session_t gnutls;
    int in, out;
    int system_error; /* errno of the descriptor's last failure */
    int failed;       /* -errno that ended the session, told from then on */
    bool established; /* the handshake is complete */
    bool ended;       /* the peer said goodbye */
    bool drained;     /* the descriptor had nothing more when it was last read */
    bool at_end;      /* the descriptor was: with or without a goodbye, no more can come */
    bool half_done;   /* GnuTLS wanted to be called again, though the descriptor had more */
    struct tls_peer peer;

    uint8_t *kept; /* encrypted bytes that the descriptor did not take, or NULL */
    size_t kept_from, kept_size;
};

/* -errno of the descriptor's last failure; a peer that went away is one error, whatever the
 * system says. */
static int system_failure(const struct tls_session *session)
{
    return session->system_error == ECONNRESET ? -EPIPE : -session->system_error;
}

/* What the descriptor takes of the vectors: fewer bytes than they hold, or 0, if it is full. */
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

/* Keep what is left of the vectors after their first `skip` bytes. */
static int keep(struct tls_session *session, const struct iovec *iov, int count, size_t skip)
{
    for (int i = 0; i < count; i++) {
        size_t from = skip < iov[i].iov_len ? skip : iov[i].iov_len;
        size_t size = iov[i].iov_len - from;
        skip -= from;
        if (size == 0)
            continue;
        uint8_t *kept = realloc(session->kept, session->kept_size + size);
        if (kept == NULL) {
            session->system_error = ENOMEM;
            return -1;
        }
        memcpy(kept + session->kept_size, (const uint8_t *)iov[i].iov_base + from, size);
        session->kept = kept;
        session->kept_size += size;
    }
    return 0;
}

/* Called by GnuTLS with encrypted bytes.  All are taken. */
static ssize_t push(gnutls_transport_ptr_t opaque, const giovec_t *iov, int count)
{
    struct tls_session *session = opaque;
    size_t total = 0;
    for (int i = 0; i < count; i++)
        total += iov[i].iov_len;
    ssize_t written = session->kept == NULL ? write_some(session, iov, count) : 0;
    if (written < 0 ||
        ((size_t)written < total && keep(session, iov, count, (size_t)written) < 0)) {
        errno = EIO; /* of no account, but not EAGAIN or EINTR */
        return -1;
    }
    return (ssize_t)total;
}

static ssize_t pull(gnutls_transport_ptr_t opaque, void *buf, size_t size)
{
    struct tls_session *session = opaque;
    for (;;) {
        ssize_t got = read(session->in, buf, size);
        if (got >= 0) {
            session->at_end = got == 0;
            return got;
        }
        if (errno == EAGAIN) {
            session->drained = true;
            return -1;
        }
        if (errno != EINTR) {
            session->system_error = errno;
            return -1;
        }
    }
}

/* Send what is kept: 0 when nothing is any more. */
static int flush(struct tls_session *session)
{
    while (session->kept != NULL) {
        struct iovec rest = {.iov_base = session->kept + session->kept_from,
                             .iov_len = session->kept_size - session->kept_from};
        ssize_t written = write_some(session, &rest, 1);
        if (written < 0)
            return system_failure(session);
        if (written == 0)
            return -EAGAIN;
        session->kept_from += (size_t)written;
        if (session->kept_from == session->kept_size) {
            free(session->kept);
            session->kept = NULL;
            session->kept_from = session->kept_size = 0;
        }
    }
    return 0;
}

int tls_session_create(const struct tls_credentials *credentials, int in, int out,
                       struct tls_session **session)
{
    struct tls_session *made = calloc(1, sizeof *made);
    if (made == NULL)
        return -ENOMEM;
    made->in = in;
    made->out = out;
    if (gnutls_init(&made->gnutls, GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_TICKETS) < 0) {
        free(made);
        return -ENOMEM;
    }
    gnutls_transport_set_ptr(made->gnutls, made);
    gnutls_transport_set_vec_push_function(made->gnutls, push);
    gnutls_transport_set_pull_function(made->gnutls, pull);
    if (tls_credentials_use(credentials, made->gnutls, &made->peer) != 0) {
        tls_session_free(made);
        return -ENOMEM;
    }
    *session = made;
    return 0;
}

void tls_session_free(struct tls_session *session)
{
    if (session == NULL)
        return;
    gnutls_deinit(session->gnutls);
    free(session->kept);
    free(session);
}

/* End the session because of an error of GnuTLS.  The peer is told why, if there is one.  Part of
 * a record before the end of the stream may look like a forged one. */
static int fail(struct tls_session *session, int error)
{
    if (session->at_end && error != GNUTLS_E_MEMORY_ERROR)
        error = GNUTLS_E_PREMATURE_TERMINATION;
    switch (error) {
    case GNUTLS_E_PULL_ERROR:
    case GNUTLS_E_PUSH_ERROR:
        session->failed = system_failure(session);
        break;
    case GNUTLS_E_PREMATURE_TERMINATION: /* also of ECONNRESET */
        session->failed = -EPIPE;
        break;
    case GNUTLS_E_FATAL_ALERT_RECEIVED:
    case GNUTLS_E_WARNING_ALERT_RECEIVED:
        session->failed = session->established ? -EPIPE : -EPROTO;
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

static void explain(const struct tls_session *session, int error, struct reason *reason)
{
    if (error == GNUTLS_E_PULL_ERROR || error == GNUTLS_E_PUSH_ERROR)
        reason_set(reason, -EINVAL, "%s", strerror(session->system_error));
    else if (error == GNUTLS_E_FATAL_ALERT_RECEIVED || error == GNUTLS_E_WARNING_ALERT_RECEIVED)
        reason_set(reason, -EINVAL, "the client gave up: %s",
                   gnutls_alert_get_name(gnutls_alert_get(session->gnutls)));
    else
        tls_peer_explain(&session->peer, error, reason);
}

static int go_on(struct tls_session *session)
{
    int err, turns = TURNS_MAX;
    do {
        session->drained = false;
        err = gnutls_handshake(session->gnutls);
    } while (err == GNUTLS_E_AGAIN && !session->drained && !session->at_end && --turns > 0);
    return err == GNUTLS_E_AGAIN && session->at_end ? GNUTLS_E_PREMATURE_TERMINATION : err;
}

int tls_session_handshake(struct tls_session *session, struct reason *reason)
{
    int err = session->failed != 0 ? session->failed : flush(session);
    if (err != 0 || session->established) {
        if (err != 0 && err != -EAGAIN)
            reason_set(reason, -EINVAL, "%s", strerror(-err));
        return err;
    }
    err = go_on(session);
    if (err == GNUTLS_E_AGAIN)
        return -EAGAIN;
    if (err < 0) {
        int failed = fail(session, err);
        explain(session, err, reason);
        return failed;
    }
    session->established = true;
    return session->kept != NULL ? -EAGAIN : 0;
}

bool tls_session_wants_write(const struct tls_session *session)
{
    return session->kept != NULL;
}

/* Why a receive got nothing (more). */
static int stopped(struct tls_session *session, ssize_t result)
{
    if (result == 0) {
        session->ended = true;
        return 0;
    }
    if (result == GNUTLS_E_AGAIN && !session->at_end) {
        session->half_done = !session->drained;
        return -EAGAIN;
    }
    return fail(session, (int)result);
}

ssize_t tls_session_receive(struct tls_session *session, const struct iovec *iov, int count)
{
    if (session->failed != 0 || session->ended)
        return session->failed;
    ssize_t total = 0;
    session->drained = session->half_done = false;
    for (int i = 0; i < count; i++) {
        for (size_t filled = 0; filled < iov[i].iov_len;) {
            ssize_t got = gnutls_record_recv(session->gnutls, (uint8_t *)iov[i].iov_base + filled,
                                             iov[i].iov_len - filled);
            if (got <= 0) {
                int why = stopped(session, got);
                return total > 0 ? total : why;
            }
            filled += (size_t)got;
            total += got;
        }
    }
    return total;
}

/* Where a send is in its vectors. */
struct cursor {
    const struct iovec *iov;
    int count;
    size_t done; /* of the first */
};

static void advance(struct cursor *at, size_t size)
{
    while (at->count > 0 && size >= at->iov->iov_len - at->done) {
        size -= at->iov->iov_len - at->done;
        at->done = 0;
        at->iov++;
        at->count--;
    }
    at->done += size;
}

/* Copy the next record's bytes, of one vector or several; how many. */
static size_t gather(struct cursor at, uint8_t *record)
{
    size_t size = 0;
    while (at.count > 0 && size < RECORD_SIZE) {
        size_t left = at.iov->iov_len - at.done, room = RECORD_SIZE - size;
        size_t piece = left < room ? left : room;
        if (piece > 0)
            memcpy(record + size, (const uint8_t *)at.iov->iov_base + at.done, piece);
        size += piece;
        advance(&at, piece);
    }
    return size;
}

ssize_t tls_session_send(struct tls_session *session, const struct iovec *iov, int count)
{
    if (session->failed == 0) {
        int err = flush(session);
        if (err == -EAGAIN)
            return err;
        session->failed = err;
    }
    if (session->failed != 0)
        return session->failed;

    uint8_t record[RECORD_SIZE];
    struct cursor at = {.iov = iov, .count = count};
    ssize_t total = 0;
    while (session->kept == NULL) {
        size_t size = gather(at, record);
        if (size == 0)
            break;
        ssize_t sent = gnutls_record_send(session->gnutls, record, size);
        if (sent < 0) {
            int err = fail(session, (int)sent);
            return total > 0 ? total : err;
        }
        advance(&at, (size_t)sent);
        total += sent;
    }
    return total;
}

bool tls_session_wants_flush(const struct tls_session *session)
{
    return session->kept != NULL;
}

bool tls_session_has_pending(const struct tls_session *session)
{
    return session->half_done || gnutls_record_check_pending(session->gnutls) > 0;
}

void tls_session_bye(struct tls_session *session)
{
    if (session->established && session->failed == 0)
        gnutls_bye(session->gnutls, GNUTLS_SHUT_WR);
    flush(session);
}
