/* SPDX-License-Identifier: BSD-3-Clause */

/* Small files that are written whole. */

#include "support/file.h"
#include "support/folder.h"
#include "support/support.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/host/file_replace.h"

static int leave_folder(void **state)
{
    return folder_leave(state, (const char *const[]){"file", "link", NULL});
}

static int replace(const char *path, const char *text)
{
    return file_replace(AT_FDCWD, path, text, strlen(text), NULL);
}

static void assert_holds(const char *path, const char *expected)
{
    char text[64];
    file_read(path, text, sizeof text);
    assert_string_equal(text, expected);
}

/* Not counting . and .. */
static int count_files(void)
{
    int n = -2;
    DIR *folder = opendir(".");
    assert_non_null(folder);
    while (readdir(folder))
        n++;
    closedir(folder);
    return n;
}

static void content_is_replaced_and_no_draft_is_left(void **state)
{
    (void)state;
    struct stat before, after;
    assert_int_equal(replace("file", "old content"), 0);
    assert_int_equal(stat("file", &before), 0);
    int fd = open("file", O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(replace("file", "new"), 0);
    assert_holds("file", "new");
    /* A reader that has it open still has the old content. */
    char text[64];
    file_read_fd(fd, text, sizeof text);
    assert_string_equal(text, "old content");
    assert_int_equal(stat("file", &after), 0);
    assert_int_not_equal(before.st_ino, after.st_ino);
    assert_int_equal(count_files(), 1);
    close(fd);
}

static void old_draft_is_replaced(void **state)
{
    (void)state;
    char draft[64];
    snprintf(draft, sizeof draft, ".file.%ld", (long)getpid());
    file_write_text(draft, "of an earlier process");
    assert_int_equal(replace("file", "new"), 0);
    assert_holds("file", "new");
    assert_int_equal(count_files(), 1);
}

static void what_cannot_be_replaced_stays(void **state)
{
    (void)state;
    assert_int_equal(mkdir("link", 0700), 0);
    assert_true(replace("link", "text") < 0);
    assert_int_equal(replace("nofolder/file", "text"), -ENOENT);
    assert_int_equal(count_files(), 1);
    assert_int_equal(rmdir("link"), 0);
}

static void folder_is_that_of_the_descriptor(void **state)
{
    (void)state;
    int folder = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    char path[4096];
    assert_true(folder >= 0 && getcwd(path, sizeof path));
    assert_int_equal(chdir("/"), 0);
    assert_int_equal(file_replace(folder, "file", "text", 4, NULL), 0);
    assert_int_equal(file_write_in_place(folder, "file", "more", 4), 0);
    assert_int_equal(chdir(path), 0);
    assert_holds("file", "more");
    close(folder);
}

static void link_is_replaced_and_never_followed(void **state)
{
    (void)state;
    struct stat status;
    file_write_text("file", "a long old text");
    assert_int_equal(symlink("file", "link"), 0);
    assert_true(file_is_link(AT_FDCWD, "link"));
    assert_int_equal(file_write_in_place(AT_FDCWD, "link", "followed", 8), -ELOOP);
    assert_int_equal(replace("link", "replaced"), 0);
    assert_holds("file", "a long old text");
    assert_holds("link", "replaced");
    assert_int_equal(lstat("link", &status), 0);
    assert_true(S_ISREG(status.st_mode));
}

static void full_device_is_an_error(void **state)
{
    (void)state;
    assert_int_equal(file_write_in_place(AT_FDCWD, "/dev/full", "text", 4), -ENOSPC);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, folder_enter, leave_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(content_is_replaced_and_no_draft_is_left),
        TEST(old_draft_is_replaced),
        TEST(what_cannot_be_replaced_stays),
        TEST(folder_is_that_of_the_descriptor),
        TEST(link_is_replaced_and_never_followed),
        TEST(full_device_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
