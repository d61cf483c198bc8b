/* SPDX-License-Identifier: BSD-3-Clause */

#include "server/session/loop.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "os/memory.h"
#include "os/thread.h"
#include "server/host/log.h"
#include "server/session/connection.h"
#include "server/session/server.h"

#define EVENTS 256
#define STOP_MILLISECONDS 700

/* Bytes of connections that ended until they are given back.  malloc does so of its own accord
 * only where nothing above them is in use: after 4,000 connections at once some MiB would stay.
 */
#define TIDY_AFTER (512u << 10)

/* Watching. */

static int watch_one(struct loop *loop, struct connection *connection, int fd, uint32_t *watched,
                     uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = connection};
    if (*watched == events)
        return 0;
    int how = *watched == 0 ? EPOLL_CTL_ADD : events == 0 ? EPOLL_CTL_DEL : EPOLL_CTL_MOD;
    if (epoll_ctl(loop->epoll, how, fd, &event) < 0)
        return -errno;
    *watched = events;
    return 0;
}

/* Two descriptors (-s) are watched one by one: a descriptor that is not waited for is taken out,
 * or its end would be told for ever. */
static int watch(struct loop *loop, struct connection *connection)
{
    uint32_t events = connection_events(connection);
    int in = connection->transport.in, out = connection->transport.out;
    if (in == out)
        return watch_one(loop, connection, in, &connection->events_in, events);
    int r = watch_one(loop, connection, in, &connection->events_in, events & EPOLLIN);
    return r < 0 ? r
                 : watch_one(loop, connection, out, &connection->events_out, events & EPOLLOUT);
}

/* Connections. */

/* The connection is freed later: there may be another event for it at hand. */
static void end(struct loop *loop, struct connection *connection)
{
    if (connection->handshake)
        TAILQ_REMOVE(&loop->greeting, connection, greeting);
    TAILQ_REMOVE(&loop->connections, connection, link);
    TAILQ_INSERT_TAIL(&loop->ended, connection, link);
}

static void after_step(struct loop *loop, struct connection *connection)
{
    if (connection->state != CONNECTION_CLOSED) {
        int r = watch(loop, connection);
        if (r < 0) {
            log_error(loop->server->log, "watching a connection: %s", strerror(-r));
            connection->state = CONNECTION_CLOSED;
        }
    }
    if (connection->state == CONNECTION_CLOSED)
        end(loop, connection);
}

static void step(struct loop *loop, struct connection *connection)
{
    if (connection->state == CONNECTION_CLOSED)
        return;
    loop->effort = 0;
    loop->step_began = os_clock_fine();
    if (loop->stopping)
        connection_stop(connection);
    else
        connection_step(connection);
    after_step(loop, connection);
}

static void free_ended(struct loop *loop)
{
    struct connection *connection;
    uint64_t one = 1;
    while ((connection = TAILQ_FIRST(&loop->ended))) {
        TAILQ_REMOVE(&loop->ended, connection, link);
        loop->untidy += connection_memory(connection);
        connection_destroy(connection);
        atomic_fetch_sub_explicit(&loop->server->connections, 1, memory_order_relaxed);
        if (write(loop->server->left, &one, sizeof one) < 0)
            continue; /* cannot happen: it would take 2^64 of them */
    }
    if (loop->untidy >= TIDY_AFTER) {
        loop->untidy = 0;
        os_memory_tidy();
    }
}

static void welcome(struct loop *loop, struct connection *connection)
{
    connection->loop = loop;
    connection->deadline = os_clock() + (int64_t)loop->server->timeout * 1000;
    TAILQ_INSERT_TAIL(&loop->connections, connection, link);
    TAILQ_INSERT_TAIL(&loop->greeting, connection, greeting);
    step(loop, connection);
}

static void stop_all(struct loop *loop)
{
    struct connection *connection, *next;
    loop->stopping = true;
    loop->deadline = os_clock() + STOP_MILLISECONDS;
    for (connection = TAILQ_FIRST(&loop->connections); connection; connection = next) {
        next = TAILQ_NEXT(connection, link);
        step(loop, connection);
    }
}

/* Told by the main thread. */
static void hear(struct loop *loop)
{
    struct connection_list arrived = TAILQ_HEAD_INITIALIZER(arrived);
    struct connection *connection;
    uint64_t told;
    if (read(loop->wake, &told, sizeof told) < 0)
        return;
    pthread_mutex_lock(&loop->lock);
    bool stop = loop->stop;
    TAILQ_CONCAT(&arrived, &loop->arrived, link);
    pthread_mutex_unlock(&loop->lock);
    while ((connection = TAILQ_FIRST(&arrived))) {
        TAILQ_REMOVE(&arrived, connection, link);
        welcome(loop, connection);
    }
    if (stop && !loop->stopping)
        stop_all(loop);
}

/* Time. */

static void close_late(struct loop *loop)
{
    struct connection *connection;
    while (loop->server->timeout && (connection = TAILQ_FIRST(&loop->greeting)) &&
           connection->deadline <= os_clock()) {
        char peer[64];
        transport_peer(&connection->transport, peer, sizeof peer);
        log_error(loop->server->log, "%s: no handshake within %u seconds", peer,
                  loop->server->timeout);
        connection->state = CONNECTION_CLOSED;
        end(loop, connection);
    }
}

