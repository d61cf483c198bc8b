/* SPDX-License-Identifier: BSD-3-Clause */

#include "support/gated_server.h"

#include <err.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "server/host/log.h"
#include "support/support.h"

enum { HANG_SECONDS = 60, SIZE = 2 * SLOW };

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

void gate_let_pass(unsigned count, int result)
{
    pthread_mutex_lock(&lock);
    may_pass = count;
    result_of_passed = result;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

void gate_await(unsigned count)
{
    pthread_mutex_lock(&lock);
    while (waiting != count)
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
}

unsigned gate_count(void)
{
    pthread_mutex_lock(&lock);
    unsigned count = waiting;
    pthread_mutex_unlock(&lock);
    return count;
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

/* The server. */

struct server gated_server;
char payload[PAYLOAD_SIZE];

static struct disk *disk;
static struct logger logger;
static struct client clients[8];
static unsigned client_count;

static void start(unsigned idle_seconds)
{
    alarm(HANG_SECONDS);
    waiting = may_pass = client_count = 0;
    given_up = false;
    disk = disk_made(&allocator_sparse, SIZE, 0);
    for (size_t i = 0; i < sizeof payload; i++)
        payload[i] = (char)(i % 251 + 1);
    log_init(&logger);
    gated_server = (struct server){
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
    assert_int_equal(server_start(&gated_server, 1), 0);
}

int gated_server_begin(void **state)
{
    (void)state;
    start(0);
    return 0;
}

int gated_server_end(void **state)
{
    (void)state;
    for (unsigned i = 0; i < client_count; i++)
        if (clients[i].fd >= 0)
            close(clients[i].fd);
    if (gated_server.loops) {
        server_stop(&gated_server);
        server_free(&gated_server);
    }
    disk_end(disk);
    return 0;
}

void gated_server_restart(unsigned idle_seconds)
{
    server_stop(&gated_server);
    server_free(&gated_server);
    disk_end(disk);
    start(idle_seconds);
}

void await_connections(unsigned count)
{
    while (server_connections(&gated_server) != count)
        usleep(1000);
}

/* Its clients. */

struct client *connected(enum client_style style)
{
    struct client *client = &clients[client_count++];
    const struct timeval patience = {.tv_sec = HANG_SECONDS};
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(server_adopt(&gated_server, fds[0], fds[0]), 0);
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

void ask(struct client *client, uint64_t name, enum nbd_command_type command, uint64_t offset,
         uint32_t count)
{
    ask_head(client, name, command, offset, count);
    if (command == NBD_CMD_WRITE)
        send_all(client, payload, count);
}

void receive(struct client *client, void *to, size_t count)
{
    for (size_t done = 0; done < count;) {
        ssize_t n = recv(client->fd, (char *)to + done, count - done, 0);
        if (n <= 0)
            errx(EXIT_FAILURE, "the server closed the connection, or hangs");
        done += (size_t)n;
    }
}

void expect_reply(struct client *client, uint64_t name, uint32_t error, char *to, uint32_t count)
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

void expect_answer(struct client *client, uint64_t name, uint32_t error)
{
    expect_reply(client, name, error, NULL, 0);
}

static void *send_data(void *client)
{
    send_all(client, payload, sizeof payload);
    return NULL;
}

void begin_long(struct client *client, uint64_t name, enum nbd_command_type command,
                uint64_t offset)
{
    ask_head(client, name, command, offset, sizeof payload);
    client->is_sending = command == NBD_CMD_WRITE;
    if (client->is_sending)
        assert_int_equal(pthread_create(&client->sender, NULL, send_data, client), 0);
}

void end_long(struct client *client, uint64_t name, uint32_t error)
{
    expect_answer(client, name, error);
    if (client->is_sending)
        pthread_join(client->sender, NULL);
}

void begin_long_write(struct client *client, uint64_t name, uint64_t offset)
{
    ask_head(client, name, NBD_CMD_WRITE, offset, sizeof payload);
    ssize_t n = send(client->fd, payload, sizeof payload, MSG_NOSIGNAL | MSG_DONTWAIT);
    assert_true(n > 0 && (size_t)n < sizeof payload);
}

void expect_end(struct client *client)
{
    char byte;
    assert_int_equal(recv(client->fd, &byte, 1, 0), 0);
}

void expect_service(struct client *other)
{
    for (uint64_t i = 0; i < 20; i++) {
        char bytes[100];
        ask(other, i, NBD_CMD_READ, i * PAGE, sizeof bytes);
        expect_reply(other, i, 0, bytes, sizeof bytes);
    }
}

void expect_content(uint64_t offset, const char *expected, size_t count)
{
    char *bytes = (char *)buffer_made(count);
    assert_int_equal(disk_read(disk, offset, count, bytes), 0);
    assert_memory_equal(bytes, expected, count);
    free(bytes);
}

void leave(struct client *client)
{
    close(client->fd);
    client->fd = -1;
}
