/* SPDX-License-Identifier: BSD-3-Clause */

/* transport.h without TLS, over sockets and pipes.  The programs tls_* test it with TLS. */

#include "support/support.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/net/socket_kind.h"
#include "server/net/transport.h"

/* Open a transport over a Unix socket.  Returns the client's end. */
static int open_unix(struct transport *transport)
{
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(transport_init(transport, fds[0], fds[0], true), 0);
    return fds[1];
}

static int open_tcp(struct transport *transport, int family, bool keepalive)
{
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr *address = family == AF_INET ? (void *)&four : (void *)&six;
    socklen_t size = family == AF_INET ? sizeof four : sizeof six;
    int listener = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int client = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || client < 0 || bind(listener, address, size) != 0)
        skip(); /* the machine does not have this family */
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, address, &size), 0);
    assert_int_equal(connect(client, address, size), 0);
    int server = accept(listener, NULL, NULL);
    assert_true(server >= 0);
    close(listener);
    assert_int_equal(transport_init(transport, server, server, keepalive), 0);
    return client;
}

static void vectors_come_and_go(void **state)
{
    (void)state;
    struct transport transport;
    int client = open_unix(&transport);
    char first[3], second[10] = "";
    struct iovec iov[2] = {{first, sizeof first}, {second, sizeof second}};
    assert_int_equal(transport_receive(&transport, iov, 2), -EAGAIN);
    assert_int_equal(transport_receive(&transport, iov, 1), -EAGAIN);
    assert_int_equal(write(client, "request", 7), 7);
    assert_int_equal(transport_receive(&transport, iov, 2), 7);
    assert_memory_equal(first, "req", 3);
    assert_string_equal(second, "uest");
    assert_int_equal(write(client, "x", 1), 1);
    assert_int_equal(transport_receive(&transport, iov, 1), 1);
    assert_int_equal(first[0], 'x');

    char got[20] = "";
    iov[1].iov_len = 4;
    assert_int_equal(transport_send(&transport, iov, 2), 7);
    assert_int_equal(transport_send(&transport, iov, 1), 3);
    assert_int_equal(transport_send(&transport, NULL, 0), 0);
    assert_int_equal(read(client, got, sizeof got), 10);
    assert_string_equal(got, "xequestxeq");
    assert_false(transport_wants_flush(&transport) || transport_has_pending(&transport));
    close(client);
    transport_close(&transport);
}

static void the_end_is_the_end(void **state)
{
    (void)state;
    struct transport transport;
    char byte = 'x';
    struct iovec iov = {&byte, 1};
    int client = open_unix(&transport);
    close(client);
    assert_int_equal(transport_receive(&transport, &iov, 1), 0);
    assert_int_equal(transport_send(&transport, &iov, 1), -EPIPE);
    transport_close(&transport);
}

static void a_reset_is_a_peer_that_is_gone(void **state)
{
    (void)state;
    struct transport transport;
    char byte = 'x';
    struct iovec iov = {&byte, 1};
    int client = open_tcp(&transport, AF_INET, false);
    struct linger at_once = {.l_onoff = 1};
    assert_int_equal(setsockopt(client, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once), 0);
    close(client);
    assert_int_equal(transport_receive(&transport, &iov, 1), -EPIPE);
    transport_close(&transport);
}

static void a_reply_of_256_kib_goes_in_one_piece(void **state)
{
    (void)state;
    static uint8_t reply[(256 << 10) + 16];
    struct transport transport;
    long most = 0; /* the largest send buffer that the system allows */
    FILE *file = fopen("/proc/sys/net/core/wmem_max", "re");
    if (file == NULL || fscanf(file, "%ld", &most) != 1 || most < 512 << 10)
        skip();
    fclose(file);
    int client = open_unix(&transport);
    struct iovec iov[2] = {{reply, 16}, {reply + 16, sizeof reply - 16}};
    assert_int_equal(transport_send(&transport, iov, 2), sizeof reply);
    close(client);
    transport_close(&transport);
}

static void a_full_socket_takes_part_and_then_nothing(void **state)
{
    (void)state;
    static uint8_t much[16 << 20];
    struct transport transport;
    int client = open_unix(&transport);
    struct iovec iov = {much, sizeof much};
    ssize_t sent = transport_send(&transport, &iov, 1);
    assert_true(sent > 0 && (size_t)sent < sizeof much);
    while ((sent = transport_send(&transport, &iov, 1)) > 0)
        continue;
    assert_int_equal(sent, -EAGAIN);
    assert_false(transport_wants_flush(&transport)); /* the transport has no bytes left over */
    close(client);
    transport_close(&transport);
}

static void pipes_do_as_well(void **state)
{
    (void)state;
    struct transport transport;
    int there[2], back[2];
    char buf[10] = "", name[20];
    struct iovec iov = {buf, sizeof buf};
    assert_int_equal(pipe2(there, O_CLOEXEC), 0);
    assert_int_equal(pipe2(back, O_CLOEXEC), 0);
    assert_int_equal(transport_init(&transport, there[0], back[1], true), 0);
    assert_int_equal(transport_receive(&transport, &iov, 1), -EAGAIN);
    assert_int_equal(write(there[1], "request", 7), 7);
    assert_int_equal(transport_receive(&transport, &iov, 1), 7);
    assert_string_equal(buf, "request");
    iov.iov_len = 7;
    assert_int_equal(transport_send(&transport, &iov, 1), 7);
    assert_int_equal(read(back[0], buf, sizeof buf), 7);
    transport_peer(&transport, name, sizeof name);
    assert_string_equal(name, "stdio");
    close(there[1]);
    assert_int_equal(transport_receive(&transport, &iov, 1), 0);
    close(back[0]);
    assert_int_equal(transport_send(&transport, &iov, 1), -EPIPE);
    transport_close(&transport);
    assert_int_equal(fcntl(there[0], F_GETFD), -1);
    assert_int_equal(fcntl(back[1], F_GETFD), -1);
}

