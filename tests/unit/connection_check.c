/* SPDX-License-Identifier: BSD-3-Clause */

/* connection_check finds every planted fault: each row breaks one invariant of state.h in a
 * connection that is as it should be. */

#include "support/support.h"

#include <errno.h>
#include <string.h>

#include "server/session/connection.h"
#include "text/reason.h"

static struct nbd_handshake handshake;
static uint8_t bytes[4];
static struct read_job reads[2];

/* In transmission: bytes are unread and unsent, and two reads wait. */
static struct connection good_connection(void)
{
    const struct nbd_request read = {.type = NBD_CMD_READ, .offset = 4096, .length = 8192};
    reads[0] = (struct read_job){.request = read, .offset = 8192, .left = 4096, .promised = 4096};
    reads[1] = (struct read_job){.request = read, .offset = 4096, .left = 8192};
    return (struct connection){
        .state = CONNECTION_TRANSMISSION,
        .unread = {.bytes = bytes, .at = 1, .size = 4},
        .unread_ready = true,
        .unsent = {.bytes = bytes, .at = 3, .size = 4},
        .waiting = reads,
        .waiting_count = 2,
    };
}

/* A payload is arriving. */
static struct connection receiving_connection(void)
{
    struct connection connection = {.state = CONNECTION_TRANSMISSION};
    connection.payload = (struct payload_job){
        .request = {.type = NBD_CMD_WRITE, .length = 8, .payload = 8}, .at = 7, .active = true};
    return connection;
}

static struct connection zeroing_connection(void)
{
    struct connection connection = {.state = CONNECTION_TRANSMISSION};
    connection.zeroing = (struct zero_job){
        .request = {.type = NBD_CMD_TRIM, .length = 8}, .at = 7, .slice = 1, .active = true};
    return connection;
}

/* A part of its zero job is parked, and a write of before has returned. */
static struct park_job returned;
static struct connection held_connection(void)
{
    struct connection connection = zeroing_connection();
    connection.state = CONNECTION_HELD;
    connection.zeroing.is_parked = true;
    connection.parked.count = 2;
    returned = (struct park_job){0};
    TAILQ_INIT(&connection.parked.finished);
    TAILQ_INSERT_HEAD(&connection.parked.finished, &returned, link);
    return connection;
}

static void expect_good(const struct connection *connection)
{
    struct reason reason;
    if (connection_check(connection, &reason) < 0)
        fail_msg("%s", reason.text);
}

static void good_ones(void **state)
{
    (void)state;
    struct connection connection = good_connection();
    expect_good(&connection);
    connection = receiving_connection();
    expect_good(&connection);
    connection.payload.request.type = NBD_CMD_TRIM;
    connection.payload.error = -EINVAL;
    expect_good(&connection);
    connection = zeroing_connection();
    expect_good(&connection);
    connection = (struct connection){.state = CONNECTION_TLS, .handshake = &handshake};
    expect_good(&connection);
    connection.state = CONNECTION_CLOSED;
    expect_good(&connection);
    connection = held_connection();
    expect_good(&connection);
}

/* rule: the invariant that has to be named. */
static void expect_broken(const struct connection *connection, int line, const char *rule)
{
    struct reason reason = {.text = ""};
    int r = connection_check(connection, &reason);
    const char *named = strpbrk(reason.text, "0123456789");
    size_t size = strlen(rule);
    if (r != -EUCLEAN || !named || strncmp(named, rule, size) != 0 || named[size] != ':')
        fail_msg("line %d: %d, \"%s\", and not rule %s", line, r, reason.text, rule);
}

#define BREAK(kind, change, rule)                                                                \
    do {                                                                                         \
        struct connection c = kind##_connection();                                               \
        change;                                                                                  \
        expect_broken(&c, __LINE__, rule);                                                       \
    } while (0)

static void planted_faults(void **state)
{
    (void)state;
    BREAK(good, c.state = CONNECTION_HANDSHAKE, "1");
    BREAK(good, c.state = CONNECTION_TLS, "1");
    BREAK(good, c.handshake = &handshake, "1");
    BREAK(good, c.unread.at = 4, "2");
    BREAK(good, c.unsent.at = 4, "2");
    BREAK(good, c.unsent.bytes = NULL, "2");
    BREAK(good, c.unread = (struct buffer){0}, "3");
    BREAK(good, c.payload = receiving_connection().payload, "4");
    BREAK(zeroing, c.payload = receiving_connection().payload, "4");
    BREAK(receiving, c.payload.at = 8, "5");
    BREAK(receiving, c.payload.request.type = NBD_CMD_BLOCK_STATUS, "5");
    BREAK(zeroing, c.zeroing.at = 8, "6");
    BREAK(zeroing, c.zeroing.slice = 0, "6");
    BREAK(good, c.waiting = NULL, "7");
    BREAK(good, c.waiting_count = 0, "7");
    BREAK(good, c.waiting_count = SCRATCH_READS + 1, "7");
    BREAK(good, reads[0].left = 0, "8");
    BREAK(good, reads[0].offset++, "8");
    BREAK(good, reads[0].promised++, "8");
    BREAK(good, reads[1].promised = 1, "8");
    BREAK(good, (reads[1].left += 4096, reads[1].offset -= 4096), "8");
    BREAK(held, c.parked.count = PARK_JOBS_MAX + 1, "9");
    BREAK(held, c.parked.count = 0, "9");
    BREAK(held, (c.state = CONNECTION_HANDSHAKE, c.handshake = &handshake), "9");
    BREAK(held, c.state = CONNECTION_LINGERING, "9");
    BREAK(held, c.zeroing.active = false, "10");
    BREAK(held, c.payload.is_parked = true, "10");
    BREAK(held, c.state = CONNECTION_TRANSMISSION, "10");
    BREAK(good, (c.zeroing = zeroing_connection().zeroing, c.zeroing.is_parked = true), "10");
    BREAK(good, c.state = CONNECTION_HELD, "11");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_ones),
        cmocka_unit_test(planted_faults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
