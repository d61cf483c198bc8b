/* SPDX-License-Identifier: BSD-3-Clause */

/* A server with one loop, in this process, and clients whose requests have to wait.
 *
 * The disk is real, except that a request waits as long as the test wants if it begins in the
 * second half of the disk.  Its -EAGAIN comes after the first page of its range.  The first half
 * of the disk is for everybody else. */

#include "support/support.h"

#include <err.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "../bench/client.h"
#include "os/thread.h"
#include "server/host/log.h"
#include "server/session/server.h"

enum { HANG_SECONDS = 60, PAGE = 4096, SIZE = 64 << 20, SLOW = SIZE / 2 };

/* The gate. */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static unsigned waiting;     /* requests at the gate */
static unsigned may_pass;    /* how many more pass; UINT_MAX: all */
static int result_of_passed; /* 0: they are carried out */
static bool given_up;

int __real_disk_write(struct disk *disk, uint64_t offset, size_t count, const void *data);
int __real_disk_zero(struct disk *disk, uint64_t offset, uint64_t count, unsigned flags);
int __real_disk_trim(struct disk *disk, uint64_t offset, uint64_t count);
void __real_disk_give_up_waiting(struct disk *disk);
int __real_disk_try_write(struct disk *disk, uint64_t offset, size_t count, const void *data,
                          size_t *done);
int __real_disk_try_zero(struct disk *disk, uint64_t offset, uint64_t count, unsigned flags,
                         uint64_t *done);
int __real_disk_try_trim(struct disk *disk, uint64_t offset, uint64_t count, uint64_t *done);
ssize_t __real_disk_fill(struct disk *disk, uint64_t offset, size_t count, size_t *lent,
                         disk_fill_fn *fn, void *opaque);

int __wrap_disk_write(struct disk *disk, uint64_t offset, size_t count, const void *data);
int __wrap_disk_zero(struct disk *disk, uint64_t offset, uint64_t count, unsigned flags);
int __wrap_disk_trim(struct disk *disk, uint64_t offset, uint64_t count);
void __wrap_disk_give_up_waiting(struct disk *disk);
int __wrap_disk_try_write(struct disk *disk, uint64_t offset, size_t count, const void *data,
                          size_t *done);
int __wrap_disk_try_zero(struct disk *disk, uint64_t offset, uint64_t count, unsigned flags,
                         uint64_t *done);
int __wrap_disk_try_trim(struct disk *disk, uint64_t offset, uint64_t count, uint64_t *done);
ssize_t __wrap_disk_fill(struct disk *disk, uint64_t offset, size_t count, size_t *lent,
                         disk_fill_fn *fn, void *opaque);

/* Wait at the gate.  Returns 0 if the request is to be carried out. */
static int pass(uint64_t offset)
{
    int r = 0;
    if (offset < SLOW)
        return 0;
    pthread_mutex_lock(&lock);
    waiting++;
    pthread_cond_broadcast(&changed);
    while (may_pass == 0 && !given_up)
        pthread_cond_wait(&changed, &lock);
    waiting--;
    if (may_pass == 0)
        r = -ENOSPC;
    else
        r = result_of_passed;
    if (may_pass > 0 && may_pass < UINT_MAX)
        may_pass--;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    return r;
}

