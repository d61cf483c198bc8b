/* SPDX-License-Identifier: BSD-3-Clause */

/* What a server process does besides serving, and what it says.  Most of it changes the process
 * for good, so it happens in children; a child ends with 0 if all was as it must be. */

#include "support/folder.h"
#include "support/support.h"

#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "server/host/background.h"
#include "server/host/captive.h"
#include "server/host/lock_memory.h"
#include "server/host/log.h"
#include "server/host/privileges.h"
#include "text/reason.h"

/* No measure of speed: turns a hang into a failure. */
#define HANG_SECONDS 60

/* Anybody but root. */
#define OTHER_ID 65534
#define OTHER "65534"

static int enter_folder(void **state)
{
    /* Daemons come to us when who started them ends. */
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    alarm(HANG_SECONDS);
    return folder_enter(state);
}

static int leave_folder(void **state)
{
    alarm(0);
    return folder_leave(state, (const char *const[]){"out", "pid", "link", NULL});
}

/* In a child: it ends, and says where. */
#define MUST(condition)                                                                          \
    do {                                                                                         \
        if (!(condition)) {                                                                      \
            fprintf(stderr, "%s:%d: %s (errno %d)\n", __FILE__, __LINE__, #condition, errno);    \
            _exit(99);                                                                           \
        }                                                                                        \
    } while (0)

static pid_t child_of(void (*function)(void *), void *argument)
{
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        alarm(HANG_SECONDS);
        function(argument);
        _exit(0);
    }
    return child;
}

