/* SPDX-License-Identifier: BSD-3-Clause */

#include "server/session/loop.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "disk/disk.h"
#include "os/thread.h"
#include "server/host/log.h"
#include "server/session/connection.h"

#define EVENTS_MAX 256
#define STOP_MILLISECONDS 700

/* Watching descriptors. */

static int watch_descriptor(struct loop *loop, struct connection *connection, int fd,
                            uint32_t *watched, uint32_t events)
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

/* A connection with two descriptors (-s) receives from one and sends to the other, so each is
 * watched for one kind of event.  A descriptor that has no events to watch for is removed from
 * epoll.  Otherwise epoll would report the end of the stream again and again. */
static int watch_connection(struct loop *loop, struct connection *connection)
{
    uint32_t events = connection_events(connection);
    int in = connection->transport.in, out = connection->transport.out;
    if (in == out)
        return watch_descriptor(loop, connection, in, &connection->watched_in, events);
    int r = watch_descriptor(loop, connection, in, &connection->watched_in, events & EPOLLIN);
    if (r < 0)
        return r;
    return watch_descriptor(loop, connection, out, &connection->watched_out, events & EPOLLOUT);
}

/* Serving connections. */

static void clear_deadline(struct connection *connection)
{
    if (connection->deadlines)
        TAILQ_REMOVE(connection->deadlines, connection, by_deadline);
    connection->deadlines = NULL;
}

/* Give a connection a deadline, and append the connection to the list `deadlines`.  If seconds is
 * 0, the connection gets no deadline.  All connections in a list get the same number of seconds,
 * so the list is always in the order of the deadlines. */
static void set_deadline(struct connection *connection, struct connection_list *deadlines,
                         unsigned seconds)
{
    clear_deadline(connection);
    if (seconds == 0)
        return;
    connection->deadline = os_clock_ms() + (int64_t)seconds * 1000;
    connection->deadlines = deadlines;
    TAILQ_INSERT_TAIL(deadlines, connection, by_deadline);
}

static void join_line(struct loop *loop, struct connection *connection)
{
    connection->line = connection_is_handshaking(connection) ? &loop->newcomers : &loop->line;
    TAILQ_INSERT_TAIL(connection->line, connection, in_line);
}

static void leave_line(struct connection *connection)
{
    TAILQ_REMOVE(connection->line, connection, in_line);
    connection->line = NULL;
}

/* Take a connection that has ended out of all lists.  The connection is destroyed later, because
 * this round of events may hold another event of the connection. */
static void retire_connection(struct loop *loop, struct connection *connection)
{
    clear_deadline(connection);
    if (connection->line)
        leave_line(connection);
    TAILQ_REMOVE(&loop->connections, connection, link);
    TAILQ_INSERT_TAIL(&loop->ended, connection, link);
}

static void after_step(struct loop *loop, struct connection *connection)
{
    if (!connection_is_handshaking(connection) &&
        (connection->deadlines || loop->service->idle_seconds))
        set_deadline(connection, &loop->idling, loop->service->idle_seconds);
    if (connection_wants_turn(connection)) {
        join_line(loop, connection);
    } else if (!connection_is_closed(connection)) {
        int r = watch_connection(loop, connection);
        if (r < 0) {
            log_error(loop->service->log, "watching a connection: %s", strerror(-r));
            connection_close(connection);
        }
    }
    if (connection_is_closed(connection))
        retire_connection(loop, connection);
}

static void give_turn(struct loop *loop, struct connection *connection, int64_t nanoseconds)
{
    struct turn *turn = &loop->worker.turn;
    turn_begin(turn, nanoseconds);
    if (loop->worker.stopping)
        connection_stop(connection);
    else
        connection_step(connection);
    bool is_cheap = os_clock_ns() - turn->began <= TURN_CHEAP_NS;
    connection->costly_turns = is_cheap ? 0 : connection->costly_turns + 1;
    after_step(loop, connection);
}

