/* SPDX-License-Identifier: BSD-3-Clause */

#include "server/net/listen.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/host/privileges.h"
#include "server/net/socket_kind.h"
#include "server/net/uri.h"
#include "text/reason.h"

/* Add the URI of one socket, unless another socket has the same URI. */
static int add_uri(const struct listen_options *options, struct listeners *listeners, unsigned i,
                   struct reason *reason)
{
    char *uri = uri_of_listener(options, listeners, i);
    if (!uri)
        return reason_set(reason, -ENOMEM, "cannot make the URI of the socket");
    for (unsigned j = 0; j < listeners->uri_count; j++) {
        if (strcmp(listeners->uris[j], uri) == 0) {
            free(uri);
            return 0;
        }
    }
    listeners->uris[listeners->uri_count++] = uri;
    return 0;
}

int listen_open(const struct listen_options *options, struct listeners *listeners,
                struct reason *reason)
{
    *listeners = (struct listeners){.kind = options->kind};
    int r = options->kind->open(options, listeners, reason);
    if (r == 0 && options->second)
        r = options->second->open(options, listeners, reason);
    for (unsigned i = 0; r == 0 && i < listeners->count; i++)
        r = add_uri(options, listeners, i, reason);
    if (r < 0)
        listen_close(listeners);
    return r;
}

int listen_give_away(const struct listen_options *options, const struct listeners *listeners,
                     const struct user_names *names, struct reason *reason)
{
    struct user_ids ids;
    const struct user_names owner = {
        .user = names->user,
        .group = options->socket_group ? options->socket_group : names->group,
    };
    if (!listeners->kind->give_away || (!owner.user && !owner.group))
        return 0;
    int r = privileges_find(&owner, &ids, reason);
    if (r < 0)
        return r;
    /* These numbers mean "no change" to the kernel. */
    if (!owner.user)
        ids.uid = (uid_t)-1;
    if (!owner.group)
        ids.gid = (gid_t)-1;
    return listeners->kind->give_away(listeners, &ids, reason);
}

void listen_close(struct listeners *listeners)
{
    if (listeners->kind && listeners->kind->before_close)
        listeners->kind->before_close(listeners);
    for (unsigned i = 0; i < listeners->count; i++)
        close(listeners->fds[i]);
    free(listeners->unix_path);
    free(listeners->unix_dir);
    for (unsigned i = 0; i < listeners->uri_count; i++)
        free(listeners->uris[i]);
    *listeners = (struct listeners){.count = 0};
}
