/* SPDX-License-Identifier: BSD-3-Clause */

/* A server in the background: when the process that launched it ends, and how either end ends
 * without the other. */

#include "support/child.h"
#include "support/file.h"
#include "support/folder.h"
#include "support/support.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "server/host/background.h"
#include "server/host/log.h"
#include "server/host/parent_death.h"
#include "server/host/pidfile.h"
#include "server/host/privileges.h"
#include "text/reason.h"

/* Not root. */
#define OTHER "65534"

static int leave_folder(void **state)
{
    return folder_leave(state, (const char *const[]){"out", "pid", NULL});
}

struct launch {
    int report;      /* the daemon writes its number there */
    int end;         /* the daemon stays until the other end of this pipe is closed */
    int end_of_ours; /* that end, which the daemon closes */
    enum { GETS_READY, KEEPS_ERRORS, FAILS, IS_KILLED, STAYS } behaviour;
};

static bool is_null_device(int fd)
{
    struct stat status, null;
    return fstat(fd, &status) == 0 && stat("/dev/null", &null) == 0 &&
           status.st_rdev == null.st_rdev && S_ISCHR(status.st_mode);
}

static void as_daemon(void *argument)
{
    const struct launch *launch = argument;
    struct reason reason = {0};
    char folder[64] = "", byte;
    close(launch->end_of_ours);
    printf("said before\n");
    /* As a server that takes signals from a descriptor. */
    sigset_t taken, none;
    sigemptyset(&none);
    sigemptyset(&taken);
    sigaddset(&taken, SIGINT);
    sigaddset(&taken, SIGTERM);
    sigprocmask(SIG_BLOCK, &taken, NULL);
    struct pidfile pidfile;
    struct background background = {.is_awaited = false};
    MUST(pidfile_open(&pidfile, "pid", &reason) == 0);
    MUST(background_enter(&background, &reason) == 0);
    /* The launcher does not come back from background_enter: this is the daemon. */
    MUST(getsid(0) == getpid());
    MUST(getcwd(folder, sizeof folder) && strcmp(folder, "/") == 0);
    MUST(is_null_device(0) && !is_null_device(1) && !is_null_device(2));
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (launch->behaviour == FAILS) {
        static struct logger log;
        log_init(&log);
        log_error(&log, "no reason");
        log_close(&log);
        exit(7);
    }
    if (launch->behaviour == IS_KILLED)
        raise(SIGKILL);
    if (launch->behaviour == GETS_READY || launch->behaviour == KEEPS_ERRORS) {
        MUST(pidfile_write(&pidfile, &reason) == 0);
        printf("said after\n");
        background_ready(&background, launch->behaviour == KEEPS_ERRORS);
        MUST(is_null_device(1));
        MUST(is_null_device(2) == (launch->behaviour != KEEPS_ERRORS));
        background_ready(&background, false);
    }
    MUST(dprintf(launch->report, "%ld", (long)getpid()) > 0);
    MUST(read(launch->end, &byte, 1) == 0);
    pidfile_close(&pidfile);
}

struct launched {
    pid_t launcher;
    int report, end; /* our ends of those of struct launch */
    int output;      /* the standard output and the standard error of both */
};

/* Start a launcher whose daemon behaves like this. */
static struct launched launch_daemon(int behaviour)
{
    int report[2], end[2], output[2];
    assert_int_equal(pipe2(report, O_CLOEXEC) | pipe2(end, O_CLOEXEC) | pipe2(output, O_CLOEXEC),
                     0);
    struct launch launch = {
        .report = report[1], .end = end[0], .end_of_ours = end[1], .behaviour = behaviour};
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(output[1], 1);
        dup2(output[1], 2);
        close(output[1]);
        alarm(HANG_SECONDS);
        as_daemon(&launch);
        _exit(0);
    }
    close(report[1]);
    close(end[0]);
    close(output[1]);
    return (struct launched){
        .launcher = child, .report = report[0], .end = end[1], .output = output[0]};
}

static void close_ends(struct launched *one)
{
    close(one->report);
    close(one->end);
    close(one->output);
}

