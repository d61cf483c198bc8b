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
}

/* rule: the invariant that has to be named. */
static void expect_broken(const struct connection *connection, int line, char rule)
{
    struct reason reason = {.text = ""};
    int r = connection_check(connection, &reason);
    const char *named = strpbrk(reason.text, "0123456789");
    if (r != -EUCLEAN || !named || *named != rule)
        fail_msg("line %d: %d, \"%s\", and not rule %c", line, r, reason.text, rule);
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
    BREAK(good, c.state = CONNECTION_HANDSHAKE, '1');
    BREAK(good, c.state = CONNECTION_TLS, '1');
    BREAK(good, c.handshake = &handshake, '1');
    BREAK(good, c.unread.at = 4, '2');
    BREAK(good, c.unsent.at = 4, '2');
    BREAK(good, c.unsent.bytes = NULL, '2');
    BREAK(good, c.unread = (struct buffer){0}, '3');
    BREAK(good, c.payload = receiving_connection().payload, '4');
    BREAK(zeroing, c.payload = receiving_connection().payload, '4');
    BREAK(receiving, c.payload.at = 8, '5');
    BREAK(receiving, c.payload.request.type = NBD_CMD_BLOCK_STATUS, '5');
    BREAK(zeroing, c.zeroing.at = 8, '6');
    BREAK(zeroing, c.zeroing.slice = 0, '6');
    BREAK(good, c.waiting = NULL, '7');
    BREAK(good, c.waiting_count = 0, '7');
    BREAK(good, c.waiting_count = SCRATCH_READS + 1, '7');
    BREAK(good, reads[0].left = 0, '8');
    BREAK(good, reads[0].offset++, '8');
    BREAK(good, reads[0].promised++, '8');
    BREAK(good, reads[1].promised = 1, '8');
    BREAK(good, (reads[1].left += 4096, reads[1].offset -= 4096), '8');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_ones),
        cmocka_unit_test(planted_faults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
