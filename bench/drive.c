/* SPDX-License-Identifier: BSD-3-Clause */

/* The client shares the processors with the server that it measures, so it has to do little for a
 * request.  For a batch of replies it makes one recv(), one clock_gettime(), one sendmsg() and a
 * share of one epoll_wait(); for a single request it makes no system call, allocates nothing and
 * copies only the head:
 *
 *     epoll -> recv into the driver's one buffer -> heads are parsed in place, data is skipped
 *           -> each slot that became free becomes a request: heads[] and iov[] -> sendmsg
 *
 * A connection's slots are its requests in flight.  A cookie is the number of a slot and a count
 * of how often the slot was used, so that a late reply, or a second one, does not fit.  What
 * sendmsg() does not take at once waits in iov[] for the socket.  No request is added meanwhile:
 * what is still unsent keeps the server busy anyway.
 *
 * A driver with a single connection needs no epoll: it waits in recv(), as the bare client does.
 */

#include <err.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "clock.h"
#include "drive.h"
#include "pattern.h"

enum { BUFFER = 256 << 10, EVENTS = 256, SILENCE_MS_MAX = 10000, SLOT_BITS = 16 };

struct slot {
    uint64_t cookie;
    uint64_t offset;
    uint64_t sent_ns;
    uint32_t left; /* of a read: bytes not received yet */
    bool is_busy, is_write, is_bad;
    bool must_match; /* of a read: the block was written before, so zeroes are wrong */
};

struct conn {
    int fd;
    bool is_waiting_to_send; /* epoll reports when it can send */
    uint64_t cursor, first_block, blocks;
    struct slot *slots;
    unsigned *free, free_count;
    char *heads;    /* of CLIENT_REQUEST_MAX each */
    char *payloads; /* a block for each slot; NULL if content does not matter */
    struct iovec *iov;
    unsigned iov_first, iov_count;
    /* What was received in part: a payload, or a head, whose beginning is in carry[]. */
    struct slot *receiving;
    uint64_t data_offset;
    uint32_t payload_left;
    bool is_data, is_last;
    unsigned carry_count;
    char carry[CLIENT_HEAD_MAX];
};

struct driver {
    const struct drive_job *job;
    struct conn *conns;
    unsigned count;
    int epoll;
    uint64_t random;
    uint64_t now_ns, deadline_ns;
    uint64_t to_send; /* requests */
    uint64_t in_flight;
    char *buffer;
    char *content; /* what is written if content does not matter */
    struct tally tally;
};

static void *allocate(size_t count, size_t size)
{
    void *p = calloc(count, size);

    if (!p)
        errx(EXIT_FAILURE, "out of memory");
    return p;
}

/* xorshift64*, the state never 0. */
static uint64_t next_random(struct driver *d)
{
    d->random ^= d->random >> 12;
    d->random ^= d->random << 25;
    d->random ^= d->random >> 27;
    return d->random * UINT64_C(0x2545f4914f6cdd1d);
}

/* A number below LIMIT, nearly evenly distributed; a division only if LIMIT is very large. */
static uint64_t random_below(struct driver *d, uint64_t limit)
{
    const uint64_t random = next_random(d);

    return limit <= UINT32_MAX ? (random >> 32) * limit >> 32 : random % limit;
}

/* The map of what was written.  The driver that gets the reply to a write sets the block's bit;
 * from then on reads that any driver starts have to find the pattern.  No data goes with the bit,
 * so its order is relaxed. */
static bool is_written(const struct drive_job *job, uint64_t block)
{
    const uint64_t word = atomic_load_explicit(&job->written[block / 64], memory_order_relaxed);

    return word >> block % 64 & 1;
}

static void set_written(const struct drive_job *job, uint64_t block)
{
    atomic_fetch_or_explicit(&job->written[block / 64], UINT64_C(1) << block % 64,
                             memory_order_relaxed);
}

/* Sending. */

static uint64_t choose_block(struct driver *d, struct conn *c)
{
    if (!d->job->is_sequential)
        return random_below(d, d->job->range / d->job->block);
    if (c->cursor == c->blocks)
        c->cursor = 0;
    return c->first_block + c->cursor++;
}

/* Heads of reads lie next to each other, and go out as one piece. */
static void add_iov(struct conn *c, char *base, size_t count)
{
    struct iovec *last = &c->iov[c->iov_count - 1];

    if (c->iov_count > 0 && (char *)last->iov_base + last->iov_len == base)
        last->iov_len += count;
    else
        c->iov[c->iov_count++] = (struct iovec){.iov_base = base, .iov_len = count};
}

