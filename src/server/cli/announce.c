/* SPDX-License-Identifier: BSD-3-Clause */

#include "server/cli/announce.h"

#include <stdio.h>

#include "server/cli/options.h"
#include "server/net/socket_kind.h"

void announce(const struct options *options, const struct listeners *listeners)
{
    /* The program that passed us the sockets, or the command of --run, knows how to connect.
     * Such a program may share its standard output with us.  nbdcopy does so, and a text that we
     * print would corrupt the data that nbdcopy writes there. */
    bool is_known = options->listen.kind->is_passed || options->run != NULL;
    if (listeners->uri_count == 0 || (is_known && !options->print_uri))
        return;
    const char *uri = listeners->uris[0];
    if (!options->foreground || is_known) {
        for (unsigned i = 0; i < listeners->uri_count; i++)
            puts(listeners->uris[i]);
    } else {
        printf("A RAM disk at %s\n", uri);
        for (unsigned i = 1; i < listeners->uri_count; i++)
            printf("and at %s\n", listeners->uris[i]);
        putchar('\n');
        printf("    nbdinfo '%s'\n", uri);
        printf("    nbdcopy FILE '%s'\n", uri);
        printf("    qemu-img convert -n -O raw FILE '%s'\n\n", uri);
        printf("Ctrl-C stops it, and its content is lost.\n");
    }
    fflush(stdout);
}
