/* SPDX-License-Identifier: BSD-3-Clause */

/* Lines of the log. */

#include "support/child.h"
#include "support/file.h"
#include "support/folder.h"
#include "support/support.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

#include "os/thread.h"
#include "server/host/log.h"

static int leave_folder(void **state)
{
    return folder_leave(state, (const char *const[]){"out", NULL});
}

static void send_errors_to(const char *path)
{
    int out = open(path, O_RDWR | O_CREAT | O_APPEND | O_NOCTTY, 0600);
    MUST(out >= 0 && dup2(out, STDERR_FILENO) == STDERR_FILENO);
    close(out);
}

/* Each line once, in any process: the child's main thread logs before and after log_start. */
static void write_lines(void *argument)
{
    static char endless[100000];
    static struct logger log;
    (void)argument;
    send_errors_to("out");
    log_init(&log);
    memset(endless, 'x', sizeof endless - 1);
    log_error(&log, "before it starts %d", 1);
    MUST(log_start(&log) == 0);
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
    log_close(&log);
}

static void lines_go_where_they_should_and_stay_lines(void **state)
{
    (void)state;
    static char text[200000];
    static const char start[] = "nbdram: before it starts 1\n"
                                "nbdram: a?b?[1m? \xc3\xa9 c?\n"
                                "nbdram: shown\n"
                                "nbdram: xxxx";
    child_run(write_lines, NULL);
    file_read("out", text, sizeof text);
    assert_int_equal(strncmp(text, start, sizeof start - 1), 0);
    size_t length = strlen(text);
    /* The last line is cut, and still a line. */
    assert_true(length < 8192);
    assert_ptr_equal(strchr(text + sizeof start, '\n'), text + length - 1);
}

static void write_and_close(void *argument)
{
    static struct logger log;
    (void)argument;
    send_errors_to("out");
    log_init(&log);
    log_error(&log, "never started");
    log_close(&log);
}

static void a_log_that_never_started_is_written_when_it_is_closed(void **state)
{
    (void)state;
    char text[64];
    child_run(write_and_close, NULL);
    file_read("out", text, sizeof text);
    assert_string_equal(text, "nbdram: never started\n");
}

static void write_and_drain(void *argument)
{
    static struct logger log;
    (void)argument;
    send_errors_to("out");
    log_init(&log);
    MUST(log_start(&log) == 0);
    log_error(&log, "drained");
    log_drain(&log);
    _exit(0);
}

static void what_is_drained_is_written(void **state)
{
    (void)state;
    char text[64];
    child_run(write_and_drain, NULL);
    file_read("out", text, sizeof text);
    assert_string_equal(text, "nbdram: drained\n");
}

/* Counting lines. */

struct tally {
    unsigned long errors, debug;                         /* lines */
    unsigned long errors_left_out, debug_left_out, lost; /* what notices say */
};

/* Add the lines of a text, which start with nbdram's name. */
static void tally_text(struct tally *tally, char *text)
{
    char *rest;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        char what[64];
        unsigned long n;
        MUST(strncmp(line, "nbdram: ", 8) == 0);
        if (strcmp(line + 8, "an error") == 0)
            tally->errors++;
        else if (strcmp(line + 8, "a detail") == 0)
            tally->debug++;
        else if (sscanf(line + 8, "%lu %63[^0-9]", &n, what) != 2)
            MUST(!"a line that nobody wrote");
        else if (strncmp(what, "errors were left out", 20) == 0)
            tally->errors_left_out += n;
        else if (strncmp(what, "lines of -v were left out", 25) == 0)
            tally->debug_left_out += n;
        else if (strncmp(what, "lines of the log were lost", 26) == 0)
            tally->lost += n;
    }
}

#define FLOOD 20000u

static void *flood(void *log)
{
    for (unsigned i = 0; i < FLOOD; i++) {
        log_error(log, "an error");
        if (log_wants_debug(log))
            log_debug(log, "a detail");
    }
    return NULL;
}

static void flood_a_file(void *argument)
{
    static struct logger log;
    static char text[16 << 20];
    struct tally tally = {.errors = 0};
    pthread_t threads[2];
    (void)argument;
    send_errors_to("out");
    log_init(&log);
    log_set(&log, LOG_TO_STDERR, true, false);
    MUST(log_start(&log) == 0);
    int64_t began = os_clock_ms();
    for (int i = 0; i < 2; i++)
        MUST(pthread_create(&threads[i], NULL, flood, &log) == 0);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    uint64_t intervals = (uint64_t)(os_clock_ms() - began) / LOG_INTERVAL_MILLISECONDS + 2;
    log_close(&log);
    file_read("out", text, sizeof text);
    tally_text(&tally, text);
    /* Both levels may lose lines to the same buffer. */
    MUST(tally.errors + tally.errors_left_out + tally.debug + tally.debug_left_out + tally.lost ==
         4 * FLOOD);
    MUST(tally.errors <= intervals * LOG_LINES_MAX && tally.debug <= intervals * LOG_LINES_MAX);
    MUST(tally.errors > 0 && tally.debug > 0);
    MUST(tally.errors_left_out > 0 && tally.debug_left_out > 0);
}

static void a_flood_is_cut_off_and_counted(void **state)
{
    (void)state;
    child_run(flood_a_file, NULL);
}

/* Readers that do not read. */

#define NUMBERED 500u /* lines, which do not fit into all buffers on the way */

