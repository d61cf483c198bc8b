/* SPDX-License-Identifier: BSD-3-Clause */

/* Lines of the log. */

#include "support/child.h"
#include "support/file.h"
#include "support/folder.h"
#include "support/support.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "server/host/log.h"

static int leave_folder(void **state)
{
    return folder_leave(state, (const char *const[]){"out", NULL});
}

static void write_lines(void *argument)
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

static void lines_go_where_they_should_and_stay_lines(void **state)
{
    (void)state;
    static char text[200000];
    static const char start[] = "nbdram: before init 1\n"
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

#define TEST(function) cmocka_unit_test_setup_teardown(function, folder_enter, leave_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(lines_go_where_they_should_and_stay_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
