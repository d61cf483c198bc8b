/* SPDX-License-Identifier: BSD-3-Clause */

/* The file of a Unix socket remains when its server ends.  So the next server tries to connect to
 * the file, to find out whether a server still listens:
 *
 *   no file          bind
 *   refused          the file is a leftover: unlink, bind
 *   anything else    a server listens: report an error, and leave the file alone
 *
 * There are two races.  A connection is also refused while another server is between its bind and
 * its listen.  And another server may bind after we have connected and before we unlink.  So we
 * lock the folder (flock) from the connect until after the listen, and again at the end, while we
 * remove the file.  Then servers of this program that start at the same time do not take each
 * other's file.
 *
 * Any process that is permitted to read the folder can hold the lock.  So we wait for the lock
 * for at most a second, and then go on without the lock.
 *
 * At the end we recognize our file by its inode number, which no other file can have while our
 * socket is open.  We do not connect again, because that would need a descriptor, and all
 * descriptors may be in use. */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "server/host/privileges.h"
#include "server/net/listeners.h"
#include "server/net/socket.h"
#include "server/net/socket_kind.h"
#include "text/percent.h"
#include "text/reason.h"

/* The size of the longest path of a socket, including the terminating zero. */
#define PATH_BYTES sizeof(((struct sockaddr_un *)0)->sun_path)

#define LOCK_TRIES 100
#define LOCK_PAUSE_MS 10

/* The size of the send buffer that we request, and that the kernel doubles.  With this buffer,
 * replies of 256 KiB are a fifth to a third faster than with the default buffer of 208 KiB,
 * because each reply is sent at once instead of in two parts.  A buffer of 2 MiB was no faster,
 * and each client that does not read would occupy that much memory.  The receive buffer of a Unix
 * socket has no effect. */
#define SEND_BUFFER (512 << 10)

static const char folder_pattern[] = "nbdram-XXXXXX";
static const char private_name[] = "socket";

/* Make a path absolute.  Returns the new path, which the caller frees, or NULL with errno set. */
static char *absolute_path(const char *path)
{
    if (path[0] == '/')
        return strdup(path);
    char *folder = getcwd(NULL, 0), *whole = NULL;
    if (folder && asprintf(&whole, "%s/%s", strcmp(folder, "/") == 0 ? "" : folder, path) < 0)
        whole = NULL;
    free(folder);
    return whole;
}

/* Find out what is at the address.  Returns
 *
 *   0             a leftover: a socket on which nobody listens
 *   -ENOENT       there is no file
 *   -EADDRINUSE   somebody listens
 *   -ENOTSOCK     the file is not a socket
 *   other         another -errno */
static int probe_file(const struct sockaddr_un *address)
{
    struct stat status;
    if (lstat(address->sun_path, &status) < 0)
        return -errno;
    if (!S_ISSOCK(status.st_mode))
        return -ENOTSOCK;
    int fd = socket_create(AF_UNIX);
    if (fd < 0)
        return fd;
    int error = connect(fd, (const struct sockaddr *)address, sizeof *address) < 0 ? errno : 0;
    close(fd);
    if (error == ECONNREFUSED)
        return 0;
    /* EAGAIN and EPROTOTYPE also mean that a server listens.  EAGAIN: the server's backlog is
     * full.  EPROTOTYPE: the server's socket is not a stream socket. */
    return error == 0 || error == EAGAIN || error == EPROTOTYPE ? -EADDRINUSE : -error;
}

/* Lock the folder of path.  Returns a descriptor, or -1 if the folder could not be locked.
 * Closing the descriptor unlocks the folder. */
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

/* If an earlier server has left its socket at the address, remove the socket.  Returns 0 if there
 * is no file at the address afterwards, or -errno with a reason. */
