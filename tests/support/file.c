/* SPDX-License-Identifier: BSD-3-Clause */

#include "support/file.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support/support.h"

bool file_exists(const char *path)
{
    struct stat status;
    return lstat(path, &status) == 0;
}

void file_read_fd(int fd, char *text, size_t size)
{
    size_t length = 0;
    ssize_t got = 1;
    while (fd >= 0 && got > 0 && length < size - 1) {
        got = read(fd, text + length, size - 1 - length);
        length += got > 0 ? (size_t)got : 0;
    }
    text[length] = '\0';
}

void file_read(const char *path, char *text, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    file_read_fd(fd, text, size);
    if (fd >= 0)
        close(fd);
}

void file_write(const char *path, const void *data, size_t size)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, size), (ssize_t)size);
    assert_int_equal(close(fd), 0);
}

void file_write_text(const char *path, const char *text)
{
    file_write(path, text, strlen(text));
}
