/* SPDX-License-Identifier: BSD-3-Clause */

#include "server/net/tls_store.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "text/reason.h"

/* Make a path absolute.  Symbolic links in it stay: whoever replaces certificates often replaces
 * the link to their folder.  Returns 0, or -errno with a reason. */
static int make_absolute(const char *path, char **absolute, struct reason *reason)
{
    char *folder = NULL, *joined = NULL;
    if (path[0] == '/') {
        joined = strdup(path);
    } else {
        folder = getcwd(NULL, 0);
        if (!folder)
            return reason_set(reason, -errno, "cannot find out what the current folder is: ");
        if (asprintf(&joined, "%s/%s", folder, path) < 0)
            joined = NULL;
    }
    free(folder);
    if (!joined)
        return reason_set(reason, -ENOMEM, "%s", strerror(ENOMEM));
    *absolute = joined;
    return 0;
}

int tls_store_open(struct tls_store *store, const struct tls_options *options,
                   struct reason *reason)
{
    struct tls_credentials *credentials;
    char *path = NULL;
    int r = tls_credentials_load(options, &credentials, reason);
    if (r < 0)
        return r;
    r = make_absolute(tls_credentials_path(credentials), &path, reason);
    if (r < 0) {
        tls_credentials_release(credentials);
        return r;
    }
    store->path = path;
    store->options = *options;
    store->options.psk_file = options->psk_file ? path : NULL;
    store->options.certificates = options->psk_file ? NULL : path;
    pthread_mutex_init(&store->lock, NULL);
    store->present = credentials;
    return 0;
}

void tls_store_close(struct tls_store *store)
{
    if (!store->present)
        return;
    tls_credentials_release(store->present);
    store->present = NULL;
    pthread_mutex_destroy(&store->lock);
    free(store->path);
}

int tls_store_reload(struct tls_store *store, struct reason *reason)
{
    struct tls_credentials *credentials, *old;
    struct stat status;
    if (stat(store->path, &status) < 0)
        return reason_set(reason, -errno, "%s: ", store->path);
    if (store->options.psk_file && !S_ISREG(status.st_mode))
        return reason_set(reason, -EINVAL, "%s: not a regular file", store->path);
    int r = tls_credentials_load(&store->options, &credentials, reason);
    if (r < 0)
        return r;
    pthread_mutex_lock(&store->lock);
    old = store->present;
    store->present = credentials;
    pthread_mutex_unlock(&store->lock);
    tls_credentials_release(old);
    return 0;
}

struct tls_credentials *tls_store_take(struct tls_store *store)
{
    pthread_mutex_lock(&store->lock);
    struct tls_credentials *present = store->present;
    tls_credentials_hold(present);
    pthread_mutex_unlock(&store->lock);
    return present;
}
