/* SPDX-License-Identifier: BSD-3-Clause */

/* The calls of the system and of GnuTLS that a connection uses.  The linker replaces FUNCTION by
 * __wrap_FUNCTION, which calls the system for other descriptors. */

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "demand.h"
#include "disk/disk.h"
#include "peer.h"
#include "server/net/tls.h"
#include "server/net/tls_credentials.h"
#include "server/net/tls_store.h"
#include "text/reason.h"

#define SMALL_TURNS 64u
#define RECORD 1024u /* bytes that TLS pulls at once: few, so that an input has several pulls */

struct tls_session {
    struct peer *peer;
};
static struct tls_session the_session;

ssize_t __real_read(int fd, void *buf, size_t count);
ssize_t __real_readv(int fd, const struct iovec *iov, int count);
ssize_t __real_write(int fd, const void *buf, size_t count);
ssize_t __real_writev(int fd, const struct iovec *iov, int count);
int __real_shutdown(int fd, int how);
int __real_close(int fd);
ssize_t __wrap_read(int fd, void *buf, size_t count);
ssize_t __wrap_readv(int fd, const struct iovec *iov, int count);
ssize_t __wrap_write(int fd, const void *buf, size_t count);
ssize_t __wrap_writev(int fd, const struct iovec *iov, int count);
int __wrap_shutdown(int fd, int how);
int __wrap_close(int fd);

static bool is_ours(int fd)
{
    return peer_current && fd == peer_descriptor();
}

static ssize_t fail(int error)
{
    errno = error;
    return -1;
}

static size_t sum(const struct iovec *iov, int count)
{
    size_t bytes = 0;
    for (int i = 0; i < count; i++)
        bytes += iov[i].iov_len;
    return bytes;
}

/* Turns. */

static size_t size_of_turn(uint8_t turn)
{
    if (turn < 128)
        return turn > 1 ? turn - 1u : 0;
    if (turn < 192)
        return (turn - 127u) * 256;
    return turn < 255 ? (turn - 191u) * 4096 : SIZE_MAX;
}

/* How many bytes a call moves, of `wanted`; or -1 and errno.  After SMALL_TURNS calls it is all
 * of them: a megabyte byte by byte takes a second, and finds nothing more. */
static ssize_t take_turn(struct peer_turns *turns, size_t wanted)
{
    uint8_t turn = turns->sizes[turns->next++ % PEER_TURNS];
    size_t n = turns->next < SMALL_TURNS ? size_of_turn(turn) : SIZE_MAX;
    if (n == 0 && !turns->refused) {
        turns->refused = true;
        return fail(turn ? EINTR : EAGAIN);
    }
    turns->refused = false;
    n = n ? n : 1;
    return (ssize_t)(n < wanted ? n : wanted);
}

/* Moving bytes. */

static void give(struct peer *peer, const struct iovec *iov, int count, size_t n)
{
    for (int i = 0; i < count && n; i++) {
        size_t part = iov[i].iov_len < n ? iov[i].iov_len : n;
        if (part)
            memcpy(iov[i].iov_base, peer->wire + peer->at, part);
        peer->at += part;
        n -= part;
    }
}

static void take(struct peer *peer, const struct iovec *iov, int count, size_t n)
{
    if (peer->out_room - peer->out_size < n) {
        peer->out_room = 2 * peer->out_room + n;
        peer->out = realloc(peer->out, peer->out_room);
        DEMAND(peer->out, "no memory");
    }
    for (int i = 0; i < count && n; i++) {
        size_t part = iov[i].iov_len < n ? iov[i].iov_len : n;
        if (part)
            memcpy(peer->out + peer->out_size, iov[i].iov_base, part);
        peer->out_size += part;
        n -= part;
    }
}

/* There are no bytes left: return the end of the stream, or EAGAIN. */
static ssize_t receive_nothing(const struct peer *peer)
{
    if (peer->at < peer->size)
        return fail(EAGAIN);
    return peer->reset ? fail(ECONNRESET) : 0;
}

static ssize_t receive(struct peer *peer, const struct iovec *iov, int count)
{
    size_t most = peer->open < peer->tls_at ? peer->open : peer->tls_at, wanted = sum(iov, count);
    DEMAND(!peer->secure, "plain bytes after STARTTLS");
    DEMAND(wanted > 0, "an empty receive looks like the end");
    if (peer->at >= most)
        return receive_nothing(peer);
    ssize_t n = take_turn(&peer->receives, most - peer->at < wanted ? most - peer->at : wanted);
    if (n > 0)
        give(peer, iov, count, (size_t)n);
    return n;
}

static bool has_vanished(struct peer *peer)
{
    if (peer->sends_left && --peer->sends_left == 0)
        peer->vanished = true;
    return peer->vanished;
}

static ssize_t send_some(struct peer *peer, const struct iovec *iov, int count)
{
    DEMAND(!peer->secure, "plain bytes after STARTTLS");
    DEMAND(!peer->shut, "sent after the end of the stream");
    DEMAND(count >= 1 && (unsigned)count <= SCRATCH_VECTORS && sum(iov, count), "an empty send");
    if (has_vanished(peer))
        return fail(EPIPE);
    ssize_t n = take_turn(&peer->sends, sum(iov, count));
    if (n > 0)
        take(peer, iov, count, (size_t)n);
    return n;
}

/* The system. */

ssize_t __wrap_read(int fd, void *buf, size_t count)
{
    struct iovec vector = {buf, count};
    return is_ours(fd) ? receive(peer_current, &vector, 1) : __real_read(fd, buf, count);
}

