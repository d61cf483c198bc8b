/* SPDX-License-Identifier: BSD-3-Clause */

/* Sockets that a service manager opened and passed to us, and the descriptors of stdio. */

#include "support/child.h"
#include "support/file.h"
#include "support/listening.h"
#include "support/support.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/net/socket_kind.h"
#include "text/reason.h"

/* A process is passed the descriptors from 3 upwards, so each test runs in a child in which these
 * are free. */
static const struct listen_options activated = {.kind = &socket_activated};

static void take_over(void *argument)
{
    (void)argument;
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct listeners listeners;
    struct reason reason = {0};
    char expected[64];
    closefrom(3);
    MUST(socket(AF_INET, SOCK_STREAM, 0) == 3);
    MUST(bind(3, (struct sockaddr *)&address, sizeof address) == 0 && listen(3, 5) == 0);
    MUST(foreign_socket("s", SOCK_STREAM) == 4);
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
    MUST(strcmp(listeners.uris[0], expected) == 0);
    /* The file belongs to the service manager. */
    MUST(listeners.unix_path == NULL);
    listen_close(&listeners);
    MUST(file_exists("s"));
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

static void refuse_others(void *argument)
{
    (void)argument;
    static const char *const counts[] = {"", "0", "-1", "65", "1x", "4294967297"};
    closefrom(3);
    for (size_t i = 0; i < COUNT_OF(counts); i++)
        refuse_activation(counts[i], "must be a number from 1 to 64");
    refuse_activation("1", "descriptor 3, which LISTEN_FDS passes, is not open");
    MUST(open("/dev/null", O_RDWR) == 3);
    refuse_activation("1", "descriptor 3, which LISTEN_FDS passes, is not a listening");
    close(3);
    MUST(socket(AF_UNIX, SOCK_STREAM, 0) == 3);
    refuse_activation("1", "is not a listening stream socket");
    close(3);
    MUST(foreign_socket("s", SOCK_SEQPACKET) == 3);
    refuse_activation("1", "is not a listening stream socket");
    close(3);
    MUST(foreign_socket("other", SOCK_STREAM) == 3);
    refuse_activation("2", "descriptor 4");
    /* Descriptors that are refused stay open: they are not ours to close. */
    MUST(fcntl(3, F_GETFD) >= 0);
}

static void passed_sockets_are_taken_over(void **state)
{
    (void)state;
    child_run(take_over, NULL);
}

static void unfit_descriptors_are_refused(void **state)
{
    (void)state;
    child_run(refuse_others, NULL);
}

static void listen_on_pipes(void *argument)
{
    struct listen_options options = {.kind = &socket_stdio};
    struct listeners listeners;
    struct reason reason = {0};
    int pipes[2];
    (void)argument;
    MUST(pipe(pipes) == 0 && dup2(pipes[0], 0) == 0 && dup2(pipes[1], 1) == 1);
    int before = count_descriptors();
    MUST(listen_open(&options, &listeners, &reason) == 0);
    MUST(listeners.count == 0 && !listeners.uris[0]);
    listen_close(&listeners);
    MUST(count_descriptors() == before);
}

static void stdio_opens_nothing(void **state)
{
    (void)state;
    child_run(listen_on_pipes, NULL);
}

static void listen_on_devices(void *argument)
{
    struct listen_options options = {.kind = &socket_stdio};
    struct listeners listeners;
    struct reason reason = {0};
    int pipes[2];
    (void)argument;
    MUST(pipe(pipes) == 0 && dup2(pipes[0], 0) == 0);
    MUST(dup2(open("/dev/null", O_WRONLY), 1) == 1);
    MUST(listen_open(&options, &listeners, &reason) == -EPERM);
    MUST(strstr(reason.text, "standard output is a file or a device"));
    MUST(dup2(1, 0) == 0);
    MUST(listen_open(&options, &listeners, &reason) == -EPERM);
    MUST(strstr(reason.text, "standard input is a file or a device"));
}

static void stdio_must_be_something_to_wait_for(void **state)
{
    (void)state;
    child_run(listen_on_devices, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_IN_FOLDER(passed_sockets_are_taken_over),
        TEST_IN_FOLDER(unfit_descriptors_are_refused),
        TEST_IN_FOLDER(stdio_opens_nothing),
        TEST_IN_FOLDER(stdio_must_be_something_to_wait_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