static int remove_leftover(const struct sockaddr_un *address, struct reason *reason)
{
    int r = probe_file(address);
    if (r == -ENOENT)
        return 0;
    if (r == -EADDRINUSE)
        return reason_set(reason, r, "%s: another server is listening there", address->sun_path);
    if (r == -ENOTSOCK)
        return reason_set(reason, r, "%s: there is a file that is not a socket",
                          address->sun_path);
    if (r == 0 && unlink(address->sun_path) < 0 && errno != ENOENT)
        r = -errno;
    if (r < 0)
        return reason_set(reason, r, "%s: cannot replace the socket: ", address->sun_path);
    return 0;
}

/* Bind.  The file has its mode from the first moment.  If the mode were changed later, clients
 * could connect in the meantime.  A mode of 0 means that the umask decides.  Returns whether it
 * worked; if not, errno is set. */
static bool bind_with_mode(int fd, const struct sockaddr_un *address, mode_t mode)
{
    mode_t before = mode ? umask(0777 & ~mode) : 0;
    bool is_bound = bind(fd, (const struct sockaddr *)address, sizeof *address) == 0;
    if (mode)
        umask(before);
    return is_bound;
}

/* Bind, listen, and remember the device and the inode of the file.  There must be no file at the
 * address.  Returns a descriptor or -errno.  On an error no file is left. */
static int listen_at(struct listeners *listeners, const struct sockaddr_un *address, mode_t mode)
{
    struct stat status;
    int fd = socket_create(AF_UNIX);
    if (fd < 0)
        return fd;
    bool has_file = bind_with_mode(fd, address, mode);
    if (has_file && listen(fd, SOCKET_BACKLOG) == 0 && lstat(address->sun_path, &status) == 0) {
        listeners->unix_device = status.st_dev;
        listeners->unix_inode = status.st_ino;
        return fd;
    }
    int r = -errno;
    if (has_file)
        unlink(address->sun_path);
    close(fd);
    return r;
}

/* Listen at path.  Returns a descriptor, or -errno with a reason. */
static int open_path(struct listeners *listeners, const char *path, mode_t mode,
                     struct reason *reason)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= PATH_BYTES)
        return reason_set(reason, -ENAMETOOLONG,
                          "the path of the Unix socket is longer than %zu bytes: %s",
                          PATH_BYTES - 1, path);
    memcpy(address.sun_path, path, strlen(path) + 1);
    int lock = lock_folder_of(path);
    int r = remove_leftover(&address, reason);
    if (r == 0) {
        r = listen_at(listeners, &address, mode);
        if (r < 0)
            reason_set(reason, r, "%s: cannot make the socket: ", path);
    }
    if (lock >= 0)
        close(lock);
    return r;
}

/* Make a folder that nobody else can enter.  It is in TMPDIR, or in /tmp if TMPDIR would make the
 * path of the socket too long.  Returns the path of the folder, which the caller frees, or NULL
 * with errno set. */
static char *make_private_folder(void)
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
    int error = errno;
    free(folder);
    errno = error;
    return NULL;
}

