/* SPDX-License-Identifier: BSD-3-Clause */

/* tls_store - the credentials that new TLS sessions get, and how they are replaced
 *
 * The main thread opens the store, reads the files again (tls_store_reload), and closes the store
 * after the loops have ended.  Loops take the present credentials when a client starts TLS:
 *
 *     main thread                              a loop
 *     reads the files, without the lock
 *     lock; replaces the pointer; unlock       lock; reads the pointer, holds; unlock
 *     releases the old credentials             makes a session, which holds, too; releases
 *
 * The lock is held for a few instructions, so no loop waits while files are read.  A session
 * holds its credentials until it ends, so a reload changes nothing for it.  The old credentials
 * are freed when the last of their sessions has ended.
 */

#ifndef NBDRAM_SERVER_NET_TLS_STORE_H
#define NBDRAM_SERVER_NET_TLS_STORE_H

#include <pthread.h>

#include "server/net/tls_credentials.h"

struct reason; /* text/reason.h */

struct tls_store {
    /* Only the main thread uses these fields. */
    struct tls_options options; /* what to read; `certificates` or `psk_file` is `path` */
    char *path;                 /* absolute: the folder of certificates, or the file of keys */

    pthread_mutex_t lock;            /* guards `present` */
    struct tls_credentials *present; /* the store holds them; NULL: the store is not open */
};

/* Read the credentials that options name: see tls_credentials_load.  Remember where they were,
 * even if the current folder, the user or $HOME changes.  Returns 0, or -errno with a reason.  On
 * an error the store is unchanged. */
int tls_store_open(struct tls_store *store, const struct tls_options *options,
                   struct reason *reason);

/* Release the credentials.  A store whose fields are all zero is accepted. */
void tls_store_close(struct tls_store *store);

/* Read the same files again.  Sessions that are made from now on get what is in them.  Returns 0.
 * On an error, returns -errno with a reason that names the file, and the present credentials stay
 * in use.  A file of keys that is not a regular file is an error: a FIFO has no second
 * content. */
int tls_store_reload(struct tls_store *store, struct reason *reason);

/* Hold the present credentials, and return them.  The caller has to release them.  Any thread may
 * call this function while the store is open. */
struct tls_credentials *tls_store_take(struct tls_store *store);

#endif