static void let_pass(unsigned count, int result)
{
    pthread_mutex_lock(&lock);
    may_pass = count;
    result_of_passed = result;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static void await_waiting(unsigned count)
{
    pthread_mutex_lock(&lock);
    while (waiting != count)
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
}

int __wrap_disk_write(struct disk *disk, uint64_t offset, size_t count, const void *data)
{
    int r = pass(offset);
    return r < 0 ? r : __real_disk_write(disk, offset, count, data);
}

int __wrap_disk_zero(struct disk *disk, uint64_t offset, uint64_t count, unsigned flags)
{
    int r = pass(offset);
    return r < 0 ? r : __real_disk_zero(disk, offset, count, flags);
}

int __wrap_disk_trim(struct disk *disk, uint64_t offset, uint64_t count)
{
    int r = pass(offset);
    return r < 0 ? r : __real_disk_trim(disk, offset, count);
}

void __wrap_disk_give_up_waiting(struct disk *disk)
{
    pthread_mutex_lock(&lock);
    given_up = true;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    __real_disk_give_up_waiting(disk);
}

static uint64_t done_at_once(uint64_t offset, uint64_t count)
{
    return offset < SLOW ? count : count > PAGE ? PAGE : 0;
}

int __wrap_disk_try_write(struct disk *disk, uint64_t offset, size_t count, const void *data,
                          size_t *done)
{
    size_t n = (size_t)done_at_once(offset, count);
    int r = __real_disk_try_write(disk, offset, n, data, done);
    *done = n;
    return r == 0 && n < count ? -EAGAIN : r;
}

int __wrap_disk_try_zero(struct disk *disk, uint64_t offset, uint64_t count, unsigned flags,
                         uint64_t *done)
{
    uint64_t n = done_at_once(offset, count);
    int r = __real_disk_try_zero(disk, offset, n, flags, done);
    *done = n;
    return r == 0 && n < count ? -EAGAIN : r;
}

int __wrap_disk_try_trim(struct disk *disk, uint64_t offset, uint64_t count, uint64_t *done)
{
    uint64_t n = done_at_once(offset, count);
    int r = __real_disk_try_trim(disk, offset, n, done);
    *done = n;
    return r == 0 && n < count ? -EAGAIN : r;
}

ssize_t __wrap_disk_fill(struct disk *disk, uint64_t offset, size_t count, size_t *lent,
                         disk_fill_fn *fn, void *opaque)
{
    if (offset >= SLOW)
        return -ENOBUFS;
    return __real_disk_fill(disk, offset, count, lent, fn, opaque);
}

/* The stage: a server and its clients. */

struct client {
    int fd;
    enum client_style style;
    bool is_sending;
    pthread_t sender;
};

static struct server server;
static struct disk *disk;
static struct logger logger;
static struct client clients[8];
static unsigned client_count;
static char data[8 << 20]; /* what writes send */
static unsigned idle_seconds;

static int set_up(void **state)
{
    (void)state;
    alarm(HANG_SECONDS);
    waiting = may_pass = client_count = 0;
    given_up = false;
    disk = disk_made(&allocator_sparse, SIZE, 0);
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (char)(i % 251 + 1);
    log_init(&logger);
    server = (struct server){
        .service = {.log = &logger,
                    .disk = disk,
                    .idle_seconds = idle_seconds,
                    .export = {.size = SIZE,
                               .preferred = PAGE,
                               .payload_max = 64 << 20,
                               .name = "",
                               .description = ""},
                    .policy = {.handshake_flags = NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES,
                               .structured = true}},
    };
    assert_int_equal(server_start(&server, 1), 0);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    for (unsigned i = 0; i < client_count; i++)
        if (clients[i].fd >= 0)
            close(clients[i].fd);
    if (server.loops) {
        server_stop(&server);
        server_free(&server);
    }
    disk_end(disk);
    idle_seconds = 0;
    return 0;
}

static struct client *connected(enum client_style style)
{
    struct client *client = &clients[client_count++];
    const struct timeval patience = {.tv_sec = HANG_SECONDS};
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(server_adopt(&server, fds[0], fds[0]), 0);
    setsockopt(fds[1], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    *client = (struct client){.fd = fds[1], .style = style};
    assert_int_equal(client_handshake(client->fd, style), SIZE);
    return client;
}

static void send_all(struct client *client, const void *bytes, size_t count)
{
    for (size_t done = 0; done < count;) {
        ssize_t n = send(client->fd, (const char *)bytes + done, count - done, MSG_NOSIGNAL);
        if (n < 0)
            err(EXIT_FAILURE, "send");
        done += (size_t)n;
    }
}

/* Send the head of a request, whose cookie is `name`. */
static void ask_head(struct client *client, uint64_t name, enum nbd_command_type command,
                     uint64_t offset, uint32_t count)
{
    char head[CLIENT_REQUEST_MAX];
    const struct client_request request = {.cookie = name,
                                           .offset = offset,
                                           .count = count,
                                           .command = command,
                                           .flags =
                                               command == NBD_CMD_WRITE ? NBD_CMD_FLAG_FUA : 0};
    send_all(client, head, client_put_request(head, client->style, &request));
}

/* Send a request.  A write sends the beginning of `data`. */
static void ask(struct client *client, uint64_t name, enum nbd_command_type command,
                uint64_t offset, uint32_t count)
{
    ask_head(client, name, command, offset, count);
    if (command == NBD_CMD_WRITE)
        send_all(client, data, count);
}

static void receive(struct client *client, void *to, size_t count)
{
    for (size_t done = 0; done < count;) {
        ssize_t n = recv(client->fd, (char *)to + done, count - done, 0);
        if (n <= 0)
            errx(EXIT_FAILURE, "the server closed the connection, or hangs");
        done += (size_t)n;
    }
}

/* Receive the next reply, which has to be that of `name`.  to: the bytes of a read; or NULL. */
static void expect_reply(struct client *client, uint64_t name, uint32_t error, char *to,
                         uint32_t count)
{
    struct client_reply reply = {.is_done = false};
    while (!reply.is_done) {
        char head[CLIENT_HEAD_MAX];
        size_t size = 0, used;
        while ((used = client_get_reply(head, size, client->style, &reply)) == 0)
            receive(client, head + size++, 1);
        assert_int_equal(used, size);
        assert_int_equal(reply.cookie, name);
        assert_int_equal(reply.error, error);
        if (reply.kind == CLIENT_REPLY_SIMPLE && to)
            receive(client, to, count);
        else if (reply.kind == CLIENT_REPLY_DATA)
            receive(client, to, reply.payload);
    }
}

static void expect_answer(struct client *client, uint64_t name, uint32_t error)
{
    expect_reply(client, name, error, NULL, 0);
}

static void *send_data(void *client)
{
    send_all(client, data, sizeof data);
    return NULL;
}

/* Send a request of as many bytes as `data` has, which may take until it is answered. */
static void begin_long(struct client *client, uint64_t name, enum nbd_command_type command,
                       uint64_t offset)
{
    ask_head(client, name, command, offset, sizeof data);
    client->is_sending = command == NBD_CMD_WRITE;
    if (client->is_sending)
        assert_int_equal(pthread_create(&client->sender, NULL, send_data, client), 0);
}

static void end_long(struct client *client, uint64_t name, uint32_t error)
{
    expect_answer(client, name, error);
    if (client->is_sending)
        pthread_join(client->sender, NULL);
}

/* Send a write of as many bytes as `data` has, and only as much of it as goes without waiting. */
static void begin_long_write(struct client *client, uint64_t name, uint64_t offset)
{
    ask_head(client, name, NBD_CMD_WRITE, offset, sizeof data);
    ssize_t n = send(client->fd, data, sizeof data, MSG_NOSIGNAL | MSG_DONTWAIT);
    assert_true(n > 0 && (size_t)n < sizeof data);
}

static void expect_end(struct client *client)
{
    char byte;
    assert_int_equal(recv(client->fd, &byte, 1, 0), 0);
}

/* The loop is not held up: it answers somebody else, again and again. */
static void expect_service(struct client *other)
{
    for (uint64_t i = 0; i < 20; i++) {
        char bytes[100];
        ask(other, i, NBD_CMD_READ, i * PAGE, sizeof bytes);
        expect_reply(other, i, 0, bytes, sizeof bytes);
    }
}

static void expect_content(uint64_t offset, const char *expected, size_t count)
{
    char *bytes = (char *)buffer_made(count);
    assert_int_equal(disk_read(disk, offset, count, bytes), 0);
    assert_memory_equal(bytes, expected, count);
    free(bytes);
}

static void leave(struct client *client)
{
    close(client->fd);
    client->fd = -1;
}

static void await_connections(unsigned count)
{
    while (server_connections(&server) != count)
        usleep(1000);
}

/* Tests. */

static const enum client_style styles[] = {CLIENT_SIMPLE, CLIENT_STRUCTURED, CLIENT_EXTENDED};

static void others_are_served(void **state)
{
    (void)state;
    struct client *other = connected(CLIENT_SIMPLE);
    for (unsigned i = 0; i < COUNT_OF(styles); i++) {
        struct client *busy = connected(styles[i]);
        uint64_t offset = SLOW + i * MiB + 10;
        ask(busy, 1, NBD_CMD_WRITE, offset, 3 * PAGE);
        await_waiting(1);
        expect_service(other);
        let_pass(1, 0);
        expect_answer(busy, 1, 0);
        expect_content(offset, data, 3 * PAGE);
    }
}

/* A flush covers what was answered before it, and the parked write was not. */
static void the_same_client_is_served(void **state)
{
    (void)state;
    struct client *client = connected(CLIENT_EXTENDED);
    ask(client, 1, NBD_CMD_WRITE, SLOW, 2 * PAGE);
    ask(client, 2, NBD_CMD_FLUSH, 0, 0);
    ask(client, 3, NBD_CMD_WRITE, PAGE, 100);
    expect_answer(client, 2, 0);
    expect_answer(client, 3, 0);
    expect_service(client);
    let_pass(1, 0);
    expect_answer(client, 1, 0);
}

static void errors_are_reported(void **state)
{
    (void)state;
    static const enum nbd_command_type commands[] = {NBD_CMD_WRITE, NBD_CMD_TRIM,
                                                     NBD_CMD_WRITE_ZEROES};
    struct client *other = connected(CLIENT_SIMPLE);
    for (unsigned i = 0; i < COUNT_OF(styles); i++) {
        struct client *client = connected(styles[i]);
        for (unsigned j = 0; j < COUNT_OF(commands); j++) {
            ask(client, j, commands[j], SLOW, 2 * PAGE);
            await_waiting(1);
            expect_service(other);
            let_pass(1, -ENOSPC);
            expect_answer(client, j, NBD_ENOSPC);
            begin_long(client, j, commands[j], SLOW);
            await_waiting(1);
            expect_service(other);
            let_pass(1, -ENOMEM);
            end_long(client, j, NBD_ENOMEM);
        }
        expect_service(client);
    }
}

/* The parts of a long request are parked one after the other.  The next request of the client has
 * to wait, and others do not. */
static void long_requests(void **state)
{
    (void)state;
    struct client *other = connected(CLIENT_SIMPLE), *client = connected(CLIENT_STRUCTURED);
    static char zeroes[8 << 20];
    begin_long(client, 1, NBD_CMD_WRITE, SLOW + 5);
    await_waiting(1);
    expect_service(other);
    let_pass(UINT_MAX, 0);
    end_long(client, 1, 0);
    expect_content(SLOW + 5, data, sizeof data);
    let_pass(0, 0);
    begin_long(client, 3, NBD_CMD_WRITE_ZEROES, SLOW + 5);
    ask(client, 4, NBD_CMD_READ, 0, 1);
    await_waiting(1);
    expect_service(other);
    let_pass(UINT_MAX, 0);
    end_long(client, 3, 0);
    expect_reply(client, 4, 0, (char[1]){0}, 1);
    expect_content(SLOW + 5, zeroes, sizeof data);
    assert_true(server.loops[0].worker.counters.parked > 8);
}

/* After PARK_JOBS_MAX requests nothing is received until one of them has returned. */
static void bound(void **state)
{
    (void)state;
    struct client *other = connected(CLIENT_SIMPLE), *client = connected(CLIENT_SIMPLE);
    for (uint64_t name = 0; name < PARK_JOBS_MAX + 5; name++)
        ask(client, name, NBD_CMD_WRITE, SLOW + name * PAGE, 100);
    ask(client, 1000, NBD_CMD_READ, 0, 1);
    await_waiting(PARK_RUNNING_MAX);
    expect_service(other);
    expect_service(other); /* by now the loop would have seen the read, too */
    char byte;
    assert_int_equal(recv(client->fd, &byte, 1, MSG_DONTWAIT), -1);
    assert_int_equal(server.loops[0].worker.counters.parked, PARK_JOBS_MAX);
    let_pass(UINT_MAX, 0);
    bool answered[PARK_JOBS_MAX + 5] = {false};
    for (unsigned count = 0; count < PARK_JOBS_MAX + 6; count++) {
        struct client_reply reply;
        char head[CLIENT_HEAD_MAX];
        receive(client, head, 16);
        assert_int_equal(client_get_reply(head, 16, CLIENT_SIMPLE, &reply), 16);
        assert_int_equal(reply.error, 0);
        if (reply.cookie == 1000)
            receive(client, &byte, 1);
        else
            answered[reply.cookie] = true;
    }
    for (unsigned i = 0; i < COUNT_OF(answered); i++)
        assert_true(answered[i]);
    expect_service(client);
}

/* A client that takes no replies: the answers of its parked requests wait for it. */
static void answers_wait_for_the_client(void **state)
{
    (void)state;
    struct client *other = connected(CLIENT_SIMPLE), *client = connected(CLIENT_SIMPLE);
    char *bytes = (char *)buffer_made(8 * MiB);
    ask(client, 1, NBD_CMD_WRITE, SLOW, 100);
    ask(client, 2, NBD_CMD_READ, 0, 8 * MiB);
    await_waiting(1);
    let_pass(UINT_MAX, 0);
    await_waiting(0);
    expect_service(other);
    expect_reply(client, 2, 0, bytes, 8 * MiB);
    expect_answer(client, 1, 0);
    free(bytes);
}

static void disconnect_waits_for_answers(void **state)
{
    (void)state;
    struct client *other = connected(CLIENT_SIMPLE), *client = connected(CLIENT_EXTENDED);
    ask(client, 1, NBD_CMD_WRITE, SLOW, 100);
    ask(client, 2, NBD_CMD_TRIM, SLOW, PAGE);
    ask(client, 3, NBD_CMD_DISC, 0, 0);
    await_waiting(2);
    expect_service(other);
    let_pass(1, 0);
    await_waiting(1);
    expect_service(other);
    let_pass(1, -ENOSPC);
    uint32_t errors = 0;
    for (unsigned i = 0; i < 2; i++) {
        struct client_reply reply;
        char head[CLIENT_HEAD_MAX];
        size_t size = 0;
        while (client_get_reply(head, size, client->style, &reply) == 0)
            receive(client, head + size++, 1);
        errors += reply.error;
        char text[200];
        receive(client, text, reply.payload);
    }
    assert_int_equal(errors, NBD_ENOSPC);
    expect_end(client);
    await_connections(1);
}

/* The client has shut its side, and still reads. */
static void end_of_stream_waits_for_answers(void **state)
{
    (void)state;
    struct client *other = connected(CLIENT_SIMPLE), *client = connected(CLIENT_SIMPLE);
    ask(client, 1, NBD_CMD_WRITE, SLOW, 100);
    shutdown(client->fd, SHUT_WR);
    await_waiting(1);
    expect_service(other);
    let_pass(1, 0);
    expect_answer(client, 1, 0);
    expect_end(client);
}

static void clients_vanish(void **state)
{
    (void)state;
    struct client *other = connected(CLIENT_SIMPLE);
    for (unsigned i = 0; i < 3; i++) {
        struct client *client = connected(styles[i]);
        for (uint64_t name = 0; name < 50; name++)
            ask(client, name, NBD_CMD_WRITE, SLOW + name * PAGE, 100);
        begin_long_write(client, 50, SLOW);
        leave(client);
        await_waiting(2 * (i + 1) < PARK_THREADS ? 2 * (i + 1) : PARK_THREADS);
        expect_service(other);
    }
    let_pass(UINT_MAX, 0);
    await_connections(1);
    expect_service(other);
    assert_int_equal(server.loops[0].worker.counters.failed, 0);
}

/* The connection breaks while jobs run, and ends at once: they are orphans. */
static void orphans(void **state)
{
    (void)state;
    struct client *other = connected(CLIENT_SIMPLE), *client = connected(CLIENT_SIMPLE);
    for (uint64_t name = 1; name < 20; name++)
        ask(client, name, NBD_CMD_WRITE, SLOW + name * PAGE, 100);
    ask(client, 0, NBD_CMD_READ, 0, 8 * MiB); /* its reply breaks off when the client leaves */
    await_waiting(PARK_RUNNING_MAX);
    expect_service(other);
    leave(client);
    await_connections(1);
    expect_service(other);
    await_waiting(PARK_RUNNING_MAX);
    let_pass(UINT_MAX, 0);
    await_waiting(0);
    ask(other, 1, NBD_CMD_WRITE, SLOW, 100);
    expect_answer(other, 1, 0);
}

/* A client whose request is parked is not idle.  The other one is, and it came later. */
static void parked_is_not_idle(void **state)
{
    server_stop(&server);
    server_free(&server);
    disk_end(disk);
    idle_seconds = 1;
    set_up(state);
    struct client *client = connected(CLIENT_SIMPLE);
    ask(client, 1, NBD_CMD_WRITE, SLOW, 100);
    await_waiting(1);
    expect_end(connected(CLIENT_SIMPLE));
    expect_end(connected(CLIENT_SIMPLE));
    let_pass(1, 0);
    expect_answer(client, 1, 0);
    expect_end(client); /* now it is idle, too */
}

/* Requests that wait do not keep the server from stopping. */
static void stop(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 6; i++) {
        struct client *client = connected(styles[i % 3]);
        for (uint64_t name = 0; name < 10; name++)
            ask(client, name, NBD_CMD_WRITE, SLOW + name * PAGE, 100);
        if (i % 2)
            begin_long_write(client, 10, SLOW);
        else
            begin_long(client, 10, NBD_CMD_WRITE_ZEROES, SLOW);
    }
    await_waiting(PARK_THREADS);
    server_stop(&server);
    assert_int_equal(waiting, 0);
    assert_int_equal(server_connections(&server), 0);
    server_free(&server);
}

/* A request that ends while the server stops is answered, unless that takes so long that the
 * server has closed the connection (0.7 s). */
static void stop_answers(void **state)
{
    (void)state;
    char byte;
    struct client *client = connected(CLIENT_SIMPLE);
    ask(client, 1, NBD_CMD_WRITE, SLOW, 100);
    await_waiting(1);
    int64_t begin = os_clock_ms();
    loop_ask_to_stop(&server.loops[0]);
    let_pass(1, 0);
    if (recv(client->fd, &byte, 1, MSG_PEEK) == 0 && os_clock_ms() - begin >= 700)
        skip(); /* this machine is too busy */
    expect_answer(client, 1, 0);
    expect_end(client);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(others_are_served),
        TEST(the_same_client_is_served),
        TEST(errors_are_reported),
        TEST(long_requests),
        TEST(bound),
        TEST(answers_wait_for_the_client),
        TEST(disconnect_waits_for_answers),
        TEST(end_of_stream_waits_for_answers),
        TEST(clients_vanish),
        TEST(orphans),
        TEST(parked_is_not_idle),
        TEST(stop),
        TEST(stop_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