/* Called when a descriptor of the connection is ready. */
static void handle_event(struct loop *loop, struct connection *connection)
{
    if (connection_is_closed(connection) || connection->line)
        return;
    if (connection->costly_turns < TURN_COSTLY_MAX && !connection_is_securing(connection))
        give_turn(loop, connection, TURN_SHORT_NS);
    else
        join_line(loop, connection);
}

/* Serve the connections in a line for the time of one long turn, but at least one of them. */
static void serve_line(struct loop *loop, struct connection_list *line)
{
    struct connection *connection;
    int64_t end = os_clock_ns() + TURN_LONG_NS;
    while ((connection = TAILQ_FIRST(line))) {
        leave_line(connection);
        give_turn(loop, connection, TURN_LONG_NS);
        if (os_clock_ns() >= end)
            return;
    }
}

/* Destroy connections that have ended, for the time of one long turn, but at least one of them.
 * epoll may still report an event of a connection that waits to be destroyed; handle_event
 * ignores it. */
static void destroy_ended(struct loop *loop)
{
    struct connection *connection;
    int64_t end = os_clock_ns() + TURN_LONG_NS;
    uint64_t destroyed = 0;
    size_t freed = 0;
    while ((connection = TAILQ_FIRST(&loop->ended))) {
        TAILQ_REMOVE(&loop->ended, connection, link);
        freed += connection_memory(connection);
        if (connection->peer)
            peers_leave(&loop->open->peers, connection->peer);
        connection_destroy(connection);
        destroyed++;
        if (os_clock_ns() >= end)
            break;
    }
    atomic_fetch_sub_explicit(&loop->open->count, (unsigned)destroyed, memory_order_relaxed);
    atomic_fetch_add_explicit(&loop->open->freed, freed, memory_order_relaxed);
    if (write(loop->open->ended_event, &destroyed, sizeof destroyed) < 0)
        return; /* cannot happen: the counter has 64 bits */
}

/* Receiving the posts of other threads. */

static void add_connection(struct loop *loop, struct connection *connection)
{
    connection_attach(connection, &loop->worker);
    set_deadline(connection, &loop->handshaking, loop->service->timeout_seconds);
    TAILQ_INSERT_TAIL(&loop->connections, connection, link);
    join_line(loop, connection);
}

/* Connections whose parked requests have returned wait in the line, to answer them. */
static void collect_parked(struct loop *loop)
{
    struct park_owner *owner;
    while ((owner = park_collect(loop->worker.park, &loop->worker.returns))) {
        connection_hold(owner->connection);
        if (!connection_is_closed(owner->connection) && !owner->connection->line)
            join_line(loop, owner->connection);
    }
}

static void stop_connections(struct loop *loop)
{
    struct connection *connection;
    loop->worker.stopping = true;
    loop->deadline = os_clock_ms() + STOP_MILLISECONDS;
    TAILQ_FOREACH(connection, &loop->connections, link)
    if (!connection->line)
        join_line(loop, connection);
}

static void handle_wakeup(struct loop *loop)
{
    struct connection_list arrived = TAILQ_HEAD_INITIALIZER(arrived);
    struct connection *connection;
    uint64_t posts;
    if (read(loop->wake_event, &posts, sizeof posts) < 0)
        return;
    pthread_mutex_lock(&loop->lock);
    bool stop = loop->stop;
    TAILQ_CONCAT(&arrived, &loop->arrived, link);
    pthread_mutex_unlock(&loop->lock);
    while ((connection = TAILQ_FIRST(&arrived))) {
        TAILQ_REMOVE(&arrived, connection, link);
        add_connection(loop, connection);
    }
    collect_parked(loop);
    if (stop && !loop->worker.stopping)
        stop_connections(loop);
}

/* Deadlines and waiting. */

static void expire(struct loop *loop, struct connection *connection)
{
    connection_expire(connection);
    retire_connection(loop, connection);
}

