/* SPDX-License-Identifier: BSD-3-Clause */

/* Unix sockets: which path is used, which file is replaced, and what is removed at the end. */

#include "support/child.h"
#include "support/file.h"
#include "support/listening.h"
#include "support/support.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "server/host/privileges.h"
#include "text/reason.h"

/* The longest path of a Unix socket, without the terminator. */
#define UNIX_PATH_LONGEST (sizeof(((struct sockaddr_un *)0)->sun_path) - 1)

static void unix_socket_is_opened_and_removed(void **state)
{
    const struct folder *folder = *state;
    struct listen_options options = unix_options("s");
    struct listeners listeners;
    char expected[128];
    int before = count_descriptors();
    assert_opens(&options, &listeners);
    assert_int_equal(listeners.count, 1);
    assert_int_equal(listeners.port, 0);
    assert_null(listeners.unix_dir);
    /* Absolute, so that the socket can be used and removed from another current folder. */
    snprintf(expected, sizeof expected, "%s/s", folder->path);
    assert_string_equal(listeners.unix_path, expected);
    snprintf(expected, sizeof expected, "nbd+unix:///?socket=%s/s", folder->path);
    assert_string_equal(listeners.uris[0], expected);
    assert_int_equal(try_to_connect("s"), 0);

    assert_int_equal(chdir("/"), 0);
    listen_close(&listeners);
    assert_int_equal(chdir(folder->path), 0);
    assert_false(file_exists("s"));
    assert_int_equal(count_descriptors(), before);
}