static int status_of(pid_t child)
{
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static void in_child(void (*function)(void *), void *argument)
{
    assert_int_equal(status_of(child_of(function, argument)), 0);
}

/* All of a file, or of a pipe until its end; "" if there is none. */
static void read_all(int fd, char *text, size_t size)
{
    size_t length = 0;
    ssize_t got = 1;
    while (fd >= 0 && got > 0 && length < size - 1) {
        got = read(fd, text + length, size - 1 - length);
        length += got > 0 ? (size_t)got : 0;
    }
    text[length] = '\0';
}

static void read_file(const char *path, char *text, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    read_all(fd, text, size);
    if (fd >= 0)
        close(fd);
}

static bool exists(const char *path)
{
    struct stat status;
    return lstat(path, &status) == 0;
}

static void write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

/* ---- pid file ---- */

static void assert_holds_our_pid(const char *path)
{
    char expected[32], text[64];
    snprintf(expected, sizeof expected, "%ld\n", (long)getpid());
    read_file(path, text, sizeof text);
    assert_string_equal(text, expected);
}

static void pidfile(void **state)
{
    (void)state;
    struct reason reason = {0};
    assert_int_equal(pidfile_write("pid", &reason), 0);
    assert_holds_our_pid("pid");
    /* An older one is replaced whole, not written over. */
    write_file("pid", "1234567890123\nand more\n");
    assert_int_equal(pidfile_write("pid", &reason), 0);
    assert_holds_our_pid("pid");
    pidfile_remove("pid");
    assert_false(exists("pid"));
    pidfile_remove("pid");
}

static void pidfile_of_others_stays(void **state)
{
    (void)state;
    char text[64];
    snprintf(text, sizeof text, "%ld0\n", (long)getpid());
    const char *const texts[] = {text, "", "1\n", "no number\n"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        write_file("pid", texts[i]);
        pidfile_remove("pid");
        assert_true(exists("pid"));
    }
    snprintf(text, sizeof text, "%ld\n", (long)getpid());
    write_file("out", text);
    assert_int_equal(symlink("out", "link"), 0);
    pidfile_remove("link");
    assert_true(exists("link"));
    assert_true(exists("out"));
}

/* Somebody waits at a FIFO to hear that we are ready: it must not be replaced by a file. */
static void pidfile_is_fifo(void **state)
{
    (void)state;
    struct reason reason = {0};
    char expected[32], text[64];
    assert_int_equal(mkfifo("pid", 0600), 0);
    int fd = open("pid", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    assert_true(fd >= 0);
    assert_int_equal(pidfile_write("pid", &reason), 0);
    snprintf(expected, sizeof expected, "%ld\n", (long)getpid());
    ssize_t got = read(fd, text, sizeof text - 1);
    assert_int_equal(got, (ssize_t)strlen(expected));
    assert_memory_equal(text, expected, (size_t)got);
    pidfile_remove("pid");
    assert_true(exists("pid"));
    close(fd);
}

static void pidfile_is_link(void **state)
{
    (void)state;
    struct reason reason = {0};
    assert_int_equal(symlink("out", "link"), 0);
    assert_int_equal(pidfile_write("link", &reason), 0);
    assert_holds_our_pid("out");
    struct stat status;
    assert_int_equal(lstat("link", &status), 0);
    assert_true(S_ISLNK(status.st_mode));
}

static void pidfile_refused(void **state)
{
    (void)state;
    static const char *const paths[] = {"nofolder/pid", "", "."};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        struct reason reason = {0};
        assert_true(pidfile_write(paths[i], &reason) < 0);
        assert_non_null(strstr(reason.text, "cannot write the pid file "));
        assert_non_null(strstr(reason.text, paths[i]));
        assert_null(strchr(reason.text, '\n'));
    }
}

/* ---- background ---- */

struct launch {
    int report; /* the daemon tells what it finds */
    int end;    /* the daemon stays until this is closed */
    int keep;   /* the other end of it */
    enum { GETS_READY, FAILS, IS_KILLED, STAYS } behaviour;
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
    close(launch->keep);
    printf("said before\n");
    /* As a server does that takes them by a descriptor. */
    sigset_t taken, none;
    sigemptyset(&none);
    sigemptyset(&taken);
    sigaddset(&taken, SIGINT);
    sigaddset(&taken, SIGTERM);
    sigprocmask(SIG_BLOCK, &taken, NULL);
    MUST(background_enter(&reason) == 0);
    /* From here on it is the daemon. */
    MUST(getsid(0) == getpid());
    MUST(getcwd(folder, sizeof folder) && strcmp(folder, "/") == 0);
    MUST(is_null_device(0) && !is_null_device(1) && !is_null_device(2));
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (launch->behaviour == FAILS) {
        struct logger log = LOG_INITIALIZER;
        log_error(&log, "no reason");
        exit(7);
    }
    if (launch->behaviour == IS_KILLED)
        raise(SIGKILL);
    if (launch->behaviour == GETS_READY) {
        MUST(pidfile_write("pid", &reason) == 0);
        printf("said after\n");
        background_ready();
        MUST(is_null_device(1) && is_null_device(2));
        background_ready();
    }
    MUST(dprintf(launch->report, "%ld", (long)getpid()) > 0);
    MUST(read(launch->end, &byte, 1) == 0);
    pidfile_remove("pid");
}

struct launched {
    pid_t launcher;
    int report, end, output;
};

/* Start a launcher whose daemon behaves like this; output is what it prints and says. */
static struct launched launched(int behaviour)
{
    int report[2], end[2], output[2];
    assert_int_equal(pipe2(report, O_CLOEXEC) | pipe2(end, O_CLOEXEC) | pipe2(output, O_CLOEXEC),
                     0);
    struct launch launch = {
        .report = report[1], .end = end[0], .keep = end[1], .behaviour = behaviour};
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

static void forget(struct launched *one)
{
    close(one->report);
    close(one->end);
    close(one->output);
}

static void background(void **state)
{
    (void)state;
    struct launched one = launched(GETS_READY);
    char text[256], expected[64];
    assert_int_equal(status_of(one.launcher), 0);
    /* The daemon has let go of the terminal: nobody who reads on waits for its end.  What was
     * printed before is printed once. */
    read_all(one.output, text, sizeof text);
    assert_string_equal(text, "said before\nsaid after\n");
    ssize_t got = read(one.report, text, sizeof text - 1);
    assert_true(got > 0);
    text[got] = '\0';
    pid_t daemon = (pid_t)atol(text);
    assert_true(daemon != one.launcher && daemon > 1);
    /* In the folder that was current, though the daemon is in another. */
    snprintf(expected, sizeof expected, "%ld\n", (long)daemon);
    read_file("pid", text, sizeof text);
    assert_string_equal(text, expected);
    forget(&one);
    assert_int_equal(status_of(daemon), 0);
    assert_false(exists("pid"));
}

static void background_fails(void **state)
{
    (void)state;
    struct launched one = launched(FAILS);
    char text[256];
    assert_int_equal(status_of(one.launcher), 1 << 8);
    read_all(one.output, text, sizeof text);
    assert_string_equal(text, "said before\nnbdram: no reason\n");
    forget(&one);

    one = launched(IS_KILLED);
    assert_int_equal(status_of(one.launcher), 1 << 8);
    read_all(one.output, text, sizeof text);
    assert_non_null(strstr(text, "nbdram: ended by signal 9"));
    forget(&one);
}

/* Ctrl-C before the server is ready: it does not go on alone. */
static void background_interrupted(void **state)
{
    (void)state;
    struct launched one = launched(STAYS);
    char text[64];
    ssize_t got = read(one.report, text, sizeof text - 1);
    assert_true(got > 0);
    text[got] = '\0';
    kill(one.launcher, SIGINT);
    assert_true(WIFSIGNALED(status_of(one.launcher)));
    assert_int_equal(status_of((pid_t)atol(text)), SIGTERM);
    forget(&one);
}

/* ---- with the parent ---- */

static void armed_child(void *argument)
{
    struct reason reason = {0};
    MUST(background_exit_with_parent(&reason) == 0);
    /* What -u and -g do must not undo it. */
    if (geteuid() == 0)
        MUST(privileges_become(&(struct user_names){OTHER, OTHER}, &reason) == 0);
    MUST(dprintf(*(int *)argument, "%ld", (long)getpid()) > 0);
    for (;;)
        pause();
}

static void parent_that_ends(void *argument)
{
    struct pollfd ready = {.fd = ((int *)argument)[0], .events = POLLIN};
    MUST(child_of(armed_child, (int *)argument + 1) > 0);
    MUST(poll(&ready, 1, -1) == 1);
}

static void exit_with_parent(void **state)
{
    (void)state;
    int pipes[2];
    char text[32];
    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    in_child(parent_that_ends, pipes);
    ssize_t got = read(pipes[0], text, sizeof text - 1);
    assert_true(got > 0);
    text[got] = '\0';
    assert_int_equal(status_of((pid_t)atol(text)), SIGTERM);
    close(pipes[0]);
    close(pipes[1]);
}

/* ---- --run ---- */

/* Run a command, return its status; what it printed into "out". */
static int run(const struct captive_options *options, char *output, size_t size)
{
    struct reason reason = {0};
    struct captive captive = {.child = 0};
    int err = captive_start(&captive, options, &reason);
    if (err)
        fail_msg("%d: %s", err, reason.text);
    int status = status_of(captive.child);
    read_file("out", output, size);
    return captive_exit_status(status);
}

static int run_alone(const char *command, char *output, size_t size)
{
    struct captive_options options = {.command = command};
    return run(&options, output, size);
}

#define SHOW                                                                                     \
    "printf '%s|' \"$uri\" \"$nbd\" \"$port\" \"$unixsocket\" \"$exportname\" \"$tls\" > out"

static void run_variables(void **state)
{
    (void)state;
    char output[1024];
    struct captive_options options = {
        .command = SHOW,
        .uri = "nbd+unix:///?socket=/a b",
        .nbd = "$nbd ; exit 9",
        .unix_path = "/a 'b'''",
        .export_name = "it's $(touch oops) `touch oops`\n\\ \"*\"",
        .port = 10809,
        .tls = "2",
    };
    assert_int_equal(run(&options, output, sizeof output), 0);
    assert_string_equal(output, "nbd+unix:///?socket=/a b|$nbd ; exit 9|10809|/a 'b'''|"
                                "it's $(touch oops) `touch oops`\n\\ \"*\"|2|");
    assert_false(exists("oops"));
    options.tls = "1";
    options.command = "printf %s \"$tls\" > out";
    assert_int_equal(run(&options, output, sizeof output), 0);
    assert_string_equal(output, "1");
}

/* What there is not is empty, whatever the environment has; and nothing is exported. */
static void run_variables_unset(void **state)
{
    (void)state;
    static const char *const names[] = {"nbd", "port", "unixsocket", "exportname", "tls"};
    char output[1024];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        setenv(names[i], "from outside", 1);
    assert_int_equal(run_alone(SHOW, output, sizeof output), 0);
    assert_string_equal(output, "||||||");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        unsetenv(names[i]);
    assert_int_equal(run_alone("env > out", output, sizeof output), 0);
    assert_null(strstr(output, "unixsocket="));
}

static void run_statuses(void **state)
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

static void run_clean(void *argument)
{
    (void)argument;
    char output[256];
    struct captive captive = {.child = 0};
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    signal(SIGCHLD, SIG_DFL);
    /* As somebody may have left it to us, open across exec. */
    MUST(dup2(2, 50) == 50);
    /* 32 and 33 are the C library's own, which no program can set; make leaves them ignored. */
    /* The shell itself becomes sed: those that it starts, it may give another mask. */
    struct captive_options options = {
        .command = "exec > out; [ -e /proc/self/fd/50 ] && echo inherited;"
                   "exec sed -n -e 's/^SigBlk:[[:space:]]*0*$/no mask/p' -e "
                   "'s/^SigIgn:[[:space:]]*0*[01][08]0000000$/no ignored/p' /proc/self/status"};
    int status = -1;
    struct reason reason;
    MUST(captive_start(&captive, &options, &reason) == 0);
    MUST(waitpid(captive.child, &status, 0) == captive.child && status == 0);
    read_file("out", output, sizeof output);
    MUST(strcmp(output, "inherited\nno mask\nno ignored\n") == 0);
}

static void run_gets_clean_process(void **state)
{
    (void)state;
    in_child(run_clean, NULL);
}

struct command_ends {
    int input, ready; /* of the command; where it tells that it has started */
};

static void server_that_ends(void *argument)
{
    struct captive_options options = {.command = "echo $$; exec cat"};
    struct captive captive = {.child = 0};
    struct reason reason;
    char line[256];
    int telling[2];
    const struct command_ends *ends = argument;
    MUST(pipe2(telling, O_CLOEXEC) == 0);
    MUST(dup2(ends->input, 0) == 0 && dup2(telling[1], 1) == 1);
    MUST(captive_start(&captive, &options, &reason) == 0);
    ssize_t got = read(telling[0], line, sizeof line);
    MUST(got > 0 && write(ends->ready, line, (size_t)got) == got);
}

static void run_ends_with_server(void **state)
{
    (void)state;
    int input[2], ready[2];
    char text[32];
    /* cat would wait for us for ever. */
    assert_int_equal(pipe2(input, O_CLOEXEC) | pipe2(ready, O_CLOEXEC), 0);
    struct command_ends ends = {.input = input[0], .ready = ready[1]};
    in_child(server_that_ends, &ends);
    ssize_t got = read(ready[0], text, sizeof text - 1);
    assert_true(got > 0);
    text[got] = '\0';
    assert_int_equal(status_of((pid_t)atol(text)), SIGTERM);
    for (int i = 0; i < 2; i++) {
        close(input[i]);
        close(ready[i]);
    }
}

/* ---- limits, users, swap ---- */

static void raise_limit(void *argument)
{
    (void)argument;
    char output[64], expected[64];
    struct captive captive = {.child = 0};
    struct rlimit limit;
    MUST(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    limit.rlim_cur = 100;
    MUST(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    captive_raise_descriptors(&captive);
    MUST(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    MUST(limit.rlim_cur == limit.rlim_max);

    struct captive_options options = {.command = "ulimit -n > out"};
    int status = -1;
    struct reason reason;
    MUST(captive_start(&captive, &options, &reason) == 0);
    MUST(waitpid(captive.child, &status, 0) == captive.child && status == 0);
    read_file("out", output, sizeof output);
    snprintf(expected, sizeof expected, "100\n");
    MUST(strcmp(output, expected) == 0);
}

static void descriptors(void **state)
{
    (void)state;
    in_child(raise_limit, NULL);
}

static void become_other(void *argument)
{
    struct reason reason = {0};
    gid_t groups[8];
    uid_t uid[3];
    gid_t gid[3];
    const char *user = argument;
    MUST(setgroups(3, (const gid_t[]){1, 2, 3}) == 0);
    MUST(privileges_become(&(struct user_names){user, OTHER}, &reason) == 0);
    MUST(getresuid(&uid[0], &uid[1], &uid[2]) == 0 && getresgid(&gid[0], &gid[1], &gid[2]) == 0);
    for (int i = 0; i < 3; i++)
        MUST(uid[i] == (user ? OTHER_ID : 0) && gid[i] == OTHER_ID);
    MUST(getgroups(8, groups) == 1 && groups[0] == OTHER_ID);
    MUST(!user || (setuid(0) < 0 && seteuid(0) < 0 && setgid(0) < 0));
    MUST(!user || open("/proc/1/mem", O_RDONLY) < 0);
}

static void privileges(void **state)
{
    (void)state;
    struct reason reason = {0};
    assert_int_equal(privileges_become(&(struct user_names){NULL, NULL}, &reason), 0);
    static const char *const users[] = {"no-such-user", "", "-1", "4294967295", "0x1"};
    for (size_t i = 0; i < sizeof users / sizeof *users; i++) {
        assert_int_equal(privileges_become(&(struct user_names){users[i], NULL}, &reason),
                         -EINVAL);
        assert_non_null(strstr(reason.text, "no such user: "));
        assert_int_equal(privileges_become(&(struct user_names){NULL, users[i]}, &reason),
                         -EINVAL);
        assert_non_null(strstr(reason.text, "no such group: "));
    }
    if (geteuid() != 0) {
        assert_int_equal(privileges_become(&(struct user_names){"0", "0"}, &reason), -EPERM);
        skip();
    }
    /* A number that is nobody's has no group. */
    assert_int_equal(privileges_become(&(struct user_names){"4000000", NULL}, &reason), -EINVAL);
    assert_non_null(strstr(reason.text, "--group"));
    in_child(become_other, (void *)(uintptr_t)OTHER);
    in_child(become_other, NULL);
}

static unsigned long locked_kib(void)
{
    char text[8192];
    read_file("/proc/self/status", text, sizeof text);
    const char *line = strstr(text, "VmLck:");
    return line ? strtoul(line + 6, NULL, 10) : 0;
}

static void lock_program(void *argument)
{
    (void)argument;
    struct reason reason = {0};
    /* Sanitizers make locking a pretence. */
    if (mlock(&reason, sizeof reason) < 0 || locked_kib() == 0)
        _exit(77);
    const size_t size = (size_t)(256 * MiB);
    void *disk = mmap(NULL, size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    MUST(disk != MAP_FAILED);
    int err = lock_memory_of_program(&reason);
    if (err) {
        MUST(strstr(reason.text, "--swap: cannot lock") && !strchr(reason.text, '\n'));
        MUST(err == -EPERM || err == -ENOMEM || err == -EAGAIN);
        _exit(77);
    }
    MUST(locked_kib() > 0);
    MUST(locked_kib() < size / KiB);
}

static void swap(void **state)
{
    (void)state;
    int status = status_of(child_of(lock_program, NULL));
    if (status == 77 << 8)
        skip();
    assert_int_equal(status, 0);
}

/* ---- log ---- */

static void say(void *argument)
{
    static char endless[100000];
    struct logger log = LOG_INITIALIZER;
    (void)argument;
    int out = open("out", O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0600);
    MUST(out >= 0 && dup2(out, 2) == 2);
    memset(endless, 'x', sizeof endless - 1);
    log_error(&log, "before init %d", 1);
    log_set(&log, LOG_TO_DEFAULT, false, false);
    log_debug(&log, "not shown");
    log_error(&log, "a\nb\x1b[1m\x7f \xc3\xa9 %s", "c\r");
    log_set(&log, LOG_TO_STDERR, true, true);
    log_debug(&log, "shown");
    log_set(&log, LOG_TO_NULL, true, false);
    log_error(&log, "gone");
    log_set(&log, LOG_TO_DEFAULT, true, true);
    log_error(&log, "for syslog");
    log_set(&log, LOG_TO_STDERR, false, false);
    log_error(&log, "%s", endless);
}

static void log_lines(void **state)
{
    (void)state;
    static char text[200000];
    static const char start[] = "nbdram: before init 1\n"
                                "nbdram: a?b?[1m? \xc3\xa9 c?\n"
                                "nbdram: shown\n"
                                "nbdram: xxxx";
    in_child(say, NULL);
    read_file("out", text, sizeof text);
    assert_int_equal(strncmp(text, start, sizeof start - 1), 0);
    size_t length = strlen(text);
    /* Cut, and still one line. */
    assert_true(length < 8192);
    assert_ptr_equal(strchr(text + sizeof start, '\n'), text + length - 1);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, enter_folder, leave_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(pidfile),
        TEST(pidfile_of_others_stays),
        TEST(pidfile_is_fifo),
        TEST(pidfile_is_link),
        TEST(pidfile_refused),
        TEST(background),
        TEST(background_fails),
        TEST(background_interrupted),
        TEST(exit_with_parent),
        TEST(run_variables),
        TEST(run_variables_unset),
        TEST(run_statuses),
        TEST(run_gets_clean_process),
        TEST(run_ends_with_server),
        TEST(descriptors),
        TEST(privileges),
        TEST(swap),
        TEST(log_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
