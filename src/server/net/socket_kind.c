/* SPDX-License-Identifier: BSD-3-Clause */

#include "server/net/socket_kind.h"

#include <stdio.h>

#include "server/net/socket.h"

static const struct socket_kind *const kinds[] = {
    &socket_tcp, &socket_unix, &socket_vsock, &socket_activated, &socket_stdio,
};

const struct socket_kind *socket_kind_of_family(sa_family_t family)
{
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        for (size_t j = 0; j < SOCKET_FAMILIES_MAX; j++)
            if (family != AF_UNSPEC && kinds[i]->families[j] == family)
                return kinds[i];
    return NULL;
}

void socket_name_holder(int fd, char *name, size_t size)
{
    struct socket_address address;
    int r = socket_peer_address(fd, &address);
    const struct socket_kind *kind = r < 0 ? NULL : socket_kind_of_family(address.any.sa_family);
    if (kind && kind->name_holder)
        kind->name_holder(fd, &address, name, size);
    else
        snprintf(name, size, "unknown");
}