static int tcp_option(const struct transport *transport, int level, int option)
{
    int value = 0;
    socklen_t size = sizeof value;
    assert_int_equal(getsockopt(transport->out, level, option, &value, &size), 0);
    return value;
}

static void tcp_does_not_delay_and_may_be_kept_alive(void **state)
{
    (void)state;
    for (int keepalive = 0; keepalive < 2; keepalive++) {
        struct transport transport;
        int client = open_tcp(&transport, AF_INET, keepalive);
        assert_int_equal(tcp_option(&transport, IPPROTO_TCP, TCP_NODELAY), 1);
        assert_int_equal(tcp_option(&transport, SOL_SOCKET, SO_KEEPALIVE), keepalive);
        close(client);
        transport_close(&transport);
    }
}

static void assert_peer(const struct transport *transport, const char *expected)
{
    char name[100], small[5];
    memset(small, 'x', sizeof small);
    transport_peer(transport, name, sizeof name);
    assert_string_equal(name, expected);
    transport_peer(transport, small, sizeof small);
    assert_int_equal(strlen(small), 4);
    assert_memory_equal(small, expected, 4);
}

static void peers_have_names(void **state)
{
    (void)state;
    struct transport transport;
    char expected[100];
    int client = open_unix(&transport);
    snprintf(expected, sizeof expected, "unix:%ld", (long)getpid());
    assert_peer(&transport, expected);
    close(client);
    transport_close(&transport);

    struct sockaddr_in address;
    socklen_t size = sizeof address;
    client = open_tcp(&transport, AF_INET, false);
    assert_int_equal(getsockname(client, (struct sockaddr *)&address, &size), 0);
    snprintf(expected, sizeof expected, "127.0.0.1:%d", ntohs(address.sin_port));
    assert_peer(&transport, expected);
    close(client);
    transport_close(&transport);
}

static void assert_holder(int fd, const char *expected)
{
    char name[64], small[4];
    socket_name_holder(fd, name, sizeof name);
    assert_string_equal(name, expected);
    socket_name_holder(fd, small, sizeof small);
    assert_int_equal(strlen(small), sizeof small - 1);
}

static void holders_have_names(void **state)
{
    (void)state;
    struct transport transport;
    char expected[64];
    int pipes[2];
    int client = open_unix(&transport);
    snprintf(expected, sizeof expected, "uid %lu", (unsigned long)geteuid());
    assert_holder(transport.in, expected);
    close(client);
    transport_close(&transport);
    client = open_tcp(&transport, AF_INET, false);
    assert_holder(transport.in, "127.0.0.1");
    close(client);
    transport_close(&transport);
    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    assert_holder(pipes[0], "unknown");
    close(pipes[0]);
    close(pipes[1]);
}

/* A socket for both versions shows clients of version 4 as such of version 6. */
static void holder_has_one_name_at_either_version(void **state)
{
    (void)state;
    struct sockaddr_in6 any = {.sin6_family = AF_INET6}, bound;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof bound;
    int listener = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0), no = 0;
    if (listener < 0 || setsockopt(listener, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof no) < 0 ||
        bind(listener, (const struct sockaddr *)&any, sizeof any) < 0)
        skip();
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&bound, &size), 0);
    to.sin_port = bound.sin6_port;
    int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(client, (const struct sockaddr *)&to, sizeof to), 0);
    int fd = accept(listener, NULL, NULL);
    assert_holder(fd, "127.0.0.1");
    close(fd);
    close(client);
    close(listener);
}

static void peers_of_version_6_have_names(void **state)
{
    (void)state;
    struct transport transport;
    char expected[100];
    struct sockaddr_in6 address;
    socklen_t size = sizeof address;
    int client = open_tcp(&transport, AF_INET6, false);
    assert_int_equal(getsockname(client, (struct sockaddr *)&address, &size), 0);
    snprintf(expected, sizeof expected, "[::1]:%d", ntohs(address.sin6_port));
    assert_peer(&transport, expected);
    close(client);
    transport_close(&transport);
}

static void a_bad_descriptor_stays_the_callers(void **state)
{
    (void)state;
    struct transport transport;
    int fds[2];
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    close(fds[1]);
    assert_int_equal(transport_init(&transport, fds[0], fds[1], false), -EBADF);
    assert_int_equal(close(fds[0]), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors_come_and_go),
        cmocka_unit_test(the_end_is_the_end),
        cmocka_unit_test(a_reset_is_a_peer_that_is_gone),
        cmocka_unit_test(a_reply_of_256_kib_goes_in_one_piece),
        cmocka_unit_test(a_full_socket_takes_part_and_then_nothing),
        cmocka_unit_test(pipes_do_as_well),
        cmocka_unit_test(tcp_does_not_delay_and_may_be_kept_alive),
        cmocka_unit_test(peers_have_names),
        cmocka_unit_test(holders_have_names),
        cmocka_unit_test(holder_has_one_name_at_either_version),
        cmocka_unit_test(peers_of_version_6_have_names),
        cmocka_unit_test(a_bad_descriptor_stays_the_callers),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
