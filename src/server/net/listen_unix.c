/* SPDX-License-Identifier: BSD-3-Clause */

/* A socket file outlives its server.  Who comes next asks by connecting whether anybody is there:
 *
 *   no file          bind
 *   refused          a leftover: unlink, bind
 *   anything else    somebody listens: an error, and the file is left alone
 *
 * Between bind and listen, too, connecting is refused, and between asking and unlinking another
 * server may have come.  So all of it happens while the folder is locked (flock), here and when
 * the file is removed at the end: nbdrams started at once do not step on each other.  The lock is
 * not waited for long, nor insisted on: anybody who may read the folder can hold it.
 *
 * At the end the file is known by its number, which nobody else's has as long as our socket is
 * open: to ask once more would take a descriptor, which there may be none of. */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "server/host/privileges.h"
#include "server/net/listen.h"
#include "server/net/socket_kind.h"
#include "text/reason.h"

/* The terminator counts. */
#define PATH_BYTES sizeof(((struct sockaddr_un *)0)->sun_path)

#define LOCK_TRIES 100
#define LOCK_PAUSE_MS 10

static const char folder_pattern[] = "nbdram-XXXXXX";
static const char private_name[] = "socket";

static char *absolute(const char *path)
{
    char *folder = NULL, *whole = NULL;
    if (path[0] == '/')
        return strdup(path);
    folder = getcwd(NULL, 0);
    if (folder && asprintf(&whole, "%s/%s", strcmp(folder, "/") == 0 ? "" : folder, path) < 0)
        whole = NULL;
    free(folder);
    return whole;
}

/* 0: nobody listens there.  -ENOENT: no file.  -EADDRINUSE: somebody does.  -ENOTSOCK: no socket.
 */
static int probe(const struct sockaddr_un *address)
{
    struct stat status;
    if (lstat(address->sun_path, &status) < 0)
        return -errno;
    if (!S_ISSOCK(status.st_mode))
        return -ENOTSOCK;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    int err = connect(fd, (const struct sockaddr *)address, sizeof *address) < 0 ? errno : 0;
    close(fd);
    if (err == ECONNREFUSED)
        return 0;
    /* A full backlog; another type of socket. */
    return err == 0 || err == EAGAIN || err == EPROTOTYPE ? -EADDRINUSE : -err;
}

/* A descriptor whose closing unlocks, or -1 if the lock could not be had. */
static int lock_folder_of(const char *path)
{
    char folder[PATH_BYTES];
    const char *slash = strrchr(path, '/');
    snprintf(folder, sizeof folder, "%.*s", slash > path ? (int)(slash - path) : 1, path);
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    for (int i = 0; i < LOCK_TRIES; i++) {
        if (flock(fd, LOCK_EX | LOCK_NB) == 0)
            return fd;
        poll(NULL, 0, LOCK_PAUSE_MS);
    }
    close(fd);
    return -1;
}

static int make_room(const struct sockaddr_un *address, struct reason *reason)
{
    int err = probe(address);
    if (err == -ENOENT)
        return 0;
    if (err == -EADDRINUSE)
        return reason_set(reason, err, "%s: another server is listening there",
                          address->sun_path);
    if (err == -ENOTSOCK)
        return reason_set(reason, err, "%s: there is a file that is no socket",
                          address->sun_path);
    if (!err && unlink(address->sun_path) < 0 && errno != ENOENT)
        err = -errno;
    if (err)
        return reason_set(reason, err, "%s: cannot replace the socket: ", address->sun_path);
    return 0;
}

static bool is_our_file(const struct listeners *listeners)
{
    struct stat status;
    return lstat(listeners->unix_path, &status) == 0 && S_ISSOCK(status.st_mode) &&
           status.st_dev == listeners->unix_device && status.st_ino == listeners->unix_inode;
}