static void private_folder_is_made_and_removed(void **state)
{
    const struct folder *folder = *state;
    struct listen_options options = unix_options("-");
    struct listeners listeners;
    struct stat status;
    assert_opens(&options, &listeners);
    assert_int_equal(strncmp(listeners.unix_path, folder->path, strlen(folder->path)), 0);
    assert_non_null(listeners.unix_dir);
    assert_int_equal(stat(listeners.unix_dir, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0700);
    assert_int_equal(try_to_connect(listeners.unix_path), 0);

    struct listeners second;
    assert_opens(&options, &second);
    assert_string_not_equal(second.unix_path, listeners.unix_path);
    listen_close(&second);

    char private[128];
    snprintf(private, sizeof private, "%s", listeners.unix_dir);
    listen_close(&listeners);
    assert_false(file_exists(private));
}

/* /tmp is used instead. */
static void temporary_folder_too_deep_for_a_socket_is_not_used(void **state)
{
    (void)state;
    struct listen_options options = unix_options("-");
    struct listeners listeners;
    char deep[UNIX_PATH_LONGEST + 1];
    memset(deep, 'd', sizeof deep - 1);
    deep[0] = '/';
    deep[sizeof deep - 1] = '\0';
    setenv("TMPDIR", deep, 1);
    assert_opens(&options, &listeners);
    assert_int_equal(strncmp(listeners.unix_path, "/tmp/", 5), 0);
    listen_close(&listeners);
}

static void private_folder_belongs_to_the_user_of_the_server(void **state)
{
    const struct folder *folder = *state;
    if (geteuid() != 0)
        skip();
    struct listen_options options = unix_options("-");
    struct listeners listeners;
    struct stat status;
    struct user_names names = {.user = "65534", .group = "65533"};
    struct reason reason = {0};
    assert_opens(&options, &listeners);
    assert_int_equal(listen_give_away(&options, &listeners, &names, &reason), 0);
    assert_int_equal(stat(listeners.unix_dir, &status), 0);
    assert_int_equal(status.st_uid, 65534);
    assert_int_equal(status.st_gid, 65533);
    assert_int_equal(status.st_mode & 0777, 0700);
    assert_int_equal(lstat(listeners.unix_path, &status), 0);
    assert_int_equal(status.st_uid, 65534);
    names.user = "no-such-user";
    assert_int_equal(listen_give_away(&options, &listeners, &names, &reason), -EINVAL);
    assert_string_equal(reason.text, "no such user: no-such-user");
    names = (struct user_names){.group = "no-such-group"};
    assert_int_equal(listen_give_away(&options, &listeners, &names, &reason), -EINVAL);
    assert_string_equal(reason.text, "no such group: no-such-group");
    listen_close(&listeners);
    assert_true(file_exists(folder->path));
}

static void assert_file(const char *path, mode_t mode, uid_t user, gid_t group)
{
    struct stat status;
    assert_int_equal(lstat(path, &status), 0);
    assert_int_equal(status.st_mode & 0777, mode);
    assert_int_equal(status.st_uid, user);
    assert_int_equal(status.st_gid, group);
}

static void socket_has_the_mode_that_was_asked_for(void **state)
{
    (void)state;
    struct listen_options options = unix_options("s");
    struct listeners listeners;
    static const mode_t masks[] = {0, 022, 077};
    for (size_t i = 0; i < COUNT_OF(masks); i++) {
        mode_t before = umask(masks[i]);
        options.socket_mode = 0;
        assert_opens(&options, &listeners);
        assert_file("s", 0777 & ~masks[i], geteuid(), getegid());
        listen_close(&listeners);
        options.socket_mode = 0660;
        assert_opens(&options, &listeners);
        assert_file("s", 0660, geteuid(), getegid());
        listen_close(&listeners);
        assert_int_equal(umask(before), masks[i]);
    }
}

static void socket_belongs_to_the_user_of_the_server(void **state)
{
    (void)state;
    if (geteuid() != 0)
        skip();
    struct listen_options options = unix_options("s");
    struct listeners listeners;
    struct reason reason = {0};
    static const struct {
        const char *user, *group, *socket_group;
        uid_t uid;
        gid_t gid;
    } cases[] = {
        {NULL, NULL, NULL, 0, 0},
        {"65534", NULL, NULL, 65534, 0}, /* nobody else gets in by a group */
        {"65534", "65533", NULL, 65534, 65533},
        {NULL, "65533", NULL, 0, 65533},
        {"65534", "65533", "65532", 65534, 65532},
        {NULL, NULL, "65532", 0, 65532},
    };
    mode_t before = umask(007);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const struct user_names names = {cases[i].user, cases[i].group};
        options.socket_group = cases[i].socket_group;
        assert_opens(&options, &listeners);
        assert_int_equal(listen_give_away(&options, &listeners, &names, &reason), 0);
        assert_file("s", 0770, cases[i].uid, cases[i].gid);
        listen_close(&listeners);
        assert_false(file_exists("s"));
    }
    umask(before);
}

/* A stranger may write to the folder, and would like to own a file of root's. */
static void only_our_socket_is_given_away(void **state)
{
    (void)state;
    if (geteuid() != 0)
        skip();
    struct listen_options options = unix_options("s");
    const struct user_names names = {"65534", "65534"};
    struct listeners listeners;
    struct reason reason = {0};
    int other = foreign_socket("other", SOCK_STREAM);
    assert_opens(&options, &listeners);
    assert_int_equal(unlink("s") | link("other", "s"), 0);
    assert_int_equal(listen_give_away(&options, &listeners, &names, &reason), -ESTALE);
    assert_int_equal(unlink("s") | symlink("other", "s"), 0);
    assert_int_equal(listen_give_away(&options, &listeners, &names, &reason), -ESTALE);
    assert_int_equal(unlink("s"), 0);
    struct stat status;
    assert_int_equal(lstat("other", &status), 0);
    assert_int_equal(status.st_uid, 0);
    listen_close(&listeners);

    /* Our own, with a second name. */
    assert_opens(&options, &listeners);
    assert_int_equal(link("s", "link"), 0);
    assert_int_equal(listen_give_away(&options, &listeners, &names, &reason), -ESTALE);
    listen_close(&listeners);
    close(other);
}