/* Put a request into a free slot, and its head to HEAD.  Returns the end of the head. */
static char *add_request(struct driver *d, struct conn *c, char *head)
{
    const struct drive_job *job = d->job;
    const unsigned number = c->free[--c->free_count];
    struct slot *slot = &c->slots[number];
    const uint64_t block = choose_block(d, c);
    const bool is_write = random_below(d, 100) >= job->read_percent;
    struct client_request request = {.offset = job->offset + block * job->block,
                                     .count = job->block,
                                     .command = is_write ? NBD_CMD_WRITE : NBD_CMD_READ};
    size_t head_count;

    request.cookie = (((slot->cookie >> SLOT_BITS) + 1) << SLOT_BITS) | number;
    *slot = (struct slot){.cookie = request.cookie,
                          .offset = request.offset,
                          .sent_ns = d->now_ns,
                          .left = is_write ? 0 : job->block,
                          .is_busy = true,
                          .is_write = is_write,
                          .must_match = job->written && is_written(job, block)};
    head_count = client_put_request(head, job->style, &request);
    add_iov(c, head, head_count);
    if (is_write) {
        char *payload = job->written ? c->payloads + (size_t)number * job->block : d->content;

        if (job->written)
            pattern_fill(payload, request.offset, job->block);
        add_iov(c, payload, job->block);
    }
    d->in_flight++;
    d->to_send--;
    return head + head_count;
}

static void take_sent(struct conn *c, size_t sent)
{
    while (sent > 0 && sent >= c->iov[c->iov_first].iov_len)
        sent -= c->iov[c->iov_first++].iov_len;
    if (sent > 0) {
        struct iovec *iov = &c->iov[c->iov_first];

        iov->iov_base = (char *)iov->iov_base + sent;
        iov->iov_len -= sent;
    }
}

/* Send what waits in iov[].  True: all of it is sent. */
static bool flush(struct conn *c, int flags)
{
    while (c->iov_first < c->iov_count) {
        const unsigned count = c->iov_count - c->iov_first;
        struct msghdr message = {.msg_iov = c->iov + c->iov_first,
                                 .msg_iovlen = count < IOV_MAX ? count : IOV_MAX};
        const ssize_t n = sendmsg(c->fd, &message, flags | MSG_NOSIGNAL);

        if (n < 0 && errno == EAGAIN)
            return false;
        if (n < 0 && errno != EINTR)
            err(EXIT_FAILURE, "send");
        if (n > 0)
            take_sent(c, (size_t)n);
    }
    c->iov_first = c->iov_count = 0;
    return true;
}

/* Send what waits, and a request from each free slot.  True: all of it is sent. */
static bool send_due(struct driver *d, struct conn *c, int flags)
{
    char *head = c->heads;

    if (c->iov_count > 0 && !flush(c, flags))
        return false;
    if (d->now_ns >= d->deadline_ns)
        d->to_send = 0;
    while (c->free_count > 0 && d->to_send > 0) {
        head = add_request(d, c, head);
        if (d->job->is_unbatched && !flush(c, flags))
            return false;
    }
    return flush(c, flags);
}

/* Receiving. */

static void finish(struct driver *d, struct conn *c, struct slot *slot)
{
    if (!slot->is_bad && slot->left > 0)
        errx(EXIT_FAILURE, "a reply ends %u bytes early", slot->left);
    if (slot->is_bad)
        d->tally.errors++;
    else
        tally_add(&d->tally, d->job->block, d->now_ns - slot->sent_ns);
    if (d->job->written && slot->is_write && !slot->is_bad)
        set_written(d->job, (slot->offset - d->job->offset) / d->job->block);
    slot->is_busy = false;
    c->free[c->free_count++] = (unsigned)(slot - c->slots);
    d->in_flight--;
}

static struct slot *slot_of(const struct driver *d, struct conn *c,
                            const struct client_reply *reply)
{
    const uint64_t number = reply->cookie & ((1 << SLOT_BITS) - 1);
    struct slot *slot = &c->slots[number];

    if (number >= d->job->in_flight || !slot->is_busy || slot->cookie != reply->cookie)
        errx(EXIT_FAILURE, "a reply to no request: cookie %#llx",
             (unsigned long long)reply->cookie);
    if (d->job->style == CLIENT_EXTENDED && reply->request_offset != slot->offset)
        errx(EXIT_FAILURE, "a reply with another request's offset");
    return slot;
}

