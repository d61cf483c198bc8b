/* SPDX-License-Identifier: BSD-3-Clause */

/* As linearity.c, over sockets: clients of a server with several requests in flight each.
 * Afterwards their logs are judged.
 *
 * The server is the whole one except for main.c.  It has two loops, and is in this process, so
 * that its disk can be settled all the time.  A client is a connection and two threads:
 *
 *     sender      takes a free slot, plans a request, begins it, and adds it to what is to be
 *                 sent: some requests are sent together, some pieces end in the middle of one
 *     receiver    finds the request of each reply, ends it, and frees the slot
 *
 * So neither thread waits for the other to go on.  A third of the clients each uses simple
 * replies, structured replies and extended headers.  A hang ends the program after HANG_SECONDS.
 *
 * Seen to catch: pages that are there before their bytes are (-DNBDRAM_BREAK_ORDER), each time,
 * in one to four of the shapes with pages; bytes that a request stores twice
 * (tests/unit/stored_once.c), in 8 of 10 runs.
 */

#include "support/linearity.h"
#include "support/often_waiting.h"
#include "support/settling.h"
#include "support/support.h"

#include <err.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "../bench/client.h"
#include "server/host/log.h"
#include "server/session/server.h"

enum { CLIENTS = 6, DEPTH = 6, LOOPS = 2, ROUND_EACH = 2000, HANG_SECONDS = 120 };
enum { BYTES_MAX = RANGE_MAX * SECTOR, OUT_SIZE = DEPTH * (CLIENT_REQUEST_MAX + BYTES_MAX) };

struct shape {
    const char *name;
    const struct allocator *allocator;
    uint32_t pages;
    bool parks; /* the server parks half of the writes, trims and write zeroes */
};

struct run {
    struct server server;
    struct disk *disk;
    uint64_t base; /* offset of the window */
    uint32_t page; /* sectors */
    struct history history;
};

/* A request in flight.  The sender fills the slot and then sets busy; the receiver clears
 * busy. */
struct slot {
    atomic_bool busy;
    size_t event;
    uint8_t bytes[BYTES_MAX]; /* of a read */
};

struct client {
    struct run *run;
    struct log *log;
    int fd;
    enum client_style style;
    pthread_t sender, receiver;
    struct prng prng; /* of the sender */
    sem_t free;       /* the number of free slots */
    struct slot slots[DEPTH];

    uint8_t out[OUT_SIZE]; /* to be sent */
    size_t out_count;
    uint8_t in[BYTES_MAX]; /* received and not parsed: [in_at, in_end) */
    size_t in_at, in_end;
};

/* Sending. */

static void send_bytes(struct client *c, size_t count)
{
    for (size_t done = 0; done < count;) {
        ssize_t n = send(c->fd, c->out + done, count - done, MSG_NOSIGNAL);
        if (n < 0)
            err(EXIT_FAILURE, "send");
        done += (size_t)n;
    }
    c->out_count -= count;
    memmove(c->out, c->out + count, c->out_count);
}

/* Send what there is, sometimes in two pieces, so that the server receives a part of a
 * request. */
static void send_out(struct client *c)
{
    if (c->out_count > 0 && prng_one_in(&c->prng, 4)) {
        send_bytes(c, (size_t)prng_below(&c->prng, c->out_count));
        sched_yield();
    }
    send_bytes(c, c->out_count);
}

static struct slot *take_slot(struct client *c)
{
    if (sem_trywait(&c->free) != 0) {
        send_out(c);
        while (sem_wait(&c->free) != 0)
            ;
    }
    struct slot *slot = c->slots;
    while (atomic_load_explicit(&slot->busy, memory_order_acquire))
        slot++;
    return slot;
}

static enum nbd_command_type some_zeroing(struct prng *prng, unsigned *flags)
{
    uint64_t dice = prng_below(prng, 16);
    if (dice == 0)
        *flags = NBD_CMD_FLAG_NO_HOLE;
    return dice < 7 ? NBD_CMD_WRITE_ZEROES : dice < 14 ? NBD_CMD_TRIM : NBD_CMD_WRITE;
}

