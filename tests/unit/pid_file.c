/* SPDX-License-Identifier: BSD-3-Clause */

/* The file that holds the number of the process. */

#include "support/file.h"
#include "support/folder.h"
#include "support/support.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/host/pidfile.h"
#include "text/reason.h"

static int leave_folder(void **state)
{
    return folder_leave(state, (const char *const[]){"out", "pid", "link", NULL});
}

static void assert_text(const char *path, const char *expected)
{
    char text[64];
    file_read(path, text, sizeof text);
    assert_string_equal(text, expected);
}

static void assert_holds_our_pid(const char *path)
{
    char expected[32];
    snprintf(expected, sizeof expected, "%ld\n", (long)getpid());
    assert_text(path, expected);
}

static struct pidfile opened(const char *path)
{
    struct reason reason = {0};
    struct pidfile pidfile;
    assert_int_equal(pidfile_open(&pidfile, path, &reason), 0);
    return pidfile;
}

static struct pidfile written(const char *path)
{
    struct reason reason = {0};
    struct pidfile pidfile = opened(path);
    assert_int_equal(pidfile_write(&pidfile, &reason), 0);
    return pidfile;
}

static void pid_file_is_replaced_whole_and_removed(void **state)
{
    (void)state;
    struct reason reason = {0};
    struct pidfile pidfile = written("pid");
    assert_holds_our_pid("pid");
    /* An older file is replaced, not overwritten from its start. */
    file_write_text("pid", "1234567890123\nand more\n");
    assert_int_equal(pidfile_write(&pidfile, &reason), 0);
    assert_holds_our_pid("pid");
    pidfile_close(&pidfile);
    assert_false(file_exists("pid"));
    pidfile_close(&pidfile);
}

/* An earlier process may have left a file, and have had our number. */
static void pid_file_that_was_not_written_stays(void **state)
{
    (void)state;
    char text[64];
    snprintf(text, sizeof text, "%ld\n", (long)getpid());
    file_write_text("pid", text);
    struct pidfile pidfile = opened("pid");
    pidfile_close(&pidfile);
    assert_true(file_exists("pid"));
}

static void pid_file_of_others_stays(void **state)
{
    (void)state;
    char text[64];
    snprintf(text, sizeof text, "%ld0\n", (long)getpid());
    const char *const texts[] = {text, "", "1\n", "no number\n"};
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        struct pidfile pidfile = written("pid");
        file_write_text("pid", texts[i]);
        pidfile_close(&pidfile);
        assert_true(file_exists("pid"));
    }
    snprintf(text, sizeof text, "%ld\n", (long)getpid());
    struct pidfile pidfile = written("link");
    assert_int_equal(unlink("link"), 0);
    file_write_text("out", text);
    assert_int_equal(symlink("out", "link"), 0);
    pidfile_close(&pidfile);
    assert_true(file_exists("link"));
    assert_true(file_exists("out"));
}

/* Another program waits at a FIFO for us to be ready, so it must not be replaced by a file. */
static void fifo_as_pid_file_is_written_to(void **state)
{
    (void)state;
    char expected[32], text[64];
    assert_int_equal(mkfifo("pid", 0600), 0);
    int fd = open("pid", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    assert_true(fd >= 0);
    struct pidfile pidfile = written("pid");
    snprintf(expected, sizeof expected, "%ld\n", (long)getpid());
    ssize_t got = read(fd, text, sizeof text - 1);
    assert_int_equal(got, (ssize_t)strlen(expected));
    assert_memory_equal(text, expected, (size_t)got);
    pidfile_close(&pidfile);
    assert_true(file_exists("pid"));
    close(fd);
}

/* Whoever may write to the folder could have us write anywhere. */
static void link_as_pid_file_is_refused(void **state)
{
    (void)state;
    struct reason reason = {0};
    struct pidfile pidfile;
    assert_int_equal(symlink("out", "link"), 0);
    assert_int_equal(pidfile_open(&pidfile, "link", &reason), -ELOOP);
    assert_non_null(strstr(reason.text, "the pid file link is a symbolic link"));
    /* One that was put there later. */
    pidfile = opened("pid");
    file_write_text("out", "precious");
    assert_int_equal(symlink("out", "pid"), 0);
    assert_int_equal(pidfile_write(&pidfile, &reason), 0);
    assert_holds_our_pid("pid");
    assert_text("out", "precious");
    pidfile_close(&pidfile);
    assert_false(file_exists("pid"));
}

/* As a shell does with >(command). */
static void descriptor_as_pid_file_is_written_to(void **state)
{
    (void)state;
    char path[32], expected[32], text[64];
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    snprintf(path, sizeof path, "/dev/fd/%d", ends[1]);
    struct pidfile pidfile = written(path);
    snprintf(expected, sizeof expected, "%ld\n", (long)getpid());
    assert_int_equal(read(ends[0], text, sizeof text), (ssize_t)strlen(expected));
    assert_memory_equal(text, expected, strlen(expected));
    pidfile_close(&pidfile);
    close(ends[0]);
    close(ends[1]);
}

static void pid_file_that_cannot_be_written_is_named(void **state)
{
    (void)state;
    static const char *const paths[] = {"nofolder/pid", "", "."};
    for (size_t i = 0; i < COUNT_OF(paths); i++) {
        struct reason reason = {0};
        struct pidfile pidfile = opened(paths[i]);
        assert_true(pidfile_write(&pidfile, &reason) < 0);
        assert_non_null(strstr(reason.text, "cannot write the pid file "));
        assert_non_null(strstr(reason.text, paths[i]));
        assert_null(strchr(reason.text, '\n'));
        pidfile_close(&pidfile);
    }
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, folder_enter, leave_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(pid_file_is_replaced_whole_and_removed),
        TEST(pid_file_that_was_not_written_stays),
        TEST(pid_file_of_others_stays),
        TEST(fifo_as_pid_file_is_written_to),
        TEST(link_as_pid_file_is_refused),
        TEST(descriptor_as_pid_file_is_written_to),
        TEST(pid_file_that_cannot_be_written_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
