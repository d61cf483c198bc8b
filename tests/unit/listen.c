/* SPDX-License-Identifier: BSD-3-Clause */

/* listen_open and listen_close: what is opened, what is refused and with which line, what is left
 * behind (nothing), and how it is named.  Each test has an empty folder of its own. */

#include "support/folder.h"
#include "support/support.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "server/host/privileges.h"
#include "server/net/listen.h"
#include "server/net/socket_kind.h"
#include "text/reason.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* The longest path of a Unix socket, without the terminator. */
#define UNIX_PATH_LONGEST (sizeof(((struct sockaddr_un *)0)->sun_path) - 1)

static int leave_folder(void **state)
{
    return folder_leave(state, (const char *const[]){"s", "other", "link", "folder", NULL});
}

static bool exists(const char *path)
{
    struct stat status;
    return lstat(path, &status) == 0;
}

static int open_descriptors(void)
{
    int n = 0;
    DIR *folder = opendir("/proc/self/fd");
    assert_non_null(folder);
    while (readdir(folder))
        n++;
    closedir(folder);
    return n;
}

static struct listen_options tcp(void)
{
    return (struct listen_options){.kind = &socket_tcp, .port = "0", .family = AF_UNSPEC};
}

static struct listen_options unix_at(const char *path)
{
    return (struct listen_options){.kind = &socket_unix, .unix_path = path};
}

/* Open, and check what is so of all sockets. */
static void opens(const struct listen_options *options, struct listeners *listeners)
{
    struct reason reason = {0};
    int err = listen_open(options, listeners, &reason);
    if (err)
        fail_msg("%d: %s", err, reason.text);
    assert_true(listeners->count >= 1);
    for (unsigned i = 0; i < listeners->count; i++) {
        int listening = 0;
        socklen_t length = sizeof listening;
        int fd = listeners->fds[i];
        assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &length), 0);
        assert_true(listening);
        assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
        assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
    }
    assert_non_null(listeners->uri);
    assert_string_equal(listeners->nbd, listeners->uri);
}

/* Refused with this error and one line that has these words in it; nothing is left. */
static void refuses(const struct listen_options *options, int expected, const char *words)
{
    struct listeners listeners;
    struct reason reason;
    memset(&reason, '#', sizeof reason);
    int before = open_descriptors();
    int err = listen_open(options, &listeners, &reason);
    if (err == 0)
        fail_msg("not refused; it should say '%s'", words);
    if (expected != 0)
        assert_int_equal(err, expected);
    assert_true(err < 0);
    assert_non_null(memchr(reason.text, '\0', sizeof reason.text));
    assert_null(strchr(reason.text, '\n'));
    if (!strstr(reason.text, words))
        fail_msg("'%s' does not say '%s'", reason.text, words);
    assert_int_equal(open_descriptors(), before);
    assert_int_equal(listeners.count, 0);
    assert_null(listeners.unix_path);
}

static int connect_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    int err = connect(fd, (struct sockaddr *)&address, sizeof address) < 0 ? -errno : 0;
    close(fd);
    return err;
}

/* A socket of somebody else's; closing it makes the file a leftover. */
static int bound_socket(const char *path, int type)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    if (type != SOCK_DGRAM)
        assert_int_equal(listen(fd, 5), 0);
    return fd;
}

static void unix_socket(void **state)
{
    const struct folder *folder = *state;
    struct listen_options options = unix_at("s");
    struct listeners listeners;
    char expected[128];
    int before = open_descriptors();
    opens(&options, &listeners);
    assert_int_equal(listeners.count, 1);
    assert_int_equal(listeners.port, 0);
    assert_null(listeners.unix_dir);
    /* Absolute: whoever goes to another folder can still use and remove it. */
    snprintf(expected, sizeof expected, "%s/s", folder->path);
    assert_string_equal(listeners.unix_path, expected);
    snprintf(expected, sizeof expected, "nbd+unix:///?socket=%s/s", folder->path);
    assert_string_equal(listeners.uri, expected);
    assert_int_equal(connect_to("s"), 0);

    assert_int_equal(chdir("/"), 0);
    listen_close(&listeners);
    assert_int_equal(chdir(folder->path), 0);
    assert_false(exists("s"));
    assert_int_equal(open_descriptors(), before);
}