static void leftover_is_replaced(void **state)
{
    (void)state;
    struct listen_options options = unix_options("s");
    struct listeners listeners;
    static const int types[] = {SOCK_STREAM, SOCK_SEQPACKET, SOCK_DGRAM};
    for (size_t i = 0; i < COUNT_OF(types); i++) {
        close(foreign_socket("s", types[i]));
        assert_true(file_exists("s"));
        assert_opens(&options, &listeners);
        assert_int_equal(try_to_connect("s"), 0);
        listen_close(&listeners);
        assert_false(file_exists("s"));
    }
}

static void live_socket_is_refused(void **state)
{
    (void)state;
    struct listen_options options = unix_options("s");
    static const int types[] = {SOCK_STREAM, SOCK_SEQPACKET, SOCK_DGRAM};
    for (size_t i = 0; i < COUNT_OF(types); i++) {
        int fd = foreign_socket("s", types[i]);
        assert_refuses(&options, -EADDRINUSE, "/s: another server is listening there");
        assert_true(file_exists("s"));
        if (types[i] == SOCK_STREAM)
            assert_int_equal(try_to_connect("s"), 0);
        close(fd);
        unlink("s");
    }

    struct listeners listeners;
    assert_opens(&options, &listeners);
    assert_refuses(&options, -EADDRINUSE, "another server");
    assert_int_equal(try_to_connect("s"), 0);
    listen_close(&listeners);
}

/* So many clients wait for the server to accept them that no more can connect. */
static void live_socket_with_full_queue_is_refused(void **state)
{
    (void)state;
    struct listen_options options = unix_options("s");
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "s"};
    int fd = foreign_socket("s", SOCK_STREAM), clients[16];
    assert_int_equal(listen(fd, 0), 0);
    size_t n = 0;
    int err = 0;
    while (err == 0 && n < COUNT_OF(clients)) {
        clients[n] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        err = connect(clients[n++], (struct sockaddr *)&address, sizeof address);
    }
    assert_int_equal(err, -1);
    assert_refuses(&options, -EADDRINUSE, "another server");
    while (n > 0)
        close(clients[--n]);
    close(fd);
}