static void take_content(struct driver *d, struct slot *slot, const struct client_reply *reply)
{
    static const char zeroes[16]; /* 15 bytes of the pattern in a row are never all zero */
    const uint64_t from =
        reply->offset - slot->offset; /* wraps below the request: then too large */

    if (slot->is_write || reply->count == 0 || reply->count > slot->left ||
        from > d->job->block || reply->count > d->job->block - from)
        errx(EXIT_FAILURE, "a chunk of content that was not asked for");
    slot->left -= reply->count;
    if (reply->kind == CLIENT_REPLY_HOLE && slot->must_match &&
        !pattern_matches(zeroes, reply->offset, reply->count < 16 ? reply->count : 16, false))
        d->tally.mismatches++;
}

/* Take the head of a reply.  Returns its size, or 0 if there have to be more than COUNT bytes. */
static size_t take_head(struct driver *d, struct conn *c, const char *p, size_t count)
{
    struct client_reply reply;
    const size_t used = client_get_reply(p, count, d->job->style, &reply);
    struct slot *slot;

    if (used == 0)
        return 0;
    slot = slot_of(d, c, &reply);
    if (reply.kind == CLIENT_REPLY_SIMPLE && !slot->is_write && d->job->style != CLIENT_SIMPLE)
        errx(EXIT_FAILURE, "a simple reply to a read");
    if (reply.kind == CLIENT_REPLY_SIMPLE && !reply.error && !slot->is_write) {
        reply.kind = CLIENT_REPLY_DATA;
        reply.offset = slot->offset;
        reply.count = reply.payload = d->job->block;
    }
    if (reply.kind == CLIENT_REPLY_DATA || reply.kind == CLIENT_REPLY_HOLE)
        take_content(d, slot, &reply);
    if (reply.error || reply.kind == CLIENT_REPLY_ERROR)
        slot->is_bad = true;
    c->receiving = slot;
    c->data_offset = reply.offset;
    c->payload_left = reply.payload;
    c->is_data = reply.kind == CLIENT_REPLY_DATA;
    c->is_last = reply.is_done;
    if (c->payload_left == 0 && c->is_last)
        finish(d, c, slot);
    return used;
}

static size_t take_payload(struct driver *d, struct conn *c, const char *p, size_t count)
{
    const uint32_t n = count < c->payload_left ? (uint32_t)count : c->payload_left;

    if (d->job->written && c->is_data &&
        !pattern_matches(p, c->data_offset, n, !c->receiving->must_match))
        d->tally.mismatches++;
    c->data_offset += n;
    c->payload_left -= n;
    if (c->payload_left == 0 && c->is_last)
        finish(d, c, c->receiving);
    return n;
}

/* Receive once, and take what came.  False: nothing came. */
static bool receive(struct driver *d, struct conn *c, int flags)
{
    const char *p = d->buffer;
    size_t count = c->carry_count, used;
    ssize_t n;

    memcpy(d->buffer, c->carry, count);
    n = recv(c->fd, d->buffer + count, BUFFER - count, flags);
    d->now_ns = clock_ns();
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (n < 0)
        err(EXIT_FAILURE, "recv");
    if (n == 0)
        errx(EXIT_FAILURE, "the server closed a connection");
    count += (size_t)n;
    do {
        used = c->payload_left ? take_payload(d, c, p, count) : take_head(d, c, p, count);
        p += used;
        count -= used;
    } while (used > 0 && count > 0);
    memcpy(c->carry, p, count);
    c->carry_count = (unsigned)count;
    return true;
}

/* The two loops. */

static _Noreturn void give_up(const struct driver *d)
{
    errx(EXIT_FAILURE, "%llu requests without an answer for %d seconds",
         (unsigned long long)d->in_flight, SILENCE_MS_MAX / 1000);
}

static void wait_for(int fd, short events, const struct driver *d)
{
    struct pollfd ready = {.fd = fd, .events = events};
    int n;

    do
        n = poll(&ready, 1, SILENCE_MS_MAX);
    while (n < 0 && errno == EINTR);
    if (n == 0)
        give_up(d);
}

/* A single connection.  Waiting in sendmsg() is safe if only one end sends much: if both did,
 * each could wait for the other to receive. */
