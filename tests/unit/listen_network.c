/* SPDX-License-Identifier: BSD-3-Clause */

/* TCP and vsock: which addresses and ports are bound, and which are refused. */

#include "support/listening.h"
#include "support/support.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/net/socket_kind.h"
#include "text/reason.h"

static bool is_loopback(int fd)
{
    struct sockaddr_storage address;
    socklen_t length = sizeof address;
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &length), 0);
    if (address.ss_family == AF_INET)
        return ((struct sockaddr_in *)&address)->sin_addr.s_addr == htonl(INADDR_LOOPBACK);
    return address.ss_family == AF_INET6 &&
           IN6_IS_ADDR_LOOPBACK(&((struct sockaddr_in6 *)&address)->sin6_addr);
}

static unsigned port_of(int fd)
{
    struct sockaddr_storage address;
    socklen_t length = sizeof address;
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &length), 0);
    if (address.ss_family == AF_INET)
        return ntohs(((struct sockaddr_in *)&address)->sin_port);
    return ntohs(((struct sockaddr_in6 *)&address)->sin6_port);
}

static bool has_ipv6(void)
{
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool has = fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0;
    if (fd >= 0)
        close(fd);
    return has;
}

static void set_address(struct listen_options *options, const char *name)
{
    options->addresses = (struct listen_addresses){.count = 1, .names = {name}};
}

static void default_is_one_port_on_both_loopbacks(void **state)
{
    (void)state;
    struct listen_options options = tcp_options();
    struct listeners listeners;
    assert_opens(&options, &listeners);
    assert_int_equal(listeners.count, has_ipv6() ? 2 : 1);
    assert_true(listeners.port != 0);
    for (unsigned i = 0; i < listeners.count; i++) {
        assert_true(is_loopback(listeners.fds[i]));
        assert_int_equal(port_of(listeners.fds[i]), listeners.port);
    }
    listen_close(&listeners);
    assert_uri_with_port(&options, "nbd://localhost");
}

static void ipv4_only(void **state)
{
    (void)state;
    struct listen_options options = tcp_options();
    struct listeners listeners;
    options.family = AF_INET;
    assert_opens(&options, &listeners);
    assert_int_equal(listeners.count, 1);
    assert_true(is_loopback(listeners.fds[0]));
    listen_close(&listeners);
    assert_uri_with_port(&options, "nbd://localhost");
    set_address(&options, "127.0.0.1");
    assert_uri_with_port(&options, "nbd://127.0.0.1");
    set_address(&options, "0.0.0.0");
    assert_uri_with_port(&options, "nbd://localhost");
    set_address(&options, "::1");
    assert_refuses(&options, 0, "address ::1");
}

/* One socket a place, and the Unix socket first. */
static void several_places(void **state)
{
    const struct folder *folder = *state;
    struct listen_options options = unix_options("s");
    struct listeners listeners;
    char uri[128];
    options.second = &socket_tcp;
    options.port = "0";
    options.addresses = (struct listen_addresses){
        .count = 4, .names = {"127.0.0.1", "127.0.0.2", "127.0.0.2", "127.0.0.3"}};
    assert_opens(&options, &listeners);
    assert_int_equal(listeners.count, 4);
    assert_int_equal(listeners.uri_count, 4);
    snprintf(uri, sizeof uri, "nbd+unix:///?socket=%s/s", folder->path);
    assert_string_equal(listeners.uris[0], uri);
    for (unsigned i = 1; i < 4; i++) {
        snprintf(uri, sizeof uri, "nbd://127.0.0.%u:%u/", i, listeners.port);
        assert_string_equal(listeners.uris[i], uri);
    }
    assert_int_equal(try_to_connect("s"), 0);
    listen_close(&listeners);
    assert_int_not_equal(try_to_connect("s"), 0);

    /* The wildcard receives the connections of the others, in whatever order they come. */
    options.kind = &socket_tcp;
    options.second = NULL;
    options.addresses = (struct listen_addresses){.count = 2, .names = {"127.0.0.1", "0.0.0.0"}};
    assert_opens(&options, &listeners);
    assert_int_equal(listeners.count, 1);
    assert_int_equal(listeners.uri_count, 1);
    listen_close(&listeners);

    /* Each place has to be there, and no socket stays. */
    options = unix_options("s");
    options.second = &socket_tcp;
    options.port = "0";
    options.addresses =
        (struct listen_addresses){.count = 2, .names = {"127.0.0.1", "192.0.2.1"}};
    assert_refuses(&options, -EADDRNOTAVAIL, "cannot listen on 192.0.2.1, port ");
    assert_int_equal(try_to_connect("s"), -ENOENT);
}