static void expire_handshakes(struct loop *loop)
{
    struct connection *connection;
    while ((connection = TAILQ_FIRST(&loop->handshaking)) &&
           connection->deadline <= os_clock_ms())
        expire(loop, connection);
}

/* Close the connections that are idle.  Called after each round of events.
 *
 * A connection is idle if its deadline had passed when the loop asked epoll for events, and epoll
 * reported no event of the connection.  The present time does not count.  The process may have
 * been delayed or stopped after the loop asked epoll, and meanwhile events may have come. */
static void expire_idle(struct loop *loop, int events)
{
    struct connection *connection;
    if (events < 0 || events == EVENTS_MAX)
        return;
    while ((connection = TAILQ_FIRST(&loop->idling)) && connection->deadline <= loop->asked) {
        if (connection->line || connection_is_parked(connection))
            set_deadline(connection, &loop->idling, loop->service->idle_seconds);
        else
            expire(loop, connection);
    }
}

static int milliseconds_until(int64_t deadline)
{
    int64_t left = deadline - os_clock_ms();
    return left < 0 ? 0 : left > 1000000 ? 1000000 : (int)left + 1;
}

static int milliseconds_to_wait(const struct loop *loop)
{
    const struct connection *handshaking = TAILQ_FIRST(&loop->handshaking);
    const struct connection *idling = TAILQ_FIRST(&loop->idling);
    int64_t deadline = INT64_MAX;
    if (!TAILQ_EMPTY(&loop->line) || !TAILQ_EMPTY(&loop->newcomers) || !TAILQ_EMPTY(&loop->ended))
        return 0;
    if (loop->worker.stopping)
        return milliseconds_until(loop->deadline);
    if (handshaking)
        deadline = handshaking->deadline;
    if (idling && idling->deadline < deadline)
        deadline = idling->deadline;
    return deadline < INT64_MAX ? milliseconds_until(deadline) : -1;
}

/* A client that has one small request in flight sends its next request within microseconds.  To
 * sleep and be woken in between costs the loop as much time as the request, and more in a virtual
 * machine.  So if there is one such client and no other, the loop spins for a moment before it
 * sleeps.
 *
 * A spin without an event is wasted.  After the first wasted spin the loop skips 1 spin, after
 * the second 2 spins, then 4, ... SPIN_PENALTY_MAX.  After a spin with an event, the next wasted
 * spin is counted as the first. */
#define SPIN_NANOSECONDS 25000
#define SPIN_PENALTY_MAX 1024

static bool should_spin(struct loop *loop)
{
    if (!loop->may_spin || loop->worker.requests_taken != 1 || !TAILQ_EMPTY(&loop->line) ||
        atomic_load_explicit(&loop->open->count, memory_order_relaxed) != 1)
        return false;
    if (loop->spins_to_skip == 0)
        return true;
    loop->spins_to_skip--;
    return false;
}

static int spin_for_events(struct loop *loop, struct epoll_event *events)
{
    int64_t end = os_clock_ns() + SPIN_NANOSECONDS;
    int n = epoll_wait(loop->epoll, events, EVENTS_MAX, 0);
    while (n == 0 && os_clock_ns() < end) {
        sched_yield(); /* the client may need this processor to send its request */
        n = epoll_wait(loop->epoll, events, EVENTS_MAX, 0);
    }
    if (n > 0) {
        loop->spin_penalty = 1;
    } else {
        loop->spins_to_skip = loop->spin_penalty;
        if (loop->spin_penalty < SPIN_PENALTY_MAX)
            loop->spin_penalty *= 2;
    }
    return n;
}

static int wait_for_events(struct loop *loop, struct epoll_event *events)
{
    if (loop->service->idle_seconds)
        loop->asked = os_clock_ms();
    int n = should_spin(loop) ? spin_for_events(loop, events) : 0;
    loop->worker.requests_taken = 0;
    return n ? n : epoll_wait(loop->epoll, events, EVENTS_MAX, milliseconds_to_wait(loop));
}