ssize_t __wrap_readv(int fd, const struct iovec *iov, int count)
{
    return is_ours(fd) ? receive(peer_current, iov, count) : __real_readv(fd, iov, count);
}

ssize_t __wrap_write(int fd, const void *buf, size_t count)
{
    struct iovec vector = {(void *)(uintptr_t)buf, count};
    return is_ours(fd) ? send_some(peer_current, &vector, 1) : __real_write(fd, buf, count);
}

ssize_t __wrap_writev(int fd, const struct iovec *iov, int count)
{
    return is_ours(fd) ? send_some(peer_current, iov, count) : __real_writev(fd, iov, count);
}

int __wrap_shutdown(int fd, int how)
{
    if (!is_ours(fd))
        return __real_shutdown(fd, how);
    peer_current->shut = true;
    return 0;
}

int __wrap_close(int fd)
{
    if (!is_ours(fd))
        return __real_close(fd);
    DEMAND(!peer_current->closed, "closed twice");
    peer_current->closed = true;
    return 0;
}

/* TLS (tls.h): encryption is the identity, and there are no credentials. */

struct tls_credentials *tls_store_take(struct tls_store *store)
{
    (void)store;
    return NULL;
}

void tls_credentials_release(struct tls_credentials *credentials)
{
    DEMAND(!credentials, "there are none");
}

int tls_session_create(struct tls_credentials *credentials, int in, int out,
                       struct tls_session **session)
{
    struct peer *peer = peer_current;
    (void)credentials;
    DEMAND(is_ours(in) && is_ours(out), "a stranger's descriptor");
    DEMAND(peer->tls_at != PEER_NEVER && !peer->secure, "nobody asked for TLS now");
    DEMAND(peer->at <= peer->tls_at, "it has received what is encrypted");
    if (peer->at < peer->tls_at)
        peer->handshake = PEER_TLS_FAILS; /* plain bytes are no handshake */
    peer->secure = true;
    peer->pulled = peer->at = peer->tls_at;
    the_session.peer = peer;
    *session = &the_session;
    return 0;
}

void tls_session_free(struct tls_session *session)
{
    DEMAND(!session || session->peer == peer_current, "freed twice");
    the_session.peer = NULL;
}

int tls_session_handshake(struct tls_session *session, struct reason *reason)
{
    struct peer *peer = session->peer;
    if (peer->handshake == PEER_TLS_FAILS) {
        reason_set(reason, -EPROTO, "as the input wants it");
        return -EPROTO;
    }
    if (peer->handshake != PEER_TLS_GOOD && !peer->waited) {
        peer->waited = true;
        return -EAGAIN;
    }
    return 0;
}

bool tls_session_wants_write(const struct tls_session *session)
{
    return session->peer->handshake == PEER_TLS_WRITES;
}

static void pull_record(struct peer *peer)
{
    size_t left = peer->open - peer->pulled;
    peer->pulled += left < RECORD ? left : RECORD;
}

ssize_t tls_session_receive(struct tls_session *session, const struct iovec *iov, int count)
{
    struct peer *peer = session->peer;
    size_t wanted = sum(iov, count);
    DEMAND(wanted > 0, "an empty receive looks like the end");
    if (peer->pulled == peer->at)
        pull_record(peer);
    size_t there = peer->pulled - peer->at;
    if (there == 0) {
        ssize_t n = receive_nothing(peer);
        return n < 0 ? errno == EAGAIN ? -EAGAIN : -EPIPE : n;
    }
    size_t n = there < wanted ? there : wanted;
    give(peer, iov, count, n);
    return (ssize_t)n;
}

ssize_t tls_session_send(struct tls_session *session, const struct iovec *iov, int count)
{
    struct peer *peer = session->peer;
    size_t wanted = sum(iov, count);
    DEMAND(!peer->shut, "sent after the end of the stream");
    if (has_vanished(peer))
        return -EPIPE;
    ssize_t n = take_turn(&peer->sends, wanted ? wanted : 1);
    if (n < 0 && peer->flushing)
        return count ? -EAGAIN : 0;
    peer->flushing = n < 0 && wanted; /* one record is taken, and waits to go out */
    if (n < 0)
        n = (ssize_t)(wanted < 16384 ? wanted : 16384);
    if (wanted == 0)
        return 0;
    take(peer, iov, count, (size_t)n);
    return n;
}

bool tls_session_wants_flush(const struct tls_session *session)
{
    return session->peer->flushing;
}

bool tls_session_has_pending(const struct tls_session *session)
{
    return session->peer->pulled > session->peer->at;
}

void tls_session_bye(struct tls_session *session)
{
    DEMAND(session->peer == peer_current, "freed already");
}

/* The disk.  Here is no park, so a request that has to wait is carried out at once. */

int __wrap_disk_try_write(struct disk *disk, uint64_t offset, size_t count, const void *buf,
                          size_t *done);
int __wrap_disk_try_zero(struct disk *disk, uint64_t offset, uint64_t count, unsigned flags,
                         uint64_t *done);
int __wrap_disk_try_trim(struct disk *disk, uint64_t offset, uint64_t count, uint64_t *done);

int __wrap_disk_try_write(struct disk *disk, uint64_t offset, size_t count, const void *buf,
                          size_t *done)
{
    *done = count;
    return disk_write(disk, offset, count, buf);
}

int __wrap_disk_try_zero(struct disk *disk, uint64_t offset, uint64_t count, unsigned flags,
                         uint64_t *done)
{
    *done = count;
    return disk_zero(disk, offset, count, flags);
}

int __wrap_disk_try_trim(struct disk *disk, uint64_t offset, uint64_t count, uint64_t *done)
{
    *done = count;
    return disk_trim(disk, offset, count);
}
