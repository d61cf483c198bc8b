/* SPDX-License-Identifier: BSD-3-Clause */

/* The command of --run: what it finds in its process, and how it ends. */

#include "support/child.h"
#include "support/file.h"
#include "support/folder.h"
#include "support/support.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "os/thread.h"
#include "server/host/captive.h"
#include "text/reason.h"

static int leave_folder(void **state)
{
    return folder_leave(state, (const char *const[]){"out", NULL});
}

/* Run a command and return its status.  Output becomes what it wrote into the file "out". */
static int run(const struct captive_options *options, char *output, size_t size)
{
    struct reason reason = {0};
    struct captive captive = {.child = 0};
    int err = captive_fork(&captive, false, &reason);
    if (err == 0)
        err = captive_start(&captive, options, &reason);
    if (err)
        fail_msg("%d: %s", err, reason.text);
    int status = child_wait(captive.child);
    file_read("out", output, size);
    return captive_exit_status(status);
}

static int run_alone(const char *command, char *output, size_t size)
{
    struct captive_options options = {.command = command};
    return run(&options, output, size);
}

#define SHOW                                                                                     \
    "printf '%s|' \"$uri\" \"$nbd\" \"$port\" \"$unixsocket\" \"$exportname\" \"$tls\" > out"

static void variables_are_quoted(void **state)
{
    (void)state;
    char output[1024];
    struct captive_options options = {
        .command = SHOW,
        .uri = "nbd+unix:///?socket=/a b ; exit 9 $nbd",
        .unix_path = "/a 'b'''",
        .export_name = "it's $(touch oops) `touch oops`\n\\ \"*\"",
        .port = 10809,
        .tls = "2",
    };
    assert_int_equal(run(&options, output, sizeof output), 0);
    assert_string_equal(output, "nbd+unix:///?socket=/a b ; exit 9 $nbd|"
                                "nbd+unix:///?socket=/a b ; exit 9 $nbd|10809|/a 'b'''|"
                                "it's $(touch oops) `touch oops`\n\\ \"*\"|2|");
    assert_false(file_exists("oops"));
    options.tls = "1";
    options.command = "printf %s \"$tls\" > out";
    assert_int_equal(run(&options, output, sizeof output), 0);
    assert_string_equal(output, "1");
}

/* A variable without a value is empty, whatever the environment has.  None is exported. */
static void variables_are_empty_or_ours_and_not_exported(void **state)
{
    (void)state;
    static const char *const names[] = {"nbd", "port", "unixsocket", "exportname", "tls"};
    char output[1024];
    for (size_t i = 0; i < COUNT_OF(names); i++)
        setenv(names[i], "from outside", 1);
    assert_int_equal(run_alone(SHOW, output, sizeof output), 0);
    assert_string_equal(output, "||||||");
    for (size_t i = 0; i < COUNT_OF(names); i++)
        unsetenv(names[i]);
    assert_int_equal(run_alone("env > out", output, sizeof output), 0);
    assert_null(strstr(output, "unixsocket="));
}

static void status_is_the_status_of_the_command(void **state)
{
    (void)state;
    char output[16];
    assert_int_equal(run_alone("true", output, sizeof output), 0);
    assert_int_equal(run_alone("exit 3", output, sizeof output), 3);
    assert_int_equal(run_alone("exit 255", output, sizeof output), 255);
    assert_int_equal(run_alone("kill -9 $$", output, sizeof output), 128 + 9);
    assert_int_equal(run_alone("kill -TERM $$", output, sizeof output), 128 + 15);
    assert_int_equal(run_alone("false # a comment", output, sizeof output), 1);
    assert_int_equal(run_alone("nosuchprogram 2>/dev/null", output, sizeof output), 127);
}

/* In a child: run a command, which has to write this into the file "out". */
static void run_for_output(struct captive *captive, const char *command, const char *expected)
{
    struct captive_options options = {.command = command};
    struct reason reason;
    char output[256];
    int status = -1;
    MUST(captive_start(captive, &options, &reason) == 0);
    MUST(waitpid(captive->child, &status, 0) == captive->child && status == 0);
    file_read("out", output, sizeof output);
    MUST(strcmp(output, expected) == 0);
}

static void run_clean(void *argument)
{
    (void)argument;
    struct captive captive = {.child = 0};
    struct reason reason;
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    signal(SIGCHLD, SIG_DFL);
    /* A descriptor that our parent left open for us. */
    MUST(dup2(2, 50) == 50);
    /* Signals 32 and 33 belong to the C library, so that no program can set them; make leaves
     * them ignored.  The shell becomes sed by exec: it may give another mask to what it
     * starts. */
    static const char command[] =
        "exec > out; [ -e /proc/self/fd/50 ] && echo inherited;"
        "exec sed -n -e 's/^SigBlk:[[:space:]]*0*$/no mask/p' -e "
        "'s/^SigIgn:[[:space:]]*0*[01][08]0000000$/no ignored/p' /proc/self/status";
    MUST(captive_fork(&captive, false, &reason) == 0);
    run_for_output(&captive, command, "inherited\nno mask\nno ignored\n");
}

static void command_gets_default_signals_and_our_descriptors(void **state)
{
    (void)state;
    child_run(run_clean, NULL);
}