static int open_private(struct listeners *listeners, struct reason *reason)
{
    char *path = NULL, *folder = make_private_folder();
    if (!folder)
        return reason_set(
            reason, -errno,
            "cannot make a folder for the Unix socket in TMPDIR or /tmp (set TMPDIR "
            "to a folder that can be written to, or give --unix a path): ");
    int fd;
    if (asprintf(&path, "%s/%s", folder, private_name) < 0) {
        path = NULL;
        fd = reason_set(reason, -ENOMEM, "%s: ", folder);
    } else {
        fd = open_path(listeners, path, 0, reason);
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
    char *path = absolute_path(options->unix_path);
    if (!path)
        return reason_set(reason, -errno, "%s: ", options->unix_path);
    int fd = open_path(listeners, path, options->socket_mode, reason);
    if (fd < 0) {
        free(path);
        return fd;
    }
    listeners->fds[listeners->count++] = fd;
    listeners->unix_path = path;
    return 0;
}

static bool is_our_socket(const struct listeners *listeners, const struct stat *status)
{
    return S_ISSOCK(status->st_mode) && status->st_dev == listeners->unix_device &&
           status->st_ino == listeners->unix_inode;
}

/* Give the file to another user or group.  In a folder that strangers may write to, a stranger
 * may have put another file in the place of ours.  So the file is looked at and given away
 * through the same descriptor, and a file that has a second name elsewhere is not given away. */
static int give_file_away(const struct listeners *listeners, const struct user_ids *ids)
{
    struct stat status;
    int fd = open(listeners->unix_path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int r = fstat(fd, &status) < 0 ? -errno : 0;
    if (r == 0 && (!is_our_socket(listeners, &status) || status.st_nlink != 1))
        r = -ESTALE;
    if (r == 0 && fchownat(fd, "", ids->uid, ids->gid, AT_EMPTY_PATH) < 0)
        r = -errno;
    close(fd);
    return r;
}

static int give_files_away(const struct listeners *listeners, const struct user_ids *ids,
                           struct reason *reason)
{
    int r = give_file_away(listeners, ids);
    if (r == -EPERM)
        return reason_set(
            reason, r,
            "%s: only root may give it to another user, or to a group that the user "
            "of nbdram is not in",
            listeners->unix_path);
    if (r == 0 && listeners->unix_dir && lchown(listeners->unix_dir, ids->uid, ids->gid) < 0)
        r = -errno;
    if (r < 0)
        return reason_set(reason, r,
                          "%s: cannot give it to another user: ", listeners->unix_path);
    return 0;
}

static bool is_our_file(const struct listeners *listeners)
{
    struct stat status;
    return lstat(listeners->unix_path, &status) == 0 && is_our_socket(listeners, &status);
}

static void remove_file(struct listeners *listeners)
{
    /* A child that has not called exec yet has copies of the descriptors.  shutdown ends the
     * listening through all copies. */
    for (unsigned i = 0; i < listeners->count; i++)
        shutdown(listeners->fds[i], SHUT_RDWR);
    if (listeners->unix_path) {
        int lock = lock_folder_of(listeners->unix_path);
        if (is_our_file(listeners))
            unlink(listeners->unix_path);
        if (lock >= 0)
            close(lock);
    }
    if (listeners->unix_dir)
        rmdir(listeners->unix_dir);
}

static void put_unix_query(FILE *out, const struct socket_address *address)
{
    const struct sockaddr_un *unix_address = (const void *)&address->storage;
    size_t length = address->length - offsetof(struct sockaddr_un, sun_path);
    /* An abstract name starts with a zero byte, and can contain more zero bytes.  Any other name
     * ends at its first zero byte. */
    if (unix_address->sun_path[0] != '\0')
        length = strnlen(unix_address->sun_path, length);
    fputs("?socket=", out);
    percent_encode(out, unix_address->sun_path, length);
}

static void enlarge_send_buffer(int fd, bool keepalive)
{
    const int size = SEND_BUFFER;
    (void)keepalive;
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
}

static void name_unix_peer(int fd, const struct socket_address *address, char *name, size_t size)
{
    struct ucred peer;
    socklen_t length = sizeof peer;
    (void)address;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 && peer.pid > 0)
        snprintf(name, size, "unix:%ld", (long)peer.pid);
    else
        snprintf(name, size, "unix");
}

static void name_unix_holder(int fd, const struct socket_address *address, char *name,
                             size_t size)
{
    struct ucred peer;
    socklen_t length = sizeof peer;
    (void)address;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0)
        snprintf(name, size, "uid %lu", (unsigned long)peer.uid);
    else
        snprintf(name, size, "unknown");
}

const struct socket_kind socket_unix = {
    .name = "unix",
    .allows_tcp = true,
    .open = open_unix,
    .give_away = give_files_away,
    .before_close = remove_file,
    .scheme = "+unix",
    .put_query = put_unix_query,
    .families = {AF_UNIX},
    .tune = enlarge_send_buffer,
    .name_peer = name_unix_peer,
    .name_holder = name_unix_holder,
};
