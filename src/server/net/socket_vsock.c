/* SPDX-License-Identifier: BSD-3-Clause */

/* vsock connects a virtual machine and its host.  An address is a machine number (CID) and a
 * port. */

#include <errno.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#include "server/net/listeners.h"
#include "server/net/socket.h"
#include "server/net/socket_kind.h"
#include "text/parse.h"
#include "text/reason.h"

static const struct sockaddr_vm *vsock_address(const struct socket_address *address)
{
    return (const void *)&address->storage;
}

static int listen_on_port(const struct sockaddr_vm *address)
{
    int fd = socket_create(AF_VSOCK);
    if (fd < 0)
        return fd;
    if (bind(fd, (const struct sockaddr *)address, sizeof *address) == 0 &&
        listen(fd, SOCKET_BACKLOG) == 0)
        return fd;
    int r = -errno;
    close(fd);
    return r;
}

static int open_vsock(const struct listen_options *options, struct listeners *listeners,
                      struct reason *reason)
{
    struct sockaddr_vm wanted = {
        .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = LISTEN_PORT_DEFAULT};
    if (options->port &&
        parse_number(options->port, PARSE_DECIMAL, 0, VMADDR_PORT_ANY - 1, &wanted.svm_port) < 0)
        return reason_set(reason, -EINVAL, "port %s: for vsock, a number is needed",
                          options->port);
    if (wanted.svm_port == 0)
        wanted.svm_port = VMADDR_PORT_ANY;
    int fd = listen_on_port(&wanted);
    if (fd == -EAFNOSUPPORT)
        return reason_set(reason, fd, "this kernel has no vsock");
    if (fd < 0)
        return reason_set(reason, fd, "cannot listen on vsock port %u: ", wanted.svm_port);
    listeners->fds[listeners->count++] = fd;
    struct socket_address bound;
    int r = socket_own_address(fd, &bound);
    if (r < 0)
        return reason_set(reason, r, "vsock: ");
    listeners->port = vsock_address(&bound)->svm_port;
    return 0;
}

/* Write CID:PORT.  The CID is that of the loopback, which clients on this machine can use.  We do
 * not know the CID under which other machines can reach this machine. */
static int put_vsock_authority(FILE *out, const struct listen_options *options,
                               const struct listeners *listeners, unsigned i,
                               const struct socket_address *address)
{
    (void)options;
    (void)listeners;
    (void)i;
    fprintf(out, "%u:%u", VMADDR_CID_LOCAL, vsock_address(address)->svm_port);
    return 0;
}

static void name_vsock_peer(int fd, const struct socket_address *address, char *name, size_t size)
{
    (void)fd;
    snprintf(name, size, "vsock:%u:%u", vsock_address(address)->svm_cid,
             vsock_address(address)->svm_port);
}

static void name_vsock_holder(int fd, const struct socket_address *address, char *name,
                              size_t size)
{
    (void)fd;
    snprintf(name, size, "vsock %u", vsock_address(address)->svm_cid);
}

const struct socket_kind socket_vsock = {
    .name = "vsock",
    .port_max = UINT32_MAX,
    .open = open_vsock,
    .scheme = "+vsock",
    .put_authority = put_vsock_authority,
    .families = {AF_VSOCK},
    .name_peer = name_vsock_peer,
    .name_holder = name_vsock_holder,
};