static void private_folder(void **state)
{
    const struct folder *folder = *state;
    struct listen_options options = unix_at("-");
    struct listeners listeners;
    struct stat status;
    opens(&options, &listeners);
    assert_int_equal(strncmp(listeners.unix_path, folder->path, strlen(folder->path)), 0);
    assert_non_null(listeners.unix_dir);
    assert_int_equal(stat(listeners.unix_dir, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0700);
    assert_int_equal(connect_to(listeners.unix_path), 0);

    struct listeners second;
    opens(&options, &second);
    assert_string_not_equal(second.unix_path, listeners.unix_path);
    listen_close(&second);

    char private[128];
    snprintf(private, sizeof private, "%s", listeners.unix_dir);
    listen_close(&listeners);
    assert_false(exists(private));
}

/* A temporary folder too deep for the path of a socket is no reason to fail. */
static void private_folder_too_deep(void **state)
{
    (void)state;
    struct listen_options options = unix_at("-");
    struct listeners listeners;
    char deep[UNIX_PATH_LONGEST + 1];
    memset(deep, 'd', sizeof deep - 1);
    deep[0] = '/';
    deep[sizeof deep - 1] = '\0';
    setenv("TMPDIR", deep, 1);
    opens(&options, &listeners);
    assert_int_equal(strncmp(listeners.unix_path, "/tmp/", 5), 0);
    listen_close(&listeners);
}

static void leftover_is_replaced(void **state)
{
    (void)state;
    struct listen_options options = unix_at("s");
    struct listeners listeners;
    static const int types[] = {SOCK_STREAM, SOCK_SEQPACKET, SOCK_DGRAM};
    for (size_t i = 0; i < COUNT(types); i++) {
        close(bound_socket("s", types[i]));
        assert_true(exists("s"));
        opens(&options, &listeners);
        assert_int_equal(connect_to("s"), 0);
        listen_close(&listeners);
        assert_false(exists("s"));
    }
}

static void live_is_refused(void **state)
{
    (void)state;
    struct listen_options options = unix_at("s");
    static const int types[] = {SOCK_STREAM, SOCK_SEQPACKET, SOCK_DGRAM};
    for (size_t i = 0; i < COUNT(types); i++) {
        int fd = bound_socket("s", types[i]);
        refuses(&options, -EADDRINUSE, "/s: another server is listening there");
        assert_true(exists("s"));
        if (types[i] == SOCK_STREAM)
            assert_int_equal(connect_to("s"), 0);
        close(fd);
        unlink("s");
    }

    struct listeners listeners;
    opens(&options, &listeners);
    refuses(&options, -EADDRINUSE, "another server");
    assert_int_equal(connect_to("s"), 0);
    listen_close(&listeners);
}

/* Even if it has so many clients waiting that no more can connect. */
static void live_and_busy_is_refused(void **state)
{
    (void)state;
    struct listen_options options = unix_at("s");
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "s"};
    int fd = bound_socket("s", SOCK_STREAM), clients[16];
    assert_int_equal(listen(fd, 0), 0);
    size_t n = 0;
    int err = 0;
    while (err == 0 && n < COUNT(clients)) {
        clients[n] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        err = connect(clients[n++], (struct sockaddr *)&address, sizeof address);
    }
    assert_int_equal(err, -1);
    refuses(&options, -EADDRINUSE, "another server");
    while (n > 0)
        close(clients[--n]);
    close(fd);
}