static void launcher_ends_when_the_daemon_is_ready(void **state)
{
    (void)state;
    struct launched one = launch_daemon(GETS_READY);
    char text[256], expected[64];
    assert_int_equal(child_wait(one.launcher), 0);
    /* The daemon has closed its standard output, so the reader does not wait for its end.  What
     * was printed before the fork is printed once. */
    file_read_fd(one.output, text, sizeof text);
    assert_string_equal(text, "said before\nsaid after\n");
    ssize_t got = read(one.report, text, sizeof text - 1);
    assert_true(got > 0);
    text[got] = '\0';
    pid_t daemon = (pid_t)atol(text);
    assert_true(daemon != one.launcher && daemon > 1);
    /* In the folder that was current at the start, though the daemon is in another. */
    snprintf(expected, sizeof expected, "%ld\n", (long)daemon);
    file_read("pid", text, sizeof text);
    assert_string_equal(text, expected);
    close_ends(&one);
    assert_int_equal(child_wait(daemon), 0);
    assert_false(file_exists("pid"));
}

/* The log goes to standard error, in the background, too. */
static void daemon_may_keep_its_standard_error(void **state)
{
    (void)state;
    struct launched one = launch_daemon(KEEPS_ERRORS);
    char text[64];
    assert_int_equal(child_wait(one.launcher), 0);
    ssize_t got = read(one.report, text, sizeof text - 1);
    assert_true(got > 0);
    text[got] = '\0';
    close_ends(&one);
    assert_int_equal(child_wait((pid_t)atol(text)), 0);
}

static void launcher_fails_when_the_daemon_ends(void **state)
{
    (void)state;
    struct launched one = launch_daemon(FAILS);
    char text[256];
    assert_int_equal(child_wait(one.launcher), 1 << 8);
    file_read_fd(one.output, text, sizeof text);
    assert_string_equal(text, "said before\nnbdram: no reason\n");
    close_ends(&one);

    one = launch_daemon(IS_KILLED);
    assert_int_equal(child_wait(one.launcher), 1 << 8);
    file_read_fd(one.output, text, sizeof text);
    assert_non_null(strstr(text, "nbdram: ended by signal 9"));
    close_ends(&one);
}

/* Ctrl-C before the server is ready ends both. */
static void daemon_that_is_not_ready_ends_with_its_launcher(void **state)
{
    (void)state;
    struct launched one = launch_daemon(STAYS);
    char text[64];
    ssize_t got = read(one.report, text, sizeof text - 1);
    assert_true(got > 0);
    text[got] = '\0';
    kill(one.launcher, SIGINT);
    assert_true(WIFSIGNALED(child_wait(one.launcher)));
    assert_int_equal(child_wait((pid_t)atol(text)), SIGTERM);
    close_ends(&one);
}

static void armed_child(void *argument)
{
    struct reason reason = {0};
    MUST(parent_death_signal(SIGTERM, getppid()) == 0);
    /* A change of user, as by -u, must not undo it. */
    if (geteuid() == 0)
        MUST(privileges_become(&(struct user_names){OTHER, OTHER}, &reason) == 0);
    MUST(dprintf(*(int *)argument, "%ld", (long)getpid()) > 0);
    for (;;)
        pause();
}

static void parent_that_ends(void *argument)
{
    struct pollfd ready = {.fd = ((int *)argument)[0], .events = POLLIN};
    MUST(child_start(armed_child, (int *)argument + 1) > 0);
    MUST(poll(&ready, 1, -1) == 1);
}

static void process_ends_with_its_parent(void **state)
{
    (void)state;
    int pipes[2];
    char text[32];
    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    child_run(parent_that_ends, pipes);
    ssize_t got = read(pipes[0], text, sizeof text - 1);
    assert_true(got > 0);
    text[got] = '\0';
    assert_int_equal(child_wait((pid_t)atol(text)), SIGTERM);
    close(pipes[0]);
    close(pipes[1]);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, child_enter_folder, leave_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(launcher_ends_when_the_daemon_is_ready),
        TEST(daemon_may_keep_its_standard_error),
        TEST(launcher_fails_when_the_daemon_ends),
        TEST(daemon_that_is_not_ready_ends_with_its_launcher),
        TEST(process_ends_with_its_parent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