static void run_one(struct driver *d)
{
    const struct timeval silence_max = {.tv_sec = SILENCE_MS_MAX / 1000};
    const bool is_mixed = d->job->read_percent > 0 && d->job->read_percent < 100;
    const int flags = is_mixed ? MSG_DONTWAIT : 0;
    struct conn *c = &d->conns[0];
    bool is_all_sent = send_due(d, c, flags);

    setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &silence_max, sizeof silence_max);
    while (d->in_flight > 0) {
        if (!is_all_sent)
            wait_for(c->fd, POLLIN | POLLOUT, d);
        if (!receive(d, c, is_all_sent ? 0 : MSG_DONTWAIT) && is_all_sent)
            give_up(d);
        is_all_sent = send_due(d, c, flags);
    }
}

static void watch(struct driver *d, struct conn *c, bool must_wait, int operation)
{
    struct epoll_event event = {.events = EPOLLIN | (must_wait ? EPOLLOUT : 0), .data.ptr = c};

    if (epoll_ctl(d->epoll, operation, c->fd, &event) < 0)
        err(EXIT_FAILURE, "epoll_ctl");
    c->is_waiting_to_send = must_wait;
}

static void attend(struct driver *d, struct conn *c, bool is_readable)
{
    bool must_wait;

    if (is_readable)
        receive(d, c, MSG_DONTWAIT);
    must_wait = !send_due(d, c, MSG_DONTWAIT);
    if (must_wait != c->is_waiting_to_send)
        watch(d, c, must_wait, EPOLL_CTL_MOD);
}

static void run_many(struct driver *d)
{
    struct epoll_event events[EVENTS];

    d->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (d->epoll < 0)
        err(EXIT_FAILURE, "epoll_create1");
    for (unsigned i = 0; i < d->count; i++) {
        d->now_ns = clock_ns();
        watch(d, &d->conns[i], !send_due(d, &d->conns[i], MSG_DONTWAIT), EPOLL_CTL_ADD);
    }
    while (d->in_flight > 0) {
        const int n = epoll_wait(d->epoll, events, EVENTS, SILENCE_MS_MAX);

        if (n == 0)
            give_up(d);
        for (int i = 0; i < n; i++)
            attend(d, events[i].data.ptr, events[i].events & ~(uint32_t)EPOLLOUT);
    }
    close(d->epoll);
}

void drive_run(struct driver *d)
{
    const struct drive_job *job = d->job;

    d->now_ns = clock_ns();
    d->deadline_ns = job->seconds > 0 ? d->now_ns + (uint64_t)(job->seconds * 1e9) : UINT64_MAX;
    if (d->count == 1)
        run_one(d);
    else
        run_many(d);
}

const struct tally *drive_tally(const struct driver *d)
{
    return &d->tally;
}

/* NUMBER: of the connection, among those of the job. */
static void begin_conn(const struct drive_job *job, struct conn *c, int fd, unsigned number)
{
    const uint64_t blocks = job->range / job->block;
    const unsigned depth = job->in_flight;

    *c = (struct conn){.fd = fd,
                       .slots = allocate(depth, sizeof *c->slots),
                       .free = allocate(depth, sizeof *c->free),
                       .free_count = depth,
                       .heads = allocate(depth, CLIENT_REQUEST_MAX),
                       .iov = allocate(2 * (size_t)depth, sizeof *c->iov)};
    for (unsigned i = 0; i < depth; i++)
        c->free[i] = depth - 1 - i;
    if (job->written)
        c->payloads = allocate(depth, job->block);
    c->blocks = blocks / job->connections ? blocks / job->connections : 1;
    c->first_block = number * c->blocks % blocks;
}

struct driver *drive_begin(const struct drive_job *job, const int *fds, unsigned first,
                           unsigned count)
{
    struct driver *d = allocate(1, sizeof *d);

    d->job = job;
    d->count = count;
    d->conns = allocate(count, sizeof *d->conns);
    d->buffer = allocate(1, BUFFER);
    d->content = allocate(1, job->block);
    d->random = (job->seed + 1 + first) * UINT64_C(0x9e3779b97f4a7c15) | 1;
    d->to_send = job->requests ? job->requests * (first + count) / job->connections -
                                     job->requests * first / job->connections
                               : UINT64_MAX;
    for (uint32_t i = 0; i < job->block; i++)
        d->content[i] = (char)next_random(d);
    for (unsigned i = 0; i < count; i++)
        begin_conn(job, &d->conns[i], fds[i], first + i);
    return d;
}

void drive_end(struct driver *d)
{
    for (unsigned i = 0; i < d->count; i++) {
        free(d->conns[i].slots);
        free(d->conns[i].free);
        free(d->conns[i].heads);
        free(d->conns[i].payloads);
        free(d->conns[i].iov);
    }
    free(d->conns);
    free(d->buffer);
    free(d->content);
    free(d);
}