static void put_request(struct client *c, const struct slot *slot)
{
    const struct event *event = &c->log->events[slot->event];
    struct client_request request = {
        .cookie = (uint64_t)(slot - c->slots),
        .offset = c->run->base + (uint64_t)event->first * SECTOR,
        .count = event->count * SECTOR,
        .command = event->kind == EVENT_READ ? NBD_CMD_READ : NBD_CMD_WRITE,
    };
    if (event->kind == EVENT_ZERO)
        request.command = some_zeroing(&c->prng, &request.flags);
    c->out_count += client_put_request((char *)c->out + c->out_count, c->style, &request);
    if (request.command != NBD_CMD_WRITE)
        return;
    if (event->kind == EVENT_ZERO)
        memset(c->out + c->out_count, 0, request.count);
    else
        log_fill(c->log, slot->event, c->out + c->out_count);
    c->out_count += request.count;
}

static void *sender(void *opaque)
{
    static const enum event_kind kinds[] = {EVENT_READ, EVENT_READ,  EVENT_READ, EVENT_READ,
                                            EVENT_ZERO, EVENT_WRITE, EVENT_WRITE};
    struct client *c = opaque;
    while (!log_is_full(c->log)) {
        uint32_t first, count;
        struct slot *slot = take_slot(c);
        history_range(c->log->history, &c->prng, c->run->page, &first, &count);
        enum event_kind kind = kinds[prng_below(&c->prng, COUNT_OF(kinds))];
        slot->event = log_plan(c->log, kind, first, count);
        memset(slot->bytes, 0xee, sizeof slot->bytes); /* bytes that are not read show */
        put_request(c, slot);
        log_begin(c->log, slot->event);
        atomic_store_explicit(&slot->busy, true, memory_order_release);
        if (prng_one_in(&c->prng, 3))
            send_out(c);
    }
    send_out(c);
    return NULL;
}

/* Receiving. */

static void receive_more(struct client *c)
{
    memmove(c->in, c->in + c->in_at, c->in_end - c->in_at);
    c->in_end -= c->in_at;
    c->in_at = 0;
    ssize_t n = recv(c->fd, c->in + c->in_end, sizeof c->in - c->in_end, 0);
    if (n < 0)
        err(EXIT_FAILURE, "recv");
    if (n == 0)
        errx(EXIT_FAILURE, "the server closed the connection");
    c->in_end += (size_t)n;
}

static void receive_reply(struct client *c, struct client_reply *reply)
{
    size_t used;
    while ((used = client_get_reply((const char *)c->in + c->in_at, c->in_end - c->in_at,
                                    c->style, reply)) == 0)
        receive_more(c);
    c->in_at += used;
}

static void receive_data(struct client *c, uint8_t *to, size_t count)
{
    while (count > 0) {
        if (c->in_at == c->in_end)
            receive_more(c);
        size_t there = c->in_end - c->in_at, n = there < count ? there : count;
        memcpy(to, c->in + c->in_at, n);
        c->in_at += n;
        to += n;
        count -= n;
    }
}

static void take_content(struct client *c, struct slot *slot, struct client_reply *reply)
{
    const struct event *event = &c->log->events[slot->event];
    uint64_t offset = c->run->base + (uint64_t)event->first * SECTOR;
    if (reply->kind == CLIENT_REPLY_NONE)
        return;
    if (reply->kind == CLIENT_REPLY_SIMPLE) {
        reply->offset = offset;
        reply->count = event->kind == EVENT_READ ? event->count * SECTOR : 0;
    } else if (event->kind != EVENT_READ) {
        errx(EXIT_FAILURE, "content for a request that reads nothing");
    }
    uint64_t at = reply->offset - offset, size = (uint64_t)event->count * SECTOR;
    if (at > size || reply->count > size - at)
        errx(EXIT_FAILURE, "content beyond the request");
    if (reply->kind == CLIENT_REPLY_HOLE)
        memset(slot->bytes + at, 0, reply->count);
    else
        receive_data(c, slot->bytes + at, reply->count);
}

static void *receiver(void *opaque)
{
    struct client *c = opaque;
    for (size_t answered = 0; answered < c->log->event_max;) {
        struct client_reply reply;
        receive_reply(c, &reply);
        struct slot *slot = reply.cookie < DEPTH ? &c->slots[reply.cookie] : NULL;
        if (slot == NULL || !atomic_load_explicit(&slot->busy, memory_order_acquire))
            errx(EXIT_FAILURE, "a reply to no request");
        if (reply.error != 0)
            errx(EXIT_FAILURE, "a request fails: %u", reply.error);
        take_content(c, slot, &reply);
        if (!reply.is_done)
            continue;
        log_end(c->log, slot->event, slot->bytes);
        answered++;
        atomic_store_explicit(&slot->busy, false, memory_order_release);
        sem_post(&c->free);
    }
    return NULL;
}

