/* SPDX-License-Identifier: BSD-3-Clause */

/* The calls that either succeed or fail, by family, each with its usual error. */

#include "shim.h"

#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* heap */

WRAP("heap", void *, malloc, (size_t size), (size), NULL, ENOMEM)
WRAP("heap", void *, calloc, (size_t count, size_t size), (count, size), NULL, ENOMEM)
WRAP("heap", void *, realloc, (void *old, size_t size), (old, size), NULL, ENOMEM)
WRAP("heap", void *, reallocarray, (void *old, size_t count, size_t size), (old, count, size),
     NULL, ENOMEM)
WRAP("heap", void *, aligned_alloc, (size_t align, size_t size), (align, size), NULL, ENOMEM)
WRAP("heap", int, posix_memalign, (void **made, size_t align, size_t size), (made, align, size),
     ENOMEM, ENOMEM)

/* pages */

WRAP("pages", void *, mmap64,
     (void *at, size_t size, int access, int flags, int fd, off64_t offset),
     (at, size, access, flags, fd, offset), MAP_FAILED, ENOMEM)
WRAP("pages", int, mprotect, (void *at, size_t size, int access), (at, size, access), -1, ENOMEM)
WRAP("pages", int, madvise, (void *at, size_t size, int advice), (at, size, advice), -1, ENOMEM)
WRAP("pages", int, mlock, (const void *at, size_t size), (at, size), -1, ENOMEM)
WRAP("pages", int, mlockall, (int flags), (flags), -1, ENOMEM)
WRAP("pages", int, mlock2, (const void *at, size_t size, unsigned flags), (at, size, flags), -1,
     ENOMEM)

/* threads */

WRAP("threads", int, pthread_create,
     (pthread_t * thread, const pthread_attr_t *attributes, void *(*body)(void *),
      void *argument),
     (thread, attributes, body, argument), EAGAIN, EAGAIN)

/* The sanitizer's runtime calls this at the start of each thread, and must succeed. */
int pthread_getattr_np(pthread_t thread, pthread_attr_t *attributes)
{
    Dl_info info;
    REAL(pthread_getattr_np);
    if (shim_hits("threads", "pthread_getattr_np", CALLER))
        return ENOMEM;
    shim_is_busy_for_excused = dladdr(CALLER, &info) != 0 && shim_excuses(&info);
    int err = real(thread, attributes);
    shim_is_busy_for_excused = false;
    return err;
}

WRAP("threads", pid_t, fork, (void), (), -1, EAGAIN)

/* descriptors */

static mode_t mode_of(int flags, va_list arguments)
{
    return flags & (O_CREAT | __O_TMPFILE) ? va_arg(arguments, mode_t) : 0;
}

int open64(const char *path, int flags, ...)
{
    va_list arguments;
    REAL(open64);
    va_start(arguments, flags);
    mode_t mode = mode_of(flags, arguments);
    va_end(arguments);
    if (!shim_hits("descriptors", "open64", CALLER))
        return real(path, flags, mode);
    shim_fails_with(EMFILE);
    return -1;
}

int openat64(int folder, const char *path, int flags, ...)
{
    va_list arguments;
    REAL(openat64);
    va_start(arguments, flags);
    mode_t mode = mode_of(flags, arguments);
    va_end(arguments);
    if (!shim_hits("descriptors", "openat64", CALLER))
        return real(folder, path, flags, mode);
    shim_fails_with(EMFILE);
    return -1;
}

WRAP("descriptors", FILE *, fopen64, (const char *path, const char *mode), (path, mode), NULL,
     EMFILE)
WRAP("descriptors", FILE *, fdopen, (int fd, const char *mode), (fd, mode), NULL, ENOMEM)
WRAP("descriptors", DIR *, opendir, (const char *path), (path), NULL, EMFILE)
WRAP("descriptors", int, socket, (int family, int type, int protocol), (family, type, protocol),
     -1, EMFILE)
WRAP("descriptors", int, accept4,
     (int listener, __SOCKADDR_ARG address, socklen_t *length, int flags),
     (listener, address, length, flags), -1, EMFILE)
WRAP("descriptors", int, epoll_create1, (int flags), (flags), -1, EMFILE)
WRAP("descriptors", int, eventfd, (unsigned value, int flags), (value, flags), -1, EMFILE)
WRAP("descriptors", int, signalfd, (int fd, const sigset_t *set, int flags), (fd, set, flags), -1,
     EMFILE)
WRAP("descriptors", int, pipe2, (int ends[2], int flags), (ends, flags), -1, EMFILE)
WRAP("descriptors", int, dup2, (int from, int to), (from, to), -1, EBUSY)

/* files */

WRAP_AFTER("files", int, fclose, (FILE * file), (file), EOF, ENOSPC)
WRAP_AFTER("files", int, fflush, (FILE * file), (file), EOF, ENOSPC)
WRAP("files", int, renameat, (int from_folder, const char *from, int to_folder, const char *to),
     (from_folder, from, to_folder, to), -1, EACCES)

/* waiting */

WRAP("waiting", int, epoll_wait, (int epoll, struct epoll_event *events, int most, int patience),
     (epoll, events, most, patience), -1, EINTR)
