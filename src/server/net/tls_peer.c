/* SPDX-License-Identifier: BSD-3-Clause */

#include "server/net/tls_peer.h"

#include <ctype.h>
#include <errno.h>
#include <gnutls/x509.h>
#include <string.h>

#include "text/reason.h"

int tls_copy_datum(gnutls_datum_t *to, const void *data, size_t size)
{
    to->data = gnutls_malloc(size > 0 ? size : 1);
    if (!to->data)
        return GNUTLS_E_MEMORY_ERROR;
    memcpy(to->data, data, size);
    to->size = (unsigned)size;
    return 0;
}

/* Keep the user name that the client has sent.  Such a name can consist of any bytes.  Zero
 * bytes, and bytes that are not text, become '?'. */
static void note_user(struct tls_peer *peer, const gnutls_datum_t *user)
{
    size_t length = user->size < sizeof peer->user ? user->size : sizeof peer->user - 1;
    for (size_t i = 0; i < length; i++)
        peer->user[i] = isprint(user->data[i]) ? (char)user->data[i] : '?';
    peer->user[length] = '\0';
}

int tls_peer_find_key(gnutls_session_t session, const gnutls_datum_t *user, gnutls_datum_t *key)
{
    struct tls_peer *peer = gnutls_session_get_ptr(session);
    note_user(peer, user);
    for (const struct tls_key *at = peer->credentials->keys; at; at = at->next)
        if (at->user.size == user->size && memcmp(at->user.data, user->data, user->size) == 0)
            return tls_copy_datum(key, at->key.data, at->key.size) < 0 ? -1 : 0;
    peer->is_unknown_user = true;
    return 1;
}

int tls_peer_verify(gnutls_session_t session)
{
    struct tls_peer *peer = gnutls_session_get_ptr(session);
    unsigned char purpose[] = GNUTLS_KP_TLS_WWW_CLIENT;
    /* cppcheck-suppress legacyUninitvar ; mistakes the member for a variable */
    gnutls_typed_vdata_st data = {.type = GNUTLS_DT_KEY_PURPOSE_OID, .data = purpose};
    int error = gnutls_certificate_verify_peers(session, &data, 1, &peer->distrust);
    if (error < 0)
        return error;
    return peer->distrust == 0 ? 0 : GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR;
}

int tls_peer_init(struct tls_peer *peer, const struct tls_credentials *credentials,
                  gnutls_session_t session)
{
    *peer = (struct tls_peer){.credentials = credentials};
    gnutls_session_set_ptr(session, peer);
    int error =
        credentials->psk
            ? gnutls_credentials_set(session, GNUTLS_CRD_PSK, credentials->psk)
            : gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, credentials->certificates);
    if (error < 0 || gnutls_priority_set(session, credentials->priority) < 0)
        return -ENOMEM;
    if (credentials->verify_peer)
        gnutls_certificate_server_set_request(session, GNUTLS_CERT_REQUIRE);
    return 0;
}

static int explain_distrust(unsigned distrust, int r, struct reason *reason)
{
    gnutls_datum_t text;
    if (gnutls_certificate_verification_status_print(distrust, GNUTLS_CRT_X509, &text, 0) < 0)
        return reason_set(reason, r, "the client's certificate is refused");
    size_t length = strlen((const char *)text.data);
    while (length > 0 && isspace(text.data[length - 1]))
        length--;
    reason_set(reason, r, "the client's certificate: %.*s", (int)length, (const char *)text.data);
    gnutls_free(text.data);
    return r;
}

int tls_peer_explain(const struct tls_peer *peer, int error, int r, struct reason *reason)
{
    if (peer->distrust != 0)
        return explain_distrust(peer->distrust, r, reason);
    if (peer->user[0] != '\0' && error != GNUTLS_E_PREMATURE_TERMINATION)
        return reason_set(reason, r, "%s \"%s\": %s",
                          peer->is_unknown_user ? "there is no key for user"
                                                : "probably the wrong key for user",
                          peer->user, gnutls_strerror(error));
    /* A client that uses OpenSSL sends its alert about our certificate unencrypted.  GnuTLS then
     * fails to decrypt the alert. */
    if (error == GNUTLS_E_DECRYPTION_FAILED)
        return reason_set(reason, r, "probably the client does not trust our certificate: %s",
                          gnutls_strerror(error));
    return reason_set(reason, r, "%s", gnutls_strerror(error));
}