/* A socket where there is no file; or -errno, and there still is none. */
static int make_socket(struct listeners *listeners, const struct sockaddr_un *address)
{
    struct stat status;
    int fd = listen_bound(AF_UNIX, (const struct sockaddr *)address, sizeof *address);
    if (fd < 0)
        return fd;
    if (lstat(address->sun_path, &status) < 0) {
        int err = -errno;
        unlink(address->sun_path);
        close(fd);
        return err;
    }
    listeners->unix_device = status.st_dev;
    listeners->unix_inode = status.st_ino;
    return fd;
}

static int open_at(struct listeners *listeners, const char *path, struct reason *reason)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= PATH_BYTES)
        return reason_set(reason, -ENAMETOOLONG,
                          "the path of the Unix socket is longer than %zu bytes: %s",
                          PATH_BYTES - 1, path);
    memcpy(address.sun_path, path, strlen(path) + 1);
    int lock = lock_folder_of(path);
    int err = make_room(&address, reason), fd = err;
    if (!err)
        fd = make_socket(listeners, &address);
    if (!err && fd < 0)
        reason_set(reason, fd, "%s: cannot make the socket: ", path);
    if (lock >= 0)
        close(lock);
    return fd;
}

/* A folder that nobody else may enter.  TMPDIR can be too deep for the path of a socket. */
static char *make_folder(void)
{
    const char *place = getenv("TMPDIR");
    if (!place || place[0] != '/' ||
        strlen(place) + 1 + sizeof folder_pattern + sizeof private_name > PATH_BYTES)
        place = "/tmp";
    char *folder = NULL;
    if (asprintf(&folder, "%s/%s", place, folder_pattern) < 0)
        return NULL;
    if (mkdtemp(folder))
        return folder;
    int err = errno;
    free(folder);
    errno = err;
    return NULL;
}

int listen_give_away(const struct listeners *listeners, const struct user_names *names,
                     struct reason *reason)
{
    struct user_ids ids;
    if (!listeners->unix_dir || (!names->user && !names->group))
        return 0;
    int r = privileges_find(names, &ids, reason);
    if (r < 0)
        return r;
    if (lchown(listeners->unix_path, ids.uid, ids.gid) < 0 ||
        lchown(listeners->unix_dir, ids.uid, ids.gid) < 0)
        return reason_set(reason, -errno,
                          "%s: cannot give it to another user: ", listeners->unix_dir);
    return 0;
}

static int open_private(struct listeners *listeners, struct reason *reason)
{
    char *path = NULL;
    char *folder = make_folder();
    if (!folder)
        return reason_set(reason, -errno, "cannot make a folder for the Unix socket: ");
    int fd = -ENOMEM;
    if (asprintf(&path, "%s/%s", folder, private_name) < 0) {
        path = NULL;
        reason_set(reason, fd, "%s: ", folder);
    } else {
        fd = open_at(listeners, path, reason);
    }
    if (fd >= 0) {
        listeners->fds[listeners->count++] = fd;
        listeners->unix_path = path;
        listeners->unix_dir = folder;
        return 0;
    }
    rmdir(folder);
    free(path);
    free(folder);
    return fd;
}

static int open_unix(const struct listen_options *options, struct listeners *listeners,
                     struct reason *reason)
{
    if (strcmp(options->unix_path, "-") == 0)
        return open_private(listeners, reason);
    if (options->unix_path[0] == '\0')
        return reason_set(reason, -EINVAL, "the path of the Unix socket is empty");
    char *path = absolute(options->unix_path);
    if (!path)
        return reason_set(reason, -errno, "%s: ", options->unix_path);
    int fd = open_at(listeners, path, reason);
    if (fd < 0) {
        free(path);
        return fd;
    }
    listeners->fds[listeners->count++] = fd;
    listeners->unix_path = path;
    return 0;
}

void listen_unix_remove(struct listeners *listeners)
{
    const char *path = listeners->unix_path;
    if (path) {
        int lock = lock_folder_of(path);
        if (is_our_file(listeners))
            unlink(path);
        if (lock >= 0)
            close(lock);
    }
    if (listeners->unix_dir)
        rmdir(listeners->unix_dir);
}

const struct socket_kind socket_unix = {.name = "unix", .open = open_unix};