/* Running. */

static void make_run(struct run *run, const struct shape *shape, uint64_t round_each)
{
    *run = (struct run){.disk = disk_made(shape->allocator, 4 * MiB, 0)};
    uint32_t page = disk_page_size(run->disk);
    run->page = page / SECTOR;
    run->base = (16 - shape->pages / 2) * (uint64_t)page;
    static struct logger log;
    log_init(&log);
    run->server.service = (struct service){
        .log = &log,
        .disk = run->disk,
        .export = {.size = disk_size(run->disk),
                   .preferred = page,
                   .payload_max = 64 << 20,
                   .name = "",
                   .description = ""},
        .policy = {.handshake_flags = NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES,
                   .structured = true},
    };
    assert_int_equal(server_start(&run->server, LOOPS), 0);
    history_make(&run->history, shape->pages * run->page, CLIENTS, (size_t)round_each);
}

static void connect_client(struct client *c, struct run *run, unsigned number)
{
    int fds[2];
    const struct timeval patience = {.tv_sec = HANG_SECONDS};
    c->run = run;
    c->log = &run->history.logs[number];
    c->style = (enum client_style)(number % 3);
    prng_init(&c->prng, test_seed(), number);
    assert_int_equal(sem_init(&c->free, 0, DEPTH), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(server_adopt(&run->server, fds[0], fds[0]), 0);
    c->fd = fds[1];
    setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(c->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    assert_int_equal(client_handshake(c->fd, c->style), disk_size(run->disk));
}

static void run_round(struct run *run, struct client *clients, struct verdict *verdict)
{
    history_clear(&run->history);
    assert_int_equal(disk_trim(run->disk, run->base, (uint64_t)run->history.sectors * SECTOR), 0);
    for (unsigned i = 0; i < CLIENTS; i++) {
        assert_int_equal(pthread_create(&clients[i].receiver, NULL, receiver, &clients[i]), 0);
        assert_int_equal(pthread_create(&clients[i].sender, NULL, sender, &clients[i]), 0);
    }
    for (unsigned i = 0; i < CLIENTS; i++) {
        pthread_join(clients[i].sender, NULL);
        pthread_join(clients[i].receiver, NULL);
    }
    linearity_check(&run->history, verdict);
}

static void run_shape(void **state)
{
    const struct shape *shape = *state;
    static struct client clients[CLIENTS];
    struct run run;
    struct verdict verdict = {.is_legal = true};
    struct settling settling;
    uint64_t ops = test_ops(480000) / 6 / CLIENTS;
    uint64_t each = ops < ROUND_EACH ? ops + 1 : ROUND_EACH;
    memset(clients, 0, sizeof clients);
    signal(SIGPIPE, SIG_IGN);
    often_waiting = shape->parks;
    make_run(&run, shape, each);
    for (unsigned i = 0; i < CLIENTS; i++)
        connect_client(&clients[i], &run, i);
    settling_start_repeated(&settling, run.disk);
    for (uint64_t done = 0; done < ops && verdict.is_legal; done += each)
        run_round(&run, clients, &verdict);
    settling_end(&settling);
    for (unsigned i = 0; i < CLIENTS; i++) {
        close(clients[i].fd);
        sem_destroy(&clients[i].free);
    }
    server_stop(&run.server);
    uint64_t parked = 0;
    for (unsigned i = 0; i < LOOPS; i++)
        parked += run.server.loops[i].worker.counters.parked;
    assert_true(shape->parks ? parked > ops / 10 : parked == 0);
    server_free(&run.server);
    history_free(&run.history);
    disk_end(run.disk);
    verdict_report(&verdict, shape->name);
}

static const struct shape shapes[] = {
    {"sparse, 2 pages", &allocator_sparse, 2, false},
    {"sparse, 8 pages", &allocator_sparse, 8, false},
    {"zstd, 1 page", &allocator_zstd, 1, false},
    {"zstd, 4 pages", &allocator_zstd, 4, false},
    {"malloc, 4 pages", &allocator_malloc, 4, false},
    {"sparse, 8 pages, parking", &allocator_sparse, 8, true},
    {"zstd, 4 pages, parking", &allocator_zstd, 4, true},
    {"malloc, 4 pages, parking", &allocator_malloc, 4, true},
};

int main(void)
{
    return run_for_each(shapes, COUNT_OF(shapes), sizeof *shapes, run_shape);
}
