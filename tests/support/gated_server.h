/* SPDX-License-Identifier: BSD-3-Clause */

/* gated_server - a server with one loop, in this process, and clients whose requests have to wait
 *
 * For programs that are linked with --wrap for the functions in gated_server.c.  The disk is
 * real, except that a request waits at a gate, as long as the test wants, if it begins in the
 * second half of the disk.  Its -EAGAIN comes after the first page of its range.  The first half
 * of the disk is for everybody else.
 *
 * A function that finds something wrong fails the test, or ends the program.  If something hangs,
 * the program ends after a minute.  The test's thread only.
 */

#ifndef NBDRAM_TESTS_GATED_SERVER_H
#define NBDRAM_TESTS_GATED_SERVER_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../bench/client.h"
#include "server/session/server.h"

enum {
    PAGE = 4096,
    SLOW = 32 << 20, /* the second half of the disk begins here */
    PAYLOAD_SIZE = 8 << 20,
};

/* Setup and teardown of each test: the server runs, and the gate is shut.  The test may have
 * stopped and freed the server. */
#define TEST_GATED(function)                                                                     \
    cmocka_unit_test_setup_teardown(function, gated_server_begin, gated_server_end)
int gated_server_begin(void **state);
int gated_server_end(void **state);

/* Begin again, before there are clients, with a server that disconnects clients that are idle for
 * longer than this (at first it does not). */
void gated_server_restart(unsigned idle_seconds);

extern struct server gated_server;

/* Wait until the server has this many connections. */
void await_connections(unsigned count);

/* The gate. */

/* Let this many requests pass (UINT_MAX: all), those that wait or are still to come.  They are
 * carried out if the result is 0, and else end with this -errno. */
void gate_let_pass(unsigned count, int result);

/* How many requests are at the gate; and wait until it is this many. */
unsigned gate_count(void);
void gate_await(unsigned count);

/* Clients. */

struct client {
    int fd; /* -1: it has left */
    enum client_style style;
    bool is_sending; /* in begin_long */
    pthread_t sender;
};

/* What writes send: the beginning of this.  It has no zero byte. */
extern char payload[PAYLOAD_SIZE];

/* A new client after its handshake; at most eight in a test. */
struct client *connected(enum client_style style);

/* Close the connection without a goodbye. */
void leave(struct client *client);

/* Send a request whose cookie is `name`. */
void ask(struct client *client, uint64_t name, enum nbd_command_type command, uint64_t offset,
         uint32_t count);

/* Send a request of PAYLOAD_SIZE bytes, and receive its answer.  To send a write may take until
 * it is answered, so a thread does it: nothing else must be sent in between. */
void begin_long(struct client *client, uint64_t name, enum nbd_command_type command,
                uint64_t offset);
void end_long(struct client *client, uint64_t name, uint32_t error);

/* Send the head of a write of PAYLOAD_SIZE bytes, and only as many of them as go without
 * waiting. */
void begin_long_write(struct client *client, uint64_t name, uint64_t offset);

/* Receive so many bytes. */
void receive(struct client *client, void *to, size_t count);

/* Receive the next reply, which has to be that of `name`.  to: for the bytes of a read.  An
 * answer is a reply without bytes. */
void expect_reply(struct client *client, uint64_t name, uint32_t error, char *to, uint32_t count);
void expect_answer(struct client *client, uint64_t name, uint32_t error);

/* The server closes the connection, and sends nothing before. */
void expect_end(struct client *client);

/* The loop is not held up: it answers somebody else, again and again. */
void expect_service(struct client *other);

/* The disk holds these bytes. */
void expect_content(uint64_t offset, const char *expected, size_t count);

#endif
