/* SPDX-License-Identifier: BSD-3-Clause */

/* A server whose requests have to wait: others are served, and every request gets its answer. */

#include "support/gated_server.h"
#include "support/support.h"

#include <limits.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "os/thread.h"

static const enum client_style styles[] = {CLIENT_SIMPLE, CLIENT_STRUCTURED, CLIENT_EXTENDED};

static void others_are_served(void **state)
{
    (void)state;
    struct client *other = connected(CLIENT_SIMPLE);
    for (unsigned i = 0; i < COUNT_OF(styles); i++) {
        struct client *busy = connected(styles[i]);
        uint64_t offset = SLOW + i * MiB + 10;
        ask(busy, 1, NBD_CMD_WRITE, offset, 3 * PAGE);
        gate_await(1);
        expect_service(other);
        gate_let_pass(1, 0);
        expect_answer(busy, 1, 0);
        expect_content(offset, payload, 3 * PAGE);
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
    gate_let_pass(1, 0);
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
            gate_await(1);
            expect_service(other);
            gate_let_pass(1, -ENOSPC);
            expect_answer(client, j, NBD_ENOSPC);
            begin_long(client, j, commands[j], SLOW);
            gate_await(1);
            expect_service(other);
            gate_let_pass(1, -ENOMEM);
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
    static char zeroes[PAYLOAD_SIZE];
    begin_long(client, 1, NBD_CMD_WRITE, SLOW + 5);
    gate_await(1);
    expect_service(other);
    gate_let_pass(UINT_MAX, 0);
    end_long(client, 1, 0);
    expect_content(SLOW + 5, payload, sizeof payload);
    gate_let_pass(0, 0);
    begin_long(client, 3, NBD_CMD_WRITE_ZEROES, SLOW + 5);
    ask(client, 4, NBD_CMD_READ, 0, 1);
    gate_await(1);
    expect_service(other);
    gate_let_pass(UINT_MAX, 0);
    end_long(client, 3, 0);
    expect_reply(client, 4, 0, (char[1]){0}, 1);
    expect_content(SLOW + 5, zeroes, sizeof payload);
    assert_true(gated_server.loops[0].worker.counters.parked > 8);
}

/* After PARK_JOBS_MAX requests nothing is received until one of them has returned. */
static void bound(void **state)
{
    (void)state;
    struct client *other = connected(CLIENT_SIMPLE), *client = connected(CLIENT_SIMPLE);
    for (uint64_t name = 0; name < PARK_JOBS_MAX + 5; name++)
        ask(client, name, NBD_CMD_WRITE, SLOW + name * PAGE, 100);
    ask(client, 1000, NBD_CMD_READ, 0, 1);
    gate_await(PARK_RUNNING_MAX);
    expect_service(other);
    expect_service(other); /* by now the loop would have seen the read, too */
    char byte;
    assert_int_equal(recv(client->fd, &byte, 1, MSG_DONTWAIT), -1);
    assert_int_equal(gated_server.loops[0].worker.counters.parked, PARK_JOBS_MAX);
    gate_let_pass(UINT_MAX, 0);
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
    gate_await(1);
    gate_let_pass(UINT_MAX, 0);
    gate_await(0);
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
    gate_await(2);
    expect_service(other);
    gate_let_pass(1, 0);
    gate_await(1);
    expect_service(other);
    gate_let_pass(1, -ENOSPC);
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
    gate_await(1);
    expect_service(other);
    gate_let_pass(1, 0);
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
        gate_await(2 * (i + 1) < PARK_THREADS ? 2 * (i + 1) : PARK_THREADS);
        expect_service(other);
    }
    gate_let_pass(UINT_MAX, 0);
    await_connections(1);
    expect_service(other);
    assert_int_equal(gated_server.loops[0].worker.counters.failed, 0);
}

/* The connection breaks while jobs run, and ends at once: they are orphans. */
static void orphans(void **state)
{
    (void)state;
    struct client *other = connected(CLIENT_SIMPLE), *client = connected(CLIENT_SIMPLE);
    for (uint64_t name = 1; name < 20; name++)
        ask(client, name, NBD_CMD_WRITE, SLOW + name * PAGE, 100);
    ask(client, 0, NBD_CMD_READ, 0, 8 * MiB); /* its reply breaks off when the client leaves */
    gate_await(PARK_RUNNING_MAX);
    expect_service(other);
    leave(client);
    await_connections(1);
    expect_service(other);
    gate_await(PARK_RUNNING_MAX);
    gate_let_pass(UINT_MAX, 0);
    gate_await(0);
    ask(other, 1, NBD_CMD_WRITE, SLOW, 100);
    expect_answer(other, 1, 0);
}

/* A client whose request is parked is not idle.  The other one is, and it came later. */
static void parked_is_not_idle(void **state)
{
    (void)state;
    gated_server_restart(1);
    struct client *client = connected(CLIENT_SIMPLE);
    ask(client, 1, NBD_CMD_WRITE, SLOW, 100);
    gate_await(1);
    expect_end(connected(CLIENT_SIMPLE));
    expect_end(connected(CLIENT_SIMPLE));
    gate_let_pass(1, 0);
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
    gate_await(PARK_THREADS);
    server_stop(&gated_server);
    assert_int_equal(gate_count(), 0);
    assert_int_equal(server_connections(&gated_server), 0);
    server_free(&gated_server);
}

/* A request that ends while the server stops is answered, unless that takes so long that the
 * server has closed the connection (0.7 s). */
static void stop_answers(void **state)
{
    (void)state;
    char byte;
    struct client *client = connected(CLIENT_SIMPLE);
    ask(client, 1, NBD_CMD_WRITE, SLOW, 100);
    gate_await(1);
    int64_t begin = os_clock_ms();
    loop_ask_to_stop(&gated_server.loops[0]);
    gate_let_pass(1, 0);
    if (recv(client->fd, &byte, 1, MSG_PEEK) == 0 && os_clock_ms() - begin >= 700)
        skip(); /* this machine is too busy */
    expect_answer(client, 1, 0);
    expect_end(client);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_GATED(others_are_served),
        TEST_GATED(the_same_client_is_served),
        TEST_GATED(errors_are_reported),
        TEST_GATED(long_requests),
        TEST_GATED(bound),
        TEST_GATED(answers_wait_for_the_client),
        TEST_GATED(disconnect_waits_for_answers),
        TEST_GATED(end_of_stream_waits_for_answers),
        TEST_GATED(clients_vanish),
        TEST_GATED(orphans),
        TEST_GATED(parked_is_not_idle),
        TEST_GATED(stop),
        TEST_GATED(stop_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