/* It may be another one by the time that the command starts. */
static void raise_limit(void *argument)
{
    (void)argument;
    struct captive captive = {.child = 0};
    struct rlimit limit;
    struct reason reason;
    MUST(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    limit.rlim_cur = 100;
    MUST(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    MUST(captive_fork(&captive, false, &reason) == 0);
    limit.rlim_cur = limit.rlim_max;
    MUST(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    run_for_output(&captive, "ulimit -n > out", "100\n");
}

static void command_gets_the_limit_of_descriptors_from_the_start(void **state)
{
    (void)state;
    child_run(raise_limit, NULL);
}

static int64_t in_a_long_time(void)
{
    return os_clock_ms() + INT64_C(1000) * HANG_SECONDS;
}

static void half_of_a_command_is_not_run(void **state)
{
    (void)state;
    struct captive captive = {.child = 0};
    struct reason reason;
    assert_int_equal(captive_fork(&captive, false, &reason), 0);
    assert_int_equal(write(captive.script, "echo > out", 10), 10);
    close(captive.script);
    assert_true(WIFEXITED(child_wait(captive.child)));
    assert_false(file_exists("out"));
}

static void command_that_is_not_started_ends(void **state)
{
    (void)state;
    struct captive captive = {.child = 0};
    struct reason reason;
    sigset_t ended;
    sigemptyset(&ended);
    sigaddset(&ended, SIGCHLD);
    sigprocmask(SIG_BLOCK, &ended, NULL);
    assert_int_equal(captive_fork(&captive, true, &reason), 0);
    captive_terminate(&captive);
    captive_wait(&captive, in_a_long_time());
    assert_int_equal(captive.child, 0);
    assert_true(wait(NULL) > 0); /* the killer, too, which has nothing to watch over */
    sigprocmask(SIG_UNBLOCK, &ended, NULL);
}

struct command_ends {
    const char *command; /* prints its number */
    int input;           /* the command's standard input */
    int ready;           /* where it reports that it has started */
    bool gives_up_rights;
    void (*end)(struct captive *captive); /* how the server ends */
};

static void server_that_ends(void *argument)
{
    const struct command_ends *ends = argument;
    struct captive_options options = {.command = ends->command};
    struct captive captive = {.child = 0};
    struct reason reason;
    char line[256];
    int started[2];
    MUST(pipe2(started, O_CLOEXEC) == 0);
    MUST(dup2(ends->input, 0) == 0 && dup2(started[1], 1) == 1);
    MUST(captive_fork(&captive, ends->gives_up_rights, &reason) == 0);
    if (ends->gives_up_rights)
        MUST(setresuid(65534, 65534, 65534) == 0 && kill(captive.child, 0) < 0);
    MUST(captive_start(&captive, &options, &reason) == 0);
    ssize_t got = read(started[0], line, sizeof line);
    MUST(got > 0 && write(ends->ready, line, (size_t)got) == got);
    ends->end(&captive);
}

static void end_abruptly(struct captive *captive)
{
    (void)captive;
    raise(SIGKILL);
}

static void block_sigchld(void)
{
    sigset_t ended;
    sigemptyset(&ended);
    sigaddset(&ended, SIGCHLD);
    sigprocmask(SIG_BLOCK, &ended, NULL);
}

static void end_in_order(struct captive *captive)
{
    block_sigchld();
    captive_terminate(captive);
    captive_wait(captive, in_a_long_time());
    MUST(captive->child == 0);
}

static void end_at_the_deadline(struct captive *captive)
{
    block_sigchld();
    captive_terminate(captive);
    captive_wait(captive, 0);
    MUST(captive->child == 0);
}

static void expect_to_end(struct command_ends *ends, int server_status, int command_status)
{
    int input[2], ready[2];
    char text[32];
    /* The command becomes cat, which would wait for our input for ever. */
    assert_int_equal(pipe2(input, O_CLOEXEC) | pipe2(ready, O_CLOEXEC), 0);
    ends->input = input[0];
    ends->ready = ready[1];
    assert_int_equal(child_wait(child_start(server_that_ends, ends)), server_status);
    ssize_t got = read(ready[0], text, sizeof text - 1);
    assert_true(got > 0);
    text[got] = '\0';
    if (command_status)
        assert_int_equal(child_wait((pid_t)atol(text)), command_status);
    if (ends->gives_up_rights)
        assert_true(wait(NULL) > 0); /* the killer, an orphan that is ours now */
    for (int i = 0; i < 2; i++) {
        close(input[i]);
        close(ready[i]);
    }
}

#define OBEDIENT "echo $$; exec cat"
#define STUBBORN "trap '' TERM; " OBEDIENT

static void expect_to_end_in_all_ways(bool gives_up_rights)
{
    struct command_ends ends = {
        .command = OBEDIENT, .gives_up_rights = gives_up_rights, .end = end_abruptly};
    expect_to_end(&ends, SIGKILL, SIGTERM);
    ends.end = end_in_order;
    expect_to_end(&ends, 0, 0);
    ends.command = STUBBORN;
    ends.end = end_at_the_deadline;
    expect_to_end(&ends, 0, 0);
}

static void command_ends_with_the_server(void **state)
{
    (void)state;
    expect_to_end_in_all_ways(false);
}

static void command_ends_with_a_server_without_rights(void **state)
{
    (void)state;
    if (geteuid() != 0)
        skip();
    expect_to_end_in_all_ways(true);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, child_enter_folder, leave_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(variables_are_quoted),
        TEST(variables_are_empty_or_ours_and_not_exported),
        TEST(status_is_the_status_of_the_command),
        TEST(command_gets_default_signals_and_our_descriptors),
        TEST(command_gets_the_limit_of_descriptors_from_the_start),
        TEST(half_of_a_command_is_not_run),
        TEST(command_that_is_not_started_ends),
        TEST(command_ends_with_the_server),
        TEST(command_ends_with_a_server_without_rights),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