WRAP("waiting", int, poll, (struct pollfd * fds, nfds_t count, int patience),
     (fds, count, patience), -1, EINTR)
WRAP("watching", int, epoll_ctl, (int epoll, int how, int fd, struct epoll_event *event),
     (epoll, how, fd, event), -1, ENOMEM)

/* sockets */

WRAP("sockets", int, bind, (int fd, __CONST_SOCKADDR_ARG address, socklen_t length),
     (fd, address, length), -1, EACCES)
WRAP("sockets", int, listen, (int fd, int backlog), (fd, backlog), -1, EACCES)
WRAP("sockets", int, connect, (int fd, __CONST_SOCKADDR_ARG address, socklen_t length),
     (fd, address, length), -1, EACCES)
WRAP("sockets", int, setsockopt,
     (int fd, int level, int name, const void *value, socklen_t length),
     (fd, level, name, value, length), -1, ENOBUFS)
WRAP("sockets", int, getsockopt, (int fd, int level, int name, void *value, socklen_t *length),
     (fd, level, name, value, length), -1, ENOBUFS)
WRAP("sockets", int, getsockname, (int fd, __SOCKADDR_ARG address, socklen_t *length),
     (fd, address, length), -1, ENOBUFS)
WRAP("sockets", int, getpeername, (int fd, __SOCKADDR_ARG address, socklen_t *length),
     (fd, address, length), -1, ENOTCONN)
WRAP("sockets", int, shutdown, (int fd, int how), (fd, how), -1, ENOTCONN)

/* process: its identity, its folder, and the files it makes */

int fcntl64(int fd, int command, ...)
{
    va_list arguments;
    REAL(fcntl64);
    va_start(arguments, command);
    void *argument = va_arg(arguments, void *);
    va_end(arguments);
    if (!shim_hits("process", "fcntl64", CALLER))
        return real(fd, command, argument);
    shim_fails_with(EPERM);
    return -1;
}

WRAP("process", int, access, (const char *path, int mode), (path, mode), -1, EACCES)
WRAP("process", int, chdir, (const char *path), (path), -1, EACCES)
WRAP("process", int, fchownat, (int folder, const char *path, uid_t user, gid_t group, int flags),
     (folder, path, user, group, flags), -1, EPERM)
WRAP("process", int, flock, (int fd, int operation), (fd, operation), -1, ENOLCK)
WRAP("process", int, fstat64, (int fd, struct stat64 *status), (fd, status), -1, EACCES)
WRAP("process", int, stat64, (const char *path, struct stat64 *status), (path, status), -1,
     EACCES)
WRAP("process", int, fstatat64, (int folder, const char *path, struct stat64 *status, int flags),
     (folder, path, status, flags), -1, EACCES)
WRAP("process", char *, getcwd, (char *to, size_t size), (to, size), NULL, ENOENT)
WRAP("process", int, getgroups, (int most, gid_t *groups), (most, groups), -1, EINVAL)
WRAP("process", int, getresgid, (gid_t * real_id, gid_t *effective, gid_t *saved),
     (real_id, effective, saved), -1, EPERM)
WRAP("process", int, getresuid, (uid_t * real_id, uid_t *effective, uid_t *saved),
     (real_id, effective, saved), -1, EPERM)
WRAP("process", int, getrlimit64, (__rlimit_resource_t what, struct rlimit64 *limit),
     (what, limit), -1, EPERM)
WRAP("process", int, initgroups, (const char *user, gid_t group), (user, group), -1, EPERM)
WRAP("process", int, lchown, (const char *path, uid_t user, gid_t group), (path, user, group), -1,
     EPERM)
WRAP("process", int, lstat64, (const char *path, struct stat64 *status), (path, status), -1,
     EACCES)
WRAP("process", char *, mkdtemp, (char *path), (path), NULL, EACCES)
WRAP("process", int, rmdir, (const char *path), (path), -1, EBUSY)
WRAP("process", int, sched_getaffinity, (pid_t pid, size_t size, cpu_set_t *set),
     (pid, size, set), -1, EINVAL)
WRAP("process", int, setgroups, (size_t count, const gid_t *groups), (count, groups), -1, EPERM)
WRAP("process", int, setpriority, (__priority_which_t which, id_t who, int priority),
     (which, who, priority), -1, EPERM)
WRAP("process", int, setresgid, (gid_t real_id, gid_t effective, gid_t saved),
     (real_id, effective, saved), -1, EPERM)
WRAP("process", int, setresuid, (uid_t real_id, uid_t effective, uid_t saved),
     (real_id, effective, saved), -1, EPERM)
WRAP("process", int, setrlimit64, (__rlimit_resource_t what, const struct rlimit64 *limit),
     (what, limit), -1, EPERM)
WRAP("process", pid_t, setsid, (void), (), -1, EPERM)
WRAP("process", int, sigaction,
     (int signal_number, const struct sigaction *now, struct sigaction *before),
     (signal_number, now, before), -1, EINVAL)
WRAP("process", int, unlink, (const char *path), (path), -1, EACCES)
WRAP("process", int, unlinkat, (int folder, const char *path, int flags), (folder, path, flags),
     -1, EACCES)