struct reader {
    int fd;
    bool has_datagrams; /* each is a line without a newline */
    size_t used;
    char text[65536];
};

/* Take the next line. */
static void read_line(struct reader *reader, char line[4096])
{
    char *end;
    while (!(end = memchr(reader->text, '\n', reader->used))) {
        char *at = reader->text + reader->used;
        ssize_t n = read(reader->fd, at, sizeof reader->text - reader->used - 1);
        MUST(n > 0);
        reader->used += (size_t)n;
        if (reader->has_datagrams)
            reader->text[reader->used++] = '\n';
    }
    size_t length = (size_t)(end + 1 - reader->text);
    MUST(length < 4096);
    memcpy(line, reader->text, length);
    line[length - 1] = '\0';
    reader->used -= length;
    memmove(reader->text, end + 1, reader->used);
}

static void log_numbered(struct logger *log)
{
    static char filler[1900];
    memset(filler, 'x', sizeof filler - 1);
    for (unsigned i = 0; i < NUMBERED; i++)
        log_error(log, "number %u %s", i, filler);
}

/* The lines that get through are in order, and notices count those that are missing. */
static void read_numbered(struct reader *reader)
{
    char line[4096];
    const char *at;
    unsigned next = 0, seen = 0, lost = 0, n;
    while (seen + lost < NUMBERED) {
        read_line(reader, line);
        MUST((at = strstr(line, "nbdram")) && (at = strstr(at, ": ")));
        if (sscanf(at, ": number %u ", &n) == 1) {
            MUST(n >= next && n < NUMBERED);
            next = n + 1;
            seen++;
        } else {
            MUST(sscanf(at, ": %u lines of the log were lost", &n) == 1);
            lost += n;
        }
    }
    MUST(seen + lost == NUMBERED && lost > 0);
}

static void log_to_nobody(struct logger *log, struct reader *reader)
{
    char line[4096];
    MUST(log_start(log) == 0);
    log_numbered(log);
    read_numbered(reader);
    log_error(log, "after that");
    read_line(reader, line);
    MUST(strstr(line, "after that"));
    log_numbered(log);
    log_close(log);
    MUST(!log->has_ended);
}

static void log_to_a_pipe(void *argument)
{
    static struct logger log;
    static struct reader reader;
    int ends[2];
    (void)argument;
    MUST(pipe(ends) == 0 && dup2(ends[1], STDERR_FILENO) == STDERR_FILENO);
    reader.fd = ends[0];
    log_init(&log);
    log_to_nobody(&log, &reader);
}

/* poll() says of a terminal that there is room, even if there is none for a whole line. */
static void log_to_a_terminal(void *argument)
{
    static struct logger log;
    static struct reader reader;
    struct termios mode;
    (void)argument;
    reader.fd = posix_openpt(O_RDWR | O_NOCTTY);
    MUST(reader.fd >= 0 && grantpt(reader.fd) == 0 && unlockpt(reader.fd) == 0);
    send_errors_to(ptsname(reader.fd));
    MUST(tcgetattr(STDERR_FILENO, &mode) == 0);
    cfmakeraw(&mode);
    MUST(tcsetattr(STDERR_FILENO, TCSANOW, &mode) == 0);
    log_init(&log);
    log_to_nobody(&log, &reader);
}

/* Mount an empty folder over /dev, for this process only.  Ends a child that may not. */
static void hide_devices(void)
{
    char map[64];
    bool is_root = geteuid() == 0;
    snprintf(map, sizeof map, "0 %u 1", (unsigned)geteuid());
    if (unshare(is_root ? CLONE_NEWNS : CLONE_NEWNS | CLONE_NEWUSER) < 0)
        _exit(CHILD_SKIP);
    if (!is_root) {
        int fd = open("/proc/self/uid_map", O_WRONLY);
        if (fd < 0 || write(fd, map, strlen(map)) < 0)
            _exit(CHILD_SKIP);
        close(fd);
    }
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("none", "/dev", "tmpfs", 0, NULL) < 0)
        _exit(CHILD_SKIP);
}

static void log_to_the_system(void *argument)
{
    static struct logger log;
    static struct reader reader = {.has_datagrams = true};
    const struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "/dev/log"};
    (void)argument;
    hide_devices();
    reader.fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    MUST(reader.fd >= 0 &&
         bind(reader.fd, (const struct sockaddr *)&address, sizeof address) == 0);
    log_init(&log);
    log_set(&log, LOG_TO_SYSLOG, false, false);
    log_to_nobody(&log, &reader);
}

static void nobody_waits_for_a_pipe_that_is_not_read(void **state)
{
    (void)state;
    child_run(log_to_a_pipe, NULL);
}

static void nobody_waits_for_a_terminal_that_is_not_read(void **state)
{
    (void)state;
    child_run(log_to_a_terminal, NULL);
}

static void nobody_waits_for_a_syslog_that_is_not_read(void **state)
{
    (void)state;
    child_run_or_skip(log_to_the_system, NULL);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, folder_enter, leave_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(lines_go_where_they_should_and_stay_lines),
        TEST(a_log_that_never_started_is_written_when_it_is_closed),
        TEST(what_is_drained_is_written),
        TEST(a_flood_is_cut_off_and_counted),
        TEST(nobody_waits_for_a_pipe_that_is_not_read),
        TEST(nobody_waits_for_a_terminal_that_is_not_read),
        TEST(nobody_waits_for_a_syslog_that_is_not_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
