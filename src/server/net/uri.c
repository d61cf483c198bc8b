/* SPDX-License-Identifier: BSD-3-Clause */

#include "server/net/uri.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "server/net/listeners.h"
#include "server/net/socket.h"
#include "server/net/socket_kind.h"
#include "text/percent.h"
#include "text/string_builder.h"

static int put_uri(FILE *out, const struct listen_options *options,
                   const struct listeners *listeners, unsigned i)
{
    struct socket_address address;
    int r = socket_own_address(listeners->fds[i], &address);
    if (r < 0)
        return r;
    /* If a socket was passed to us, its address family determines the row of its kind. */
    const struct socket_kind *kind = socket_kind_of_family(address.any.sa_family);
    if (!kind || !kind->scheme)
        return -EAFNOSUPPORT;
    fprintf(out, "%s%s://", options->is_tls_required ? "nbds" : "nbd", kind->scheme);
    if (kind->put_authority)
        r = kind->put_authority(out, options, listeners, i, &address);
    fputc('/', out);
    if (options->export_name)
        percent_encode(out, options->export_name, strlen(options->export_name));
    if (kind->put_query)
        kind->put_query(out, &address);
    return r;
}

char *uri_of_listener(const struct listen_options *options, const struct listeners *listeners,
                      unsigned i)
{
    struct string_builder text;
    FILE *out = string_builder_open(&text);
    if (!out)
        return NULL;
    int r = put_uri(out, options, listeners, i);
    char *uri = string_builder_close(&text, out);
    if (r == 0)
        return uri;
    free(uri);
    return NULL;
}
