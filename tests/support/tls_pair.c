/* SPDX-License-Identifier: BSD-3-Clause */

#include "support/tls_pair.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "support/support.h"

/* In place of GnuTLS's own functions, which want sockets. */
static ssize_t client_push(gnutls_transport_ptr_t opaque, const void *data, size_t size)
{
    const struct tls_pair *pair = opaque;
    return write(pair->client_out, data, size);
}

static ssize_t client_pull(gnutls_transport_ptr_t opaque, void *data, size_t size)
{
    const struct tls_pair *pair = opaque;
    return read(pair->client_in, data, size);
}

static void set_nonblocking(int fd)
{
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
}

static void set_key(struct tls_pair *pair, const struct tls_client *client)
{
    gnutls_datum_t user = {(unsigned char *)strdup(client->user), (unsigned)strlen(client->user)};
    gnutls_datum_t key = {(unsigned char *)strdup(client->key), (unsigned)strlen(client->key)};
    assert_int_equal(
        gnutls_psk_set_client_credentials2(pair->client_keys, &user, &key, GNUTLS_PSK_KEY_HEX),
        0);
    gnutls_credentials_set(pair->client, GNUTLS_CRD_PSK, pair->client_keys);
    free(user.data);
    free(key.data);
}

static void create_client(struct tls_pair *pair, const struct tls_client *client)
{
    gnutls_certificate_allocate_credentials(&pair->client_certificates);
    gnutls_psk_allocate_client_credentials(&pair->client_keys);
    if (client->identity != NULL) {
        gnutls_x509_crt_t certificate = client->identity->certificate;
        assert_int_equal(gnutls_certificate_set_x509_key(pair->client_certificates, &certificate,
                                                         1, client->identity->key),
                         0);
    }
    assert_int_equal(gnutls_init(&pair->client, GNUTLS_CLIENT | GNUTLS_FORCE_CLIENT_CERT), 0);
    if (client->user != NULL)
        set_key(pair, client);
    else
        gnutls_credentials_set(pair->client, GNUTLS_CRD_CERTIFICATE, pair->client_certificates);
    if (client->trusts != NULL) {
        gnutls_x509_crt_t trusted = client->trusts->certificate;
        gnutls_certificate_set_x509_trust(pair->client_certificates, &trusted, 1);
        gnutls_session_set_verify_cert(pair->client, NULL, 0);
    }
    assert_int_equal(gnutls_priority_set_direct(pair->client, client->priority, NULL), 0);
    if (client->record_size != 0)
        assert_int_equal(gnutls_record_set_max_recv_size(pair->client, client->record_size), 0);
    gnutls_transport_set_ptr(pair->client, pair);
    gnutls_transport_set_push_function(pair->client, client_push);
    gnutls_transport_set_pull_function(pair->client, client_pull);
}

static void start_server(struct tls_pair *pair, struct tls_credentials *credentials)
{
    pair->server_credentials = credentials;
    assert_int_equal(transport_start_tls(&pair->server, credentials), 0);
    assert_int_equal(transport_events(&pair->server), EPOLLIN);
}

void tls_pair_open_sockets(struct tls_pair *pair, struct tls_credentials *credentials,
                           const struct tls_client *client)
{
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    *pair = (struct tls_pair){.client_in = fds[1], .client_out = fds[1]};
    set_nonblocking(fds[1]);
    assert_int_equal(transport_init(&pair->server, fds[0], fds[0], false), 0);
    create_client(pair, client);
    start_server(pair, credentials);
}

void tls_pair_open_pipes(struct tls_pair *pair, struct tls_credentials *credentials,
                         const struct tls_client *client)
{
    int there[2], back[2];
    assert_int_equal(pipe2(there, O_CLOEXEC), 0);
    assert_int_equal(pipe2(back, O_CLOEXEC), 0);
    *pair = (struct tls_pair){.client_in = back[0], .client_out = there[1]};
    set_nonblocking(back[0]);
    set_nonblocking(there[1]);
    assert_int_equal(transport_init(&pair->server, there[0], back[1], true), 0);
    create_client(pair, client);
    start_server(pair, credentials);
}

