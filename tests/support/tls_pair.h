/* SPDX-License-Identifier: BSD-3-Clause */

/* tls_pair - a transport of the server under TLS, and a client made of GnuTLS alone
 *
 * Both ends live in one thread and take turns on non-blocking descriptors, so nothing depends on
 * time.  SIGPIPE must be ignored (tls_parties_make does it).  A function that cannot do its job
 * fails the test.
 */

#ifndef NBDRAM_TESTS_TLS_PAIR_H
#define NBDRAM_TESTS_TLS_PAIR_H

#include <gnutls/gnutls.h>
#include <stddef.h>
#include <sys/types.h>

#include "server/net/tls_credentials.h"
#include "server/net/transport.h"
#include "support/tls_parties.h"
#include "text/reason.h"

#define TLS_TURNS_MAX 1000000 /* of both ends: more is a hang */

/* Priorities of the client, in GnuTLS's grammar. */
#define TLS_NORMAL "NORMAL"
#define TLS_KEYS "NORMAL:-KX-ALL:+ECDHE-PSK:+DHE-PSK:+PSK"
#define TLS_ONLY_1_2 "NORMAL:-VERS-ALL:+VERS-TLS1.2"

struct tls_client {
    const char *priority;
    const struct tls_party *identity; /* NULL: shows no certificate */
    const struct tls_party *trusts;   /* NULL: does not look at the server's certificate */
    const char *user, *key;           /* in hexadecimal; NULL: uses certificates */
    size_t record_size;               /* the most it wants to receive; 0: any */
};

struct tls_pair {
    struct transport server;
    struct tls_credentials *server_credentials;
    gnutls_session_t client;
    gnutls_certificate_credentials_t client_certificates;
    gnutls_psk_client_credentials_t client_keys;
    int client_in, client_out; /* -1: closed */
    int server_err;            /* of the handshake */
    int client_err;            /* of the handshake, GnuTLS's number */
    struct reason reason;      /* the server's, if server_err is one */
};

/* Both ends of a pair of sockets or of two pipes, the server with these credentials, which become
 * the pair's.  The handshake is still to come. */
void tls_pair_open_sockets(struct tls_pair *pair, struct tls_credentials *credentials,
                           const struct tls_client *client);
void tls_pair_open_pipes(struct tls_pair *pair, struct tls_credentials *credentials,
                         const struct tls_client *client);

/* Make the socket buffers of both ends as small as the system allows. */
void tls_pair_shrink_buffers(struct tls_pair *pair);

/* Take turns until neither end has anything to say; server_err and client_err say how it ended.
 * After an error of one end the other still gets what was sent to it. */
void tls_pair_shake_hands(struct tls_pair *pair);

/* tls_pair_open_sockets and tls_pair_shake_hands. */
void tls_pair_connect(struct tls_pair *pair, struct tls_credentials *credentials,
                      const struct tls_client *client);

/* tls_pair_connect with the server's certificates in pki/ and a client that shows no certificate
 * and checks none. */
void tls_pair_connect_default(struct tls_pair *pair, const char *priority);

/* Close the client's descriptors without a goodbye. */
void tls_pair_close_client(struct tls_pair *pair);

/* Close and free everything.  The server's end or the client's may be closed already. */
void tls_pair_close(struct tls_pair *pair);

/* transport_receive and transport_send of the server's end. */
ssize_t tls_pair_receive(struct tls_pair *pair, void *buf, size_t size);
ssize_t tls_pair_send(struct tls_pair *pair, const void *buf, size_t size);

/* The handshake succeeded, and a word goes to the server and another one back. */
void tls_pair_assert_talking(struct tls_pair *pair);

/* The server refused the client, and its reason is one line that has these words in it. */
void tls_pair_assert_refused(const struct tls_pair *pair, const char *words);

/* The number of bytes that were moved: the result if it is positive, and 0 if nothing could be
 * done without waiting.  Any other error fails the test. */
size_t tls_moved_by_server(ssize_t result);
size_t tls_moved_by_client(ssize_t result);

#endif