static bool has_stopped(const struct loop *loop)
{
    return loop->worker.stopping &&
           (TAILQ_EMPTY(&loop->connections) || os_clock_ms() >= loop->deadline);
}

static void *loop_main(void *arg)
{
    struct loop *loop = arg;
    struct epoll_event events[EVENTS_MAX];
    while (!has_stopped(loop)) {
        int n = wait_for_events(loop, events);
        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr == loop)
                handle_wakeup(loop);
            else
                handle_event(loop, events[i].data.ptr);
        }
        if (!TAILQ_EMPTY(&loop->line))
            serve_line(loop, &loop->line);
        if (!TAILQ_EMPTY(&loop->newcomers))
            serve_line(loop, &loop->newcomers);
        expire_handshakes(loop);
        expire_idle(loop, n);
        if (!TAILQ_EMPTY(&loop->ended))
            destroy_ended(loop);
    }
    struct connection *connection;
    while ((connection = TAILQ_FIRST(&loop->connections)))
        retire_connection(loop, connection);
    while (!TAILQ_EMPTY(&loop->ended))
        destroy_ended(loop);
    return NULL;
}

/* Functions that the main thread calls. */

static void free_loop(struct loop *loop)
{
    if (loop->epoll >= 0)
        close(loop->epoll);
    if (loop->wake_event >= 0)
        close(loop->wake_event);
    free(loop->worker.scratch);
    disk_cache_destroy(loop->service->disk, loop->worker.cache);
    pthread_mutex_destroy(&loop->lock);
}

int loop_start(struct loop *loop, const struct service *service, struct open_connections *open,
               struct park *park)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = loop};
    *loop = (struct loop){
        .service = service, .open = open, .may_spin = os_cpu_count() > 1, .spin_penalty = 1};
    pthread_mutex_init(&loop->lock, NULL);
    TAILQ_INIT(&loop->arrived);
    TAILQ_INIT(&loop->connections);
    TAILQ_INIT(&loop->line);
    TAILQ_INIT(&loop->newcomers);
    TAILQ_INIT(&loop->handshaking);
    TAILQ_INIT(&loop->idling);
    TAILQ_INIT(&loop->ended);
    loop->epoll = epoll_create1(EPOLL_CLOEXEC);
    loop->wake_event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    loop->worker.park = park;
    park_returns_init(&loop->worker.returns, loop->wake_event);
    loop->worker.scratch = calloc(1, sizeof *loop->worker.scratch);
    int r;
    if (loop->epoll < 0 || loop->wake_event < 0 ||
        epoll_ctl(loop->epoll, EPOLL_CTL_ADD, loop->wake_event, &event) < 0) {
        r = -errno;
    } else if (!loop->worker.scratch) {
        r = -ENOMEM;
    } else {
        scratch_clear_out(loop->worker.scratch);
        r = disk_cache_create(service->disk, &loop->worker.cache);
        if (r == 0)
            r = os_thread_start(&loop->thread, loop_main, loop);
    }
    if (r < 0)
        free_loop(loop);
    return r;
}

static void wake_loop(struct loop *loop)
{
    uint64_t one = 1;
    if (write(loop->wake_event, &one, sizeof one) < 0)
        return; /* the loop is awake already: the counter of its eventfd is full */
}

void loop_hand_over(struct loop *loop, struct connection *connection)
{
    pthread_mutex_lock(&loop->lock);
    TAILQ_INSERT_TAIL(&loop->arrived, connection, link);
    pthread_mutex_unlock(&loop->lock);
    wake_loop(loop);
}

void loop_ask_to_stop(struct loop *loop)
{
    pthread_mutex_lock(&loop->lock);
    loop->stop = true;
    pthread_mutex_unlock(&loop->lock);
    wake_loop(loop);
}

void loop_join(struct loop *loop)
{
    pthread_join(loop->thread, NULL);
    free_loop(loop);
}