void tls_pair_shrink_buffers(struct tls_pair *pair)
{
    int size = 1; /* the system makes of it the least that it allows */
    assert_int_equal(setsockopt(pair->server.out, SOL_SOCKET, SO_SNDBUF, &size, sizeof size), 0);
    assert_int_equal(setsockopt(pair->client_out, SOL_SOCKET, SO_SNDBUF, &size, sizeof size), 0);
}

void tls_pair_shake_hands(struct tls_pair *pair)
{
    pair->server_err = -EAGAIN;
    pair->client_err = GNUTLS_E_AGAIN;
    int after = 0; /* turns since the server was done */
    for (int turn = 0; after < 10; turn++) {
        assert_true(turn < TLS_TURNS_MAX);
        if (pair->client_err == GNUTLS_E_AGAIN || pair->client_err == GNUTLS_E_INTERRUPTED)
            pair->client_err = gnutls_handshake(pair->client);
        else if (pair->client_err < 0)
            gnutls_alert_send_appropriate(pair->client, pair->client_err);
        if (pair->server_err == -EAGAIN)
            pair->server_err = transport_handshake(&pair->server, &pair->reason);
        else
            after++;
    }
}

void tls_pair_connect(struct tls_pair *pair, struct tls_credentials *credentials,
                      const struct tls_client *client)
{
    tls_pair_open_sockets(pair, credentials, client);
    tls_pair_shake_hands(pair);
}

void tls_pair_connect_default(struct tls_pair *pair, const char *priority)
{
    tls_pair_connect(pair, tls_load("pki", NULL, false),
                     &(struct tls_client){.priority = priority});
}

void tls_pair_close_client(struct tls_pair *pair)
{
    if (pair->client_in >= 0)
        close(pair->client_in);
    if (pair->client_out != pair->client_in)
        close(pair->client_out);
    pair->client_in = pair->client_out = -1;
}

void tls_pair_close(struct tls_pair *pair)
{
    if (pair->server.in >= 0)
        transport_close(&pair->server);
    tls_pair_close_client(pair);
    gnutls_deinit(pair->client);
    gnutls_certificate_free_credentials(pair->client_certificates);
    gnutls_psk_free_client_credentials(pair->client_keys);
    tls_credentials_release(pair->server_credentials);
}

ssize_t tls_pair_receive(struct tls_pair *pair, void *buf, size_t size)
{
    struct iovec iov = {.iov_base = buf, .iov_len = size};
    return transport_receive(&pair->server, &iov, 1);
}

ssize_t tls_pair_send(struct tls_pair *pair, const void *buf, size_t size)
{
    struct iovec iov = {.iov_base = (void *)(uintptr_t)buf, .iov_len = size};
    return transport_send(&pair->server, &iov, 1);
}

void tls_pair_assert_talking(struct tls_pair *pair)
{
    char buf[20] = "";
    if (pair->server_err != 0)
        fail_msg("%s", pair->reason.text);
    assert_int_equal(pair->client_err, 0);
    assert_int_equal(tls_pair_receive(pair, buf, sizeof buf), -EAGAIN);
    assert_int_equal(gnutls_record_send(pair->client, "there", 5), 5);
    assert_int_equal(tls_pair_receive(pair, buf, sizeof buf), 5);
    assert_string_equal(buf, "there");
    assert_int_equal(tls_pair_send(pair, "and back", 8), 8);
    assert_false(transport_wants_flush(&pair->server));
    assert_int_equal(gnutls_record_recv(pair->client, buf, sizeof buf), 8);
    assert_memory_equal(buf, "and back", 8);
}

void tls_pair_assert_refused(const struct tls_pair *pair, const char *words)
{
    assert_int_equal(pair->server_err, -EPROTO);
    if (strstr(pair->reason.text, words) == NULL || strchr(pair->reason.text, '\n') != NULL)
        fail_msg("\"%s\" in \"%s\"", words, pair->reason.text);
}

size_t tls_moved_by_server(ssize_t result)
{
    if (result != -EAGAIN && result < 0)
        fail_msg("%s", strerror((int)-result));
    return result > 0 ? (size_t)result : 0;
}

size_t tls_moved_by_client(ssize_t result)
{
    if (result != GNUTLS_E_AGAIN && result < 0)
        fail_msg("%s", gnutls_strerror((int)result));
    return result > 0 ? (size_t)result : 0;
}