static void files_that_are_no_sockets_are_refused(void **state)
{
    (void)state;
    struct listen_options options = unix_options("s");
    close(open("other", O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    assert_int_equal(link("other", "s"), 0);
    assert_refuses(&options, -ENOTSOCK, "not a socket");
    assert_true(file_exists("s"));
    unlink("s");

    assert_int_equal(mkdir("s", 0700), 0);
    assert_refuses(&options, -ENOTSOCK, "not a socket");
    rmdir("s");

    assert_int_equal(symlink("nowhere", "s"), 0);
    assert_refuses(&options, -ENOTSOCK, "not a socket");
    assert_true(file_exists("s"));

    options.unix_path = "folder/s";
    assert_refuses(&options, -ENOENT, "folder/s: ");
    options.unix_path = "";
    assert_refuses(&options, -EINVAL, "empty");
}

static void longest_path_works_and_longer_ones_are_refused(void **state)
{
    const struct folder *folder = *state;
    struct listen_options options;
    struct listeners listeners;
    char path[UNIX_PATH_LONGEST + 2];
    size_t start = (size_t)snprintf(path, sizeof path, "%s/", folder->path);
    memset(path + start, 'p', sizeof path - start);
    path[UNIX_PATH_LONGEST + 1] = '\0';
    options = unix_options(path);
    assert_refuses(&options, -ENAMETOOLONG, "107 bytes");
    /* Short as it is given, but the absolute path is too long. */
    options = unix_options(path + start);
    assert_refuses(&options, -ENAMETOOLONG, "107 bytes");

    path[UNIX_PATH_LONGEST] = '\0';
    options = unix_options(path + start);
    assert_opens(&options, &listeners);
    assert_int_equal(try_to_connect(path), 0);
    assert_non_null(strstr(listeners.uris[0], path));
    listen_close(&listeners);
    assert_false(file_exists(path));
}

/* Somebody removed our file and put another in its place, which is not ours to remove. */
static void close_leaves_files_of_others(void **state)
{
    (void)state;
    struct listen_options options = unix_options("s");
    struct listeners listeners;
    assert_opens(&options, &listeners);
    unlink("s");
    int fd = foreign_socket("s", SOCK_STREAM);
    listen_close(&listeners);
    assert_int_equal(try_to_connect("s"), 0);
    close(fd);
    unlink("s");

    assert_opens(&options, &listeners);
    unlink("s");
    close(open("s", O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    listen_close(&listeners);
    assert_true(file_exists("s"));
}

/* A copy of the descriptor, such as a child has that was just forked, does not keep the file in
 * place. */
static void close_removes_the_file_despite_copies_of_the_descriptor(void **state)
{
    (void)state;
    struct listen_options options = unix_options("s");
    struct listeners listeners;
    assert_opens(&options, &listeners);
    int copy = dup(listeners.fds[0]);
    assert_true(copy >= 0);
    listen_close(&listeners);
    assert_false(file_exists("s"));
    close(copy);
}

struct race {
    int go[2], result[2], end[2]; /* pipes */
};

/* In a child: open once `go` is closed, report whether it worked, and listen until `end` is
 * closed. */
static void compete(void *argument)
{
    const struct race *race = argument;
    struct listen_options options = unix_options("s");
    struct listeners listeners;
    struct reason reason;
    char byte;
    close(race->go[1]);
    close(race->end[1]);
    MUST(read(race->go[0], &byte, 1) == 0);
    char answer = listen_open(&options, &listeners, &reason) == 0 ? 'y' : 'n';
    MUST(write(race->result[1], &answer, 1) == 1 && read(race->end[0], &byte, 1) == 0);
    if (answer == 'y')
        listen_close(&listeners);
}

/* Several servers start at once over one leftover: exactly one gets the place, and can be
 * reached. */
static void one_of_several_rivals_wins(void **state)
{
    (void)state;
    enum { RIVALS = 6, ROUNDS = 100 };
    for (int round = 0; round < ROUNDS; round++) {
        struct race race;
        pid_t children[RIVALS];
        assert_int_equal(pipe(race.go) | pipe(race.result) | pipe(race.end), 0);
        close(foreign_socket("s", SOCK_STREAM));
        for (int i = 0; i < RIVALS; i++)
            children[i] = child_start(compete, &race);
        close(race.go[0]);
        close(race.end[0]);
        close(race.result[1]);
        close(race.go[1]);
        int winners = 0;
        for (int i = 0; i < RIVALS; i++) {
            char answer = '?';
            assert_int_equal(read(race.result[0], &answer, 1), 1);
            winners += answer == 'y';
        }
        assert_int_equal(winners, 1);
        assert_int_equal(try_to_connect("s"), 0);
        close(race.end[1]);
        close(race.result[0]);
        for (int i = 0; i < RIVALS; i++)
            assert_int_equal(child_wait(children[i]), 0);
        assert_false(file_exists("s"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_IN_FOLDER(unix_socket_is_opened_and_removed),
        TEST_IN_FOLDER(private_folder_is_made_and_removed),
        TEST_IN_FOLDER(temporary_folder_too_deep_for_a_socket_is_not_used),
        TEST_IN_FOLDER(private_folder_belongs_to_the_user_of_the_server),
        TEST_IN_FOLDER(socket_has_the_mode_that_was_asked_for),
        TEST_IN_FOLDER(socket_belongs_to_the_user_of_the_server),
        TEST_IN_FOLDER(only_our_socket_is_given_away),
        TEST_IN_FOLDER(leftover_is_replaced),
        TEST_IN_FOLDER(live_socket_is_refused),
        TEST_IN_FOLDER(live_socket_with_full_queue_is_refused),
        TEST_IN_FOLDER(files_that_are_no_sockets_are_refused),
        TEST_IN_FOLDER(longest_path_works_and_longer_ones_are_refused),
        TEST_IN_FOLDER(close_leaves_files_of_others),
        TEST_IN_FOLDER(close_removes_the_file_despite_copies_of_the_descriptor),
        TEST_IN_FOLDER(one_of_several_rivals_wins),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