static void ipv6_only(void **state)
{
    (void)state;
    struct listen_options options = tcp_options();
    options.family = AF_INET6;
    if (!has_ipv6()) {
        assert_refuses(&options, 0, "::1");
        skip();
    }
    struct listeners listeners;
    assert_opens(&options, &listeners);
    assert_int_equal(listeners.count, 1);
    assert_true(is_loopback(listeners.fds[0]));
    listen_close(&listeners);
    assert_uri_with_port(&options, "nbd://[::1]");
    options.family = AF_UNSPEC;
    set_address(&options, "::1");
    assert_uri_with_port(&options, "nbd://[::1]");
    set_address(&options, "::");
    assert_uri_with_port(&options, "nbd://[::1]");
}

/* The wildcard of IPv6 does not accept clients of IPv4: else one port could not serve both. */
static void ipv6_wildcard_leaves_the_port_free_for_ipv4(void **state)
{
    (void)state;
    if (!has_ipv6())
        skip();
    struct listen_options options = tcp_options();
    struct listeners six, four;
    struct reason reason;
    char port[16];
    bool both = false;
    /* Several times: another program may have taken the port, but not every time. */
    for (int i = 0; i < 20 && !both; i++) {
        options.port = "0";
        set_address(&options, "::");
        assert_opens(&options, &six);
        snprintf(port, sizeof port, "%u", six.port);
        options.port = port;
        set_address(&options, "127.0.0.1");
        both = listen_open(&options, &four, &reason) == 0;
        if (both)
            listen_close(&four);
        listen_close(&six);
    }
    assert_true(both);
}

static void taken_port_is_refused(void **state)
{
    (void)state;
    struct listen_options options = tcp_options();
    struct listeners listeners;
    char port[16], words[64];
    assert_opens(&options, &listeners);
    snprintf(port, sizeof port, "%u", listeners.port);
    snprintf(words, sizeof words, "port %s: Address already in use", port);
    options.port = port;
    assert_refuses(&options, -EADDRINUSE, words);

    /* A port that is free on one of the addresses is not enough. */
    if (listeners.count == 2) {
        int taken = dup(listeners.fds[0]);
        struct sockaddr_storage address;
        socklen_t length = sizeof address;
        assert_int_equal(getsockname(taken, (struct sockaddr *)&address, &length), 0);
        listen_close(&listeners);
        assert_refuses(&options, -EADDRINUSE, words);
        close(taken);
    } else {
        listen_close(&listeners);
    }
}

static void impossible_ports_and_addresses_are_refused(void **state)
{
    (void)state;
    struct listen_options options = tcp_options();
    static const char *const too_large[] = {"65536", "99999", "4294967296",
                                            "18446744073709551617"};
    for (size_t i = 0; i < COUNT_OF(too_large); i++) {
        options.port = too_large[i];
        assert_refuses(&options, -EINVAL, "must be at most 65535");
    }
    options.port = "nosuchservice";
    assert_refuses(&options, 0, "port nosuchservice: ");
    options.port = "0";
    set_address(&options, "300.1.2.3");
    assert_refuses(&options, 0, "address 300.1.2.3, port 0: ");
    /* An address for documentation: no machine has it. */
    set_address(&options, "192.0.2.1");
    assert_refuses(&options, -EADDRNOTAVAIL, "cannot listen on 192.0.2.1, port 0: ");
}

static void vsock_takes_numbers_as_ports(void **state)
{
    (void)state;
    struct listen_options options = {.kind = &socket_vsock, .port = "0"};
    int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        assert_refuses(&options, -EAFNOSUPPORT, "no vsock");
        skip();
    }
    close(fd);
    assert_uri_with_port(&options, "nbd+vsock://1");
    options.is_tls_required = true;
    assert_uri_with_port(&options, "nbds+vsock://1");

    static const char *const bad[] = {"", "nbd", "-1", "4294967295", "1x"};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        options.port = bad[i];
        assert_refuses(&options, -EINVAL, "a number is needed");
    }
    struct listeners listeners;
    char port[16];
    options.port = "0";
    assert_opens(&options, &listeners);
    snprintf(port, sizeof port, "%u", listeners.port);
    options.port = port;
    assert_refuses(&options, -EADDRINUSE, port);
    listen_close(&listeners);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_IN_FOLDER(default_is_one_port_on_both_loopbacks),
        TEST_IN_FOLDER(ipv4_only),
        TEST_IN_FOLDER(several_places),
        TEST_IN_FOLDER(ipv6_only),
        TEST_IN_FOLDER(ipv6_wildcard_leaves_the_port_free_for_ipv4),
        TEST_IN_FOLDER(taken_port_is_refused),
        TEST_IN_FOLDER(impossible_ports_and_addresses_are_refused),
        TEST_IN_FOLDER(vsock_takes_numbers_as_ports),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