static void other_files_are_refused(void **state)
{
    (void)state;
    struct listen_options options = unix_at("s");
    close(open("other", O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    assert_int_equal(link("other", "s"), 0);
    refuses(&options, -ENOTSOCK, "no socket");
    assert_true(exists("s"));
    unlink("s");

    assert_int_equal(mkdir("s", 0700), 0);
    refuses(&options, -ENOTSOCK, "no socket");
    rmdir("s");

    assert_int_equal(symlink("nowhere", "s"), 0);
    refuses(&options, -ENOTSOCK, "no socket");
    assert_true(exists("s"));

    options.unix_path = "folder/s";
    refuses(&options, -ENOENT, "folder/s: ");
    options.unix_path = "";
    refuses(&options, -EINVAL, "empty");
}

static void long_paths(void **state)
{
    const struct folder *folder = *state;
    struct listen_options options;
    struct listeners listeners;
    char path[UNIX_PATH_LONGEST + 2];
    size_t start = (size_t)snprintf(path, sizeof path, "%s/", folder->path);
    memset(path + start, 'p', sizeof path - start);
    path[UNIX_PATH_LONGEST + 1] = '\0';
    options = unix_at(path);
    refuses(&options, -ENAMETOOLONG, "107 bytes");
    /* Short as typed, too long as others would have to. */
    options = unix_at(path + start);
    refuses(&options, -ENAMETOOLONG, "107 bytes");

    path[UNIX_PATH_LONGEST] = '\0';
    options = unix_at(path + start);
    opens(&options, &listeners);
    assert_int_equal(connect_to(path), 0);
    assert_non_null(strstr(listeners.uri, path));
    listen_close(&listeners);
    assert_false(exists(path));
}

/* Our file was removed by hand, and another server has come: its file is not ours. */
static void close_leaves_others(void **state)
{
    (void)state;
    struct listen_options options = unix_at("s");
    struct listeners listeners;
    opens(&options, &listeners);
    unlink("s");
    int fd = bound_socket("s", SOCK_STREAM);
    listen_close(&listeners);
    assert_int_equal(connect_to("s"), 0);
    close(fd);
    unlink("s");

    opens(&options, &listeners);
    unlink("s");
    close(open("s", O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    listen_close(&listeners);
    assert_true(exists("s"));
}

/* Whoever still has a copy of the descriptor, such as a child just forked, does not keep the
 * file in place. */
static void close_despite_copies(void **state)
{
    (void)state;
    struct listen_options options = unix_at("s");
    struct listeners listeners;
    opens(&options, &listeners);
    int copy = dup(listeners.fds[0]);
    assert_true(copy >= 0);
    listen_close(&listeners);
    assert_false(exists("s"));
    close(copy);
}

/* In a child: open when all may, tell whether it worked, and keep it until told. */
static void rival(int go, int result, int end)
{
    struct listen_options options = unix_at("s");
    struct listeners listeners;
    struct reason reason;
    char byte;
    if (read(go, &byte, 1) != 0)
        _exit(2);
    char answer = listen_open(&options, &listeners, &reason) == 0 ? 'y' : 'n';
    if (write(result, &answer, 1) != 1 || read(end, &byte, 1) != 0)
        _exit(2);
    if (answer == 'y')
        listen_close(&listeners);
    _exit(0);
}

/* Several start at once over one leftover: exactly one gets the place, and can be reached. */
static void rivals(void **state)
{
    (void)state;
    enum { RIVALS = 6, ROUNDS = 100 };
    for (int round = 0; round < ROUNDS; round++) {
        int go[2], result[2], end[2];
        assert_int_equal(pipe(go) | pipe(result) | pipe(end), 0);
        close(bound_socket("s", SOCK_STREAM));
        for (int i = 0; i < RIVALS; i++) {
            pid_t child = fork();
            assert_true(child >= 0);
            if (child == 0) {
                close(go[1]);
                close(end[1]);
                rival(go[0], result[1], end[0]);
            }
        }
        close(go[0]);
        close(end[0]);
        close(result[1]);
        close(go[1]);
        int winners = 0;
        for (int i = 0; i < RIVALS; i++) {
            char answer = '?';
            assert_int_equal(read(result[0], &answer, 1), 1);
            winners += answer == 'y';
        }
        assert_int_equal(winners, 1);
        assert_int_equal(connect_to("s"), 0);
        close(end[1]);
        close(result[0]);
        for (int i = 0; i < RIVALS; i++) {
            int status = -1;
            assert_true(wait(&status) > 0);
            assert_int_equal(status, 0);
        }
        assert_false(exists("s"));
    }
}

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

/* The URI is this, and the port. */
static void tcp_uri(const struct listen_options *options, const char *start)
{
    struct listeners listeners;
    char expected[128];
    opens(options, &listeners);
    snprintf(expected, sizeof expected, "%s:%u/", start, listeners.port);
    assert_string_equal(listeners.uri, expected);
    listen_close(&listeners);
}

static void tcp_loopback(void **state)
{
    (void)state;
    struct listen_options options = tcp();
    struct listeners listeners;
    opens(&options, &listeners);
    assert_int_equal(listeners.count, has_ipv6() ? 2 : 1);
    assert_true(listeners.port != 0);
    for (unsigned i = 0; i < listeners.count; i++) {
        assert_true(is_loopback(listeners.fds[i]));
        assert_int_equal(port_of(listeners.fds[i]), listeners.port);
    }
    listen_close(&listeners);
    tcp_uri(&options, "nbd://localhost");
}

static void tcp_version_4(void **state)
{
    (void)state;
    struct listen_options options = tcp();
    struct listeners listeners;
    options.family = AF_INET;
    opens(&options, &listeners);
    assert_int_equal(listeners.count, 1);
    assert_true(is_loopback(listeners.fds[0]));
    listen_close(&listeners);
    tcp_uri(&options, "nbd://localhost");
    options.address = "127.0.0.1";
    tcp_uri(&options, "nbd://127.0.0.1");
    options.address = "0.0.0.0";
    tcp_uri(&options, "nbd://localhost");
    options.address = "::1";
    refuses(&options, 0, "address ::1");
}

static void tcp_version_6(void **state)
{
    (void)state;
    struct listen_options options = tcp();
    options.family = AF_INET6;
    if (!has_ipv6()) {
        refuses(&options, 0, "::1");
        skip();
    }
    struct listeners listeners;
    opens(&options, &listeners);
    assert_int_equal(listeners.count, 1);
    assert_true(is_loopback(listeners.fds[0]));
    listen_close(&listeners);
    tcp_uri(&options, "nbd://[::1]");
    options.family = AF_UNSPEC;
    options.address = "::1";
    tcp_uri(&options, "nbd://[::1]");
    options.address = "::";
    tcp_uri(&options, "nbd://[::1]");
}

/* IPv6's wildcard does not take IPv4's clients along, or both could not be had on one port. */
static void tcp_version_6_only(void **state)
{
    (void)state;
    if (!has_ipv6())
        skip();
    struct listen_options options = tcp();
    struct listeners six, four;
    struct reason reason;
    char port[16];
    bool both = false;
    /* More than once: the port may be taken by somebody else, but not again and again. */
    for (int i = 0; i < 20 && !both; i++) {
        options.port = "0";
        options.address = "::";
        opens(&options, &six);
        snprintf(port, sizeof port, "%u", six.port);
        options.port = port;
        options.address = "127.0.0.1";
        both = listen_open(&options, &four, &reason) == 0;
        if (both)
            listen_close(&four);
        listen_close(&six);
    }
    assert_true(both);
}

static void tcp_port_taken(void **state)
{
    (void)state;
    struct listen_options options = tcp();
    struct listeners listeners;
    char port[16], words[64];
    opens(&options, &listeners);
    snprintf(port, sizeof port, "%u", listeners.port);
    snprintf(words, sizeof words, "port %s: Address already in use", port);
    options.port = port;
    refuses(&options, -EADDRINUSE, words);

    /* Free on one of the addresses is not enough. */
    if (listeners.count == 2) {
        int keep = dup(listeners.fds[0]);
        struct sockaddr_storage address;
        socklen_t length = sizeof address;
        assert_int_equal(getsockname(keep, (struct sockaddr *)&address, &length), 0);
        listen_close(&listeners);
        refuses(&options, -EADDRINUSE, words);
        close(keep);
    } else {
        listen_close(&listeners);
    }
}

static void tcp_refused(void **state)
{
    (void)state;
    struct listen_options options = tcp();
    static const char *const too_large[] = {"65536", "99999", "4294967296",
                                            "18446744073709551617"};
    for (size_t i = 0; i < COUNT(too_large); i++) {
        options.port = too_large[i];
        refuses(&options, -EINVAL, "must be at most 65535");
    }
    options.port = "nosuchservice";
    refuses(&options, 0, "port nosuchservice: ");
    options.port = "0";
    options.address = "300.1.2.3";
    refuses(&options, 0, "address 300.1.2.3, port 0: ");
    /* For documentation: no machine has it. */
    options.address = "192.0.2.1";
    refuses(&options, -EADDRNOTAVAIL, "cannot listen on 192.0.2.1, port 0: ");
}

static void vsock(void **state)
{
    (void)state;
    struct listen_options options = {.kind = &socket_vsock, .port = "0"};
    int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        refuses(&options, -EAFNOSUPPORT, "no vsock");
        skip();
    }
    close(fd);
    tcp_uri(&options, "nbd+vsock://1");
    options.is_tls_required = true;
    tcp_uri(&options, "nbds+vsock://1");

    static const char *const bad[] = {"", "nbd", "-1", "4294967295", "1x"};
    for (size_t i = 0; i < COUNT(bad); i++) {
        options.port = bad[i];
        refuses(&options, -EINVAL, "a number is needed");
    }
    struct listeners listeners;
    char port[16];
    options.port = "0";
    opens(&options, &listeners);
    snprintf(port, sizeof port, "%u", listeners.port);
    options.port = port;
    refuses(&options, -EADDRINUSE, port);
    listen_close(&listeners);
}

static void stdio(void **state)
{
    (void)state;
    struct listen_options options = {.kind = &socket_stdio};
    struct listeners listeners;
    struct reason reason;
    int before = open_descriptors();
    assert_int_equal(listen_open(&options, &listeners, &reason), 0);
    assert_int_equal(listeners.count, 0);
    assert_null(listeners.uri);
    listen_close(&listeners);
    assert_int_equal(open_descriptors(), before);
}

/* A name that a client sends is free text: in the URI, nothing of it may mean anything. */
static void export_names(void **state)
{
    const struct folder *folder = *state;
    static const struct {
        const char *name, *encoded;
    } cases[] = {
        {NULL, ""},
        {"", ""},
        {"disk", "disk"},
        {"/disk", "/disk"},
        {"a/b/../c", "a/b/../c"},
        {"hello world", "hello%20world"},
        {"100%", "100%25"},
        {"?socket=/etc", "%3Fsocket%3D/etc"},
        {"a#b&c;d+e:f@g", "a%23b%26c%3Bd%2Be%3Af%40g"},
        {"'\"`$(x)\\", "%27%22%60%24%28x%29%5C"},
        {"\xc3\xa9\xff\x01\n", "%C3%A9%FF%01%0A"},
        {"-._~09AZaz", "-._~09AZaz"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct listen_options options = unix_at("s");
        struct listeners listeners;
        char expected[256];
        options.export_name = cases[i].name;
        opens(&options, &listeners);
        snprintf(expected, sizeof expected, "nbd+unix:///%s?socket=%s/s", cases[i].encoded,
                 folder->path);
        assert_string_equal(listeners.uri, expected);
        listen_close(&listeners);

        options.kind = &socket_tcp;
        options.port = "0";
        snprintf(expected, sizeof expected, "/%s", cases[i].encoded);
        opens(&options, &listeners);
        const char *slash = strchr(listeners.uri + strlen("nbd://"), '/');
        assert_non_null(slash);
        assert_string_equal(slash, expected);
        listen_close(&listeners);
    }
}

static void encoded_path(void **state)
{
    const struct folder *folder = *state;
    assert_int_equal(mkdir("folder", 0700), 0);
    struct listen_options options = unix_at("folder/a b&c#?%");
    struct listeners listeners;
    char expected[256];
    opens(&options, &listeners);
    snprintf(expected, sizeof expected, "nbd+unix:///?socket=%s/folder/a%%20b%%26c%%23%%3F%%25",
             folder->path);
    assert_string_equal(listeners.uri, expected);
    listen_close(&listeners);
}

static void tls_uri(void **state)
{
    (void)state;
    struct listen_options options = tcp();
    options.is_tls_required = false;
    tcp_uri(&options, "nbd://localhost");
    options.is_tls_required = true;
    tcp_uri(&options, "nbds://localhost");

    struct listeners listeners;
    options = unix_at("s");
    options.is_tls_required = true;
    opens(&options, &listeners);
    assert_int_equal(strncmp(listeners.uri, "nbds+unix:///?socket=/", 22), 0);
    listen_close(&listeners);
}

/* Descriptors from 3 on are passed to a process, so it takes one.  In the child, an answer that
 * is not true ends it with the line's number. */
#define MUST(condition)                                                                          \
    do {                                                                                         \
        if (!(condition)) {                                                                      \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                      \
            _exit(1);                                                                            \
        }                                                                                        \
    } while (0)

static const struct listen_options activated = {.kind = &socket_activated};

static void in_child(void (*function)(void))
{
    int status = -1;
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        closefrom(3);
        function();
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void take_over(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct listeners listeners;
    struct reason reason = {0};
    char expected[64];
    MUST(socket(AF_INET, SOCK_STREAM, 0) == 3);
    MUST(bind(3, (struct sockaddr *)&address, sizeof address) == 0 && listen(3, 5) == 0);
    MUST(bound_socket("s", SOCK_STREAM) == 4);
    MUST(fcntl(4, F_SETFD, 0) == 0);
    setenv("LISTEN_FDS", "2", 1);
    setenv("LISTEN_FDNAMES", "a:b", 1);
    setenv("LISTEN_PID", "1", 1);
    MUST(listen_open(&activated, &listeners, &reason) == 0);
    MUST(!getenv("LISTEN_FDS") && !getenv("LISTEN_PID") && !getenv("LISTEN_FDNAMES"));
    MUST(listeners.count == 2 && listeners.fds[0] == 3 && listeners.fds[1] == 4);
    for (int fd = 3; fd <= 4; fd++) {
        MUST(fcntl(fd, F_GETFD) & FD_CLOEXEC);
        MUST(fcntl(fd, F_GETFL) & O_NONBLOCK);
    }
    socklen_t length = sizeof address;
    MUST(getsockname(3, (struct sockaddr *)&address, &length) == 0);
    snprintf(expected, sizeof expected, "nbd://127.0.0.1:%u/", ntohs(address.sin_port));
    MUST(strcmp(listeners.uri, expected) == 0);
    /* The file is the service manager's. */
    MUST(listeners.unix_path == NULL);
    listen_close(&listeners);
    MUST(exists("s"));
    MUST(fcntl(3, F_GETFD) < 0 && fcntl(4, F_GETFD) < 0);
}

static void refuse_activation(const char *count, const char *words)
{
    struct listeners listeners;
    struct reason reason = {0};
    setenv("LISTEN_FDS", count, 1);
    MUST(listen_open(&activated, &listeners, &reason) < 0);
    if (!strstr(reason.text, words))
        fprintf(stderr, "'%s' does not say '%s'\n", reason.text, words);
    MUST(strstr(reason.text, words) && !strchr(reason.text, '\n'));
    MUST(!getenv("LISTEN_FDS"));
}

static void refuse_others(void)
{
    static const char *const counts[] = {"", "0", "-1", "65", "1x", "4294967297"};
    for (size_t i = 0; i < COUNT(counts); i++)
        refuse_activation(counts[i], "must be a number from 1 to 64");
    refuse_activation("1", "descriptor 3, which LISTEN_FDS passes, is not open");
    MUST(open("/dev/null", O_RDWR) == 3);
    refuse_activation("1", "descriptor 3, which LISTEN_FDS passes, is no listening");
    close(3);
    MUST(socket(AF_UNIX, SOCK_STREAM, 0) == 3);
    refuse_activation("1", "is no listening stream socket");
    close(3);
    MUST(bound_socket("s", SOCK_SEQPACKET) == 3);
    refuse_activation("1", "is no listening stream socket");
    close(3);
    MUST(bound_socket("other", SOCK_STREAM) == 3);
    refuse_activation("2", "descriptor 4");
    /* What was passed is not ours to close if we do not take it. */
    MUST(fcntl(3, F_GETFD) >= 0);
}

static void activation(void **state)
{
    (void)state;
    in_child(take_over);
}

static void activation_refused(void **state)
{
    (void)state;
    in_child(refuse_others);
}

static void give_away_private(void **state)
{
    const struct folder *folder = *state;
    if (geteuid() != 0)
        skip();
    struct listen_options options = unix_at("-");
    struct listeners listeners;
    struct stat status;
    struct user_names names = {.user = "65534", .group = "65533"};
    struct reason reason = {0};
    opens(&options, &listeners);
    assert_int_equal(listen_give_away(&listeners, &names, &reason), 0);
    assert_int_equal(stat(listeners.unix_dir, &status), 0);
    assert_int_equal(status.st_uid, 65534);
    assert_int_equal(status.st_gid, 65533);
    assert_int_equal(status.st_mode & 0777, 0700);
    assert_int_equal(lstat(listeners.unix_path, &status), 0);
    assert_int_equal(status.st_uid, 65534);
    names.user = "no-such-user";
    assert_int_equal(listen_give_away(&listeners, &names, &reason), -EINVAL);
    assert_string_equal(reason.text, "no such user: no-such-user");
    names = (struct user_names){.group = "no-such-group"};
    assert_int_equal(listen_give_away(&listeners, &names, &reason), -EINVAL);
    assert_string_equal(reason.text, "no such group: no-such-group");
    listen_close(&listeners);
    assert_true(exists(folder->path));
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, folder_enter, leave_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(unix_socket),
        TEST(private_folder),
        TEST(private_folder_too_deep),
        TEST(leftover_is_replaced),
        TEST(live_is_refused),
        TEST(live_and_busy_is_refused),
        TEST(other_files_are_refused),
        TEST(long_paths),
        TEST(close_leaves_others),
        TEST(close_despite_copies),
        TEST(rivals),
        TEST(tcp_loopback),
        TEST(tcp_version_4),
        TEST(tcp_version_6),
        TEST(tcp_version_6_only),
        TEST(tcp_port_taken),
        TEST(tcp_refused),
        TEST(vsock),
        TEST(stdio),
        TEST(export_names),
        TEST(encoded_path),
        TEST(tls_uri),
        TEST(activation),
        TEST(activation_refused),
        TEST(give_away_private),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