static int until(int64_t deadline)
{
    int64_t left = deadline - os_clock();
    return left < 0 ? 0 : left > 1000000 ? 1000000 : (int)left + 1;
}

static int milliseconds_to_wait(const struct loop *loop)
{
    const struct connection *oldest = TAILQ_FIRST(&loop->greeting);
    if (loop->stopping)
        return until(loop->deadline);
    return oldest && loop->server->timeout ? until(oldest->deadline) : -1;
}

/* A client with one small request in flight sends the next within microseconds; to fall asleep
 * and be woken meanwhile costs as much as the request, and more in a virtual machine.  So as long
 * as there is a single client, of that kind, the loop looks for a moment before it sleeps.  When
 * that was in vain it is left for the next 1, 2, 4, ... 1024 times. */
#define LOOK_NANOSECONDS 25000
#define LOOK_PENALTY_MOST 1024

static bool is_worth_looking(struct loop *loop)
{
    if (!loop->may_look || loop->taken != 1 ||
        atomic_load_explicit(&loop->server->connections, memory_order_relaxed) != 1)
        return false;
    if (loop->skip_looks == 0)
        return true;
    loop->skip_looks--;
    return false;
}

static int look(struct loop *loop, struct epoll_event *events)
{
    int64_t until = os_clock_fine() + LOOK_NANOSECONDS;
    int n = epoll_wait(loop->epoll, events, EVENTS, 0);
    while (n == 0 && os_clock_fine() < until) {
        sched_yield(); /* the client may be on this very processor */
        n = epoll_wait(loop->epoll, events, EVENTS, 0);
    }
    if (n > 0) {
        loop->look_penalty = 1;
    } else {
        loop->skip_looks = loop->look_penalty;
        if (loop->look_penalty < LOOK_PENALTY_MOST)
            loop->look_penalty *= 2;
    }
    return n;
}

static int wait_for_events(struct loop *loop, struct epoll_event *events)
{
    int n = is_worth_looking(loop) ? look(loop, events) : 0;
    loop->taken = 0;
    return n ? n : epoll_wait(loop->epoll, events, EVENTS, milliseconds_to_wait(loop));
}

static bool is_over(const struct loop *loop)
{
    return loop->stopping && (TAILQ_EMPTY(&loop->connections) || os_clock() >= loop->deadline);
}

static void *thread_main(void *arg)
{
    struct loop *loop = arg;
    struct epoll_event events[EVENTS];
    while (!is_over(loop)) {
        int n = wait_for_events(loop, events);
        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr == loop)
                hear(loop);
            else
                step(loop, events[i].data.ptr);
        }
        close_late(loop);
        free_ended(loop);
    }
    struct connection *connection;
    while ((connection = TAILQ_FIRST(&loop->connections)))
        end(loop, connection);
    free_ended(loop);
    return NULL;
}

/* Callers. */

static void clean_up(struct loop *loop)
{
    if (loop->epoll >= 0)
        close(loop->epoll);
    if (loop->wake >= 0)
        close(loop->wake);
    free(loop->scratch);
    pthread_mutex_destroy(&loop->lock);
}

int loop_start(struct loop *loop, struct server *server)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = loop};
    *loop = (struct loop){.server = server, .may_look = os_cpu_count() > 1, .look_penalty = 1};
    pthread_mutex_init(&loop->lock, NULL);
    TAILQ_INIT(&loop->arrived);
    TAILQ_INIT(&loop->connections);
    TAILQ_INIT(&loop->greeting);
    TAILQ_INIT(&loop->ended);
    loop->epoll = epoll_create1(EPOLL_CLOEXEC);
    loop->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    loop->scratch = calloc(1, sizeof *loop->scratch);
    int r = 0;
    if (loop->epoll < 0 || loop->wake < 0 ||
        epoll_ctl(loop->epoll, EPOLL_CTL_ADD, loop->wake, &event) < 0)
        r = -errno;
    else if (!loop->scratch)
        r = -ENOMEM;
    else
        r = os_thread_start(&loop->thread, thread_main, loop);
    if (r < 0)
        clean_up(loop);
    return r;
}

static void wake(struct loop *loop)
{
    uint64_t one = 1;
    if (write(loop->wake, &one, sizeof one) < 0)
        return; /* it is awake: the counter is full */
}

void loop_hand_over(struct loop *loop, struct connection *connection)
{
    pthread_mutex_lock(&loop->lock);
    TAILQ_INSERT_TAIL(&loop->arrived, connection, link);
    pthread_mutex_unlock(&loop->lock);
    wake(loop);
}

void loop_ask_to_stop(struct loop *loop)
{
    pthread_mutex_lock(&loop->lock);
    loop->stop = true;
    pthread_mutex_unlock(&loop->lock);
    wake(loop);
}

void loop_join(struct loop *loop)
{
    pthread_join(loop->thread, NULL);
    clean_up(loop);
}
