/* SPDX-License-Identifier: BSD-3-Clause */

#include "support/listening.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "server/net/socket_kind.h"
#include "support/support.h"
#include "text/reason.h"

struct listen_options tcp_options(void)
{
    return (struct listen_options){.kind = &socket_tcp, .port = "0", .family = AF_UNSPEC};
}

struct listen_options unix_options(const char *path)
{
    return (struct listen_options){.kind = &socket_unix, .unix_path = path};
}

void assert_opens(const struct listen_options *options, struct listeners *listeners)
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
    assert_non_null(listeners->uris[0]);
}

void assert_refuses(const struct listen_options *options, int expected, const char *words)
{
    struct listeners listeners;
    struct reason reason;
    memset(&reason, '#', sizeof reason);
    int before = count_descriptors();
    int err = listen_open(options, &listeners, &reason);
    if (err == 0)
        fail_msg("not refused; the reason should have '%s' in it", words);
    if (expected != 0)
        assert_int_equal(err, expected);
    assert_true(err < 0);
    assert_non_null(memchr(reason.text, '\0', sizeof reason.text));
    assert_null(strchr(reason.text, '\n'));
    if (!strstr(reason.text, words))
        fail_msg("'%s' does not say '%s'", reason.text, words);
    assert_int_equal(count_descriptors(), before);
    assert_int_equal(listeners.count, 0);
    assert_null(listeners.unix_path);
}

void assert_uri_with_port(const struct listen_options *options, const char *start)
{
    struct listeners listeners;
    char expected[128];
    assert_opens(options, &listeners);
    snprintf(expected, sizeof expected, "%s:%u/", start, listeners.port);
    assert_string_equal(listeners.uris[0], expected);
    listen_close(&listeners);
}

int count_descriptors(void)
{
    int n = 0;
    DIR *folder = opendir("/proc/self/fd");
    assert_non_null(folder);
    while (readdir(folder))
        n++;
    closedir(folder);
    return n;
}

int foreign_socket(const char *path, int type)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
    int err = fd < 0 ? -1 : bind(fd, (struct sockaddr *)&address, sizeof address);
    if (err == 0 && type != SOCK_DGRAM)
        err = listen(fd, 5);
    if (err == 0)
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

int try_to_connect(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    int err = connect(fd, (struct sockaddr *)&address, sizeof address) < 0 ? -errno : 0;
    close(fd);
    return err;
}

int listening_leave_folder(void **state)
{
    return folder_leave(state, (const char *const[]){"s", "other", "link", "folder", NULL});
}
