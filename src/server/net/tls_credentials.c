/* SPDX-License-Identifier: BSD-3-Clause */

/* Keys are read into memory rather than left to GnuTLS, which would open the file at each
 * handshake: by then the process has gone to the background, in another folder, maybe as another
 * user. */

#include "server/net/tls_credentials.h"

#include "text/reason.h"

#include <ctype.h>
#include <errno.h>
#include <gnutls/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define VERSIONS "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"
#define PRIORITY_CERTIFICATES VERSIONS
#define PRIORITY_KEYS VERSIONS ":-KX-ALL:+ECDHE-PSK:+DHE-PSK:+PSK"

#define ROOT_FOLDER "/etc/pki/nbdkit"

struct key {
    struct key *next;
    gnutls_datum_t user, key;
};

struct tls_credentials {
    gnutls_priority_t priority;
    gnutls_certificate_credentials_t certificates; /* or NULL: keys */
    gnutls_psk_server_credentials_t psk;           /* or NULL: certificates */
    struct key *keys;
    bool verify_peer;
};

static int no_memory(struct reason *reason)
{
    reason_set(reason, -ENOMEM, "%s", strerror(ENOMEM));
    return -ENOMEM;
}

/* Pre-shared keys */

static void free_key(struct key *key)
{
    if (key->key.data != NULL)
        gnutls_memset(key->key.data, 0, key->key.size);
    gnutls_free(key->key.data);
    gnutls_free(key->user.data);
    free(key);
}

static int copy_datum(gnutls_datum_t *to, const void *data, size_t size)
{
    to->data = gnutls_malloc(size > 0 ? size : 1);
    if (to->data == NULL)
        return GNUTLS_E_MEMORY_ERROR;
    memcpy(to->data, data, size);
    to->size = (unsigned)size;
    return 0;
}

static int decode_hex(gnutls_datum_t *to, char *text)
{
    gnutls_datum_t hex = {.data = (unsigned char *)text, .size = (unsigned)strlen(text)};
    return gnutls_hex_decode2(&hex, to);
}

/* USER:KEY; a user that is no text is # and hexadecimal.  0 or an error of GnuTLS. */
static int parse_key(char *line, struct key *key)
{
    char *colon = strchr(line, ':');
    if (colon == NULL || colon == line || colon[1] == '\0')
        return GNUTLS_E_PARSING_ERROR;
    *colon = '\0';
    int err = line[0] == '#' ? decode_hex(&key->user, line + 1)
                             : copy_datum(&key->user, line, strlen(line));
    return err < 0 ? err : decode_hex(&key->key, colon + 1);
}

/* Append the keys of a file to a list; the number of a line that is wrong, or 0, or -ENOMEM. */
static long read_keys(FILE *file, struct key **end)
{
    char *line = NULL;
    size_t size = 0;
    long number = 0, result = 0;
    while (result == 0 && getline(&line, &size, file) >= 0) {
        number++;
        line[strcspn(line, "\r\n")] = '\0';
        if (line[0] == '\0')
            continue;
        struct key *key = calloc(1, sizeof *key);
        int err = key == NULL ? GNUTLS_E_MEMORY_ERROR : parse_key(line, key);
        if (err >= 0) {
            *end = key;
            end = &key->next;
            continue;
        }
        result = err == GNUTLS_E_MEMORY_ERROR ? -ENOMEM : number;
        if (key != NULL)
            free_key(key);
    }
    /* There is no more, or no memory to read it into: that is told in no other way. */
    if (result == 0 && !feof(file) && !ferror(file))
        result = -ENOMEM;
    if (line != NULL)
        gnutls_memset(line, 0, size);
    free(line);
    return result;
}

/* Called by GnuTLS in a handshake.  1: no such user; it then makes up a key, so that the peer
 * cannot tell that from a wrong key. */
static int find_key(gnutls_session_t session, const gnutls_datum_t *user, gnutls_datum_t *key)
{
    struct tls_peer *peer = gnutls_session_get_ptr(session);
    size_t length = user->size < sizeof peer->user ? user->size : sizeof peer->user - 1;
    for (size_t i = 0; i < length; i++)
        peer->user[i] = isprint(user->data[i]) ? (char)user->data[i] : '?';
    peer->user[length] = '\0';
    for (const struct key *at = peer->credentials->keys; at != NULL; at = at->next)
        if (at->user.size == user->size && memcmp(at->user.data, user->data, user->size) == 0)
            return copy_datum(key, at->key.data, at->key.size) < 0 ? -1 : 0;
    peer->is_unknown_user = true;
    return 1;
}

static int load_keys(struct tls_credentials *credentials, const char *path, struct reason *reason)
{
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        int err = errno;
        reason_set(reason, -EINVAL, "%s: %s", path, strerror(err));
        return -err;
    }
    setvbuf(file, NULL, _IONBF, 0); /* its buffer would be freed with keys in it */
    long wrong = read_keys(file, &credentials->keys);
    bool unread = ferror(file) != 0;
    fclose(file);
    if (unread) {
        reason_set(reason, -EINVAL, "%s: cannot be read", path);
        return -EIO;
    }
    if (wrong > 0) {
        reason_set(reason, -EINVAL, "%s:%ld: not USER:KEY with a hexadecimal key", path, wrong);
        return -EINVAL;
    }
    if (wrong < 0 || gnutls_psk_allocate_server_credentials(&credentials->psk) < 0)
        return no_memory(reason);
    if (credentials->keys == NULL) {
        reason_set(reason, -EINVAL, "%s: there is no key in it", path);
        return -EINVAL;
    }
    gnutls_psk_set_server_credentials_function2(credentials->psk, find_key);
    return 0;
}

/* Certificates */

struct folder {
    char *ca, *crl, *certificate, *key; /* paths */
};

static void free_folder(struct folder *folder)
{
    free(folder->ca);
    free(folder->crl);
    free(folder->certificate);
    free(folder->key);
}

static char *join(const char *folder, const char *name)
{
    char *path = NULL;
    return asprintf(&path, "%s/%s", folder, name) < 0 ? NULL : path;
}

static int name_files(const char *path, struct folder *folder)
{
    *folder = (struct folder){
        .ca = join(path, "ca-cert.pem"),
        .crl = join(path, "ca-crl.pem"),
        .certificate = join(path, "server-cert.pem"),
        .key = join(path, "server-key.pem"),
    };
    if (folder->ca != NULL && folder->crl != NULL && folder->certificate != NULL &&
        folder->key != NULL)
        return 0;
    free_folder(folder);
    return -ENOMEM;
}

/* The first of the files that must be there and is not to be read, with errno; or NULL. */
static const char *missing_file(const struct folder *folder)
{
    if (access(folder->ca, R_OK) != 0)
        return folder->ca;
    if (access(folder->certificate, R_OK) != 0)
        return folder->certificate;
    return access(folder->key, R_OK) != 0 ? folder->key : NULL;
}

/* Called by GnuTLS in a handshake, when the client has shown a certificate. */
static int verify_client(gnutls_session_t session)
{
    struct tls_peer *peer = gnutls_session_get_ptr(session);
    unsigned char purpose[] = GNUTLS_KP_TLS_WWW_CLIENT;
    /* cppcheck-suppress legacyUninitvar ; takes the member for the variable */
    gnutls_typed_vdata_st data = {.type = GNUTLS_DT_KEY_PURPOSE_OID, .data = purpose};
    int err = gnutls_certificate_verify_peers(session, &data, 1, &peer->distrust);
    if (err < 0)
        return err;
    return peer->distrust == 0 ? 0 : GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR;
}

static int load_files(struct tls_credentials *credentials, const struct folder *folder,
                      struct reason *reason)
{
    const char *path = missing_file(folder);
    if (path != NULL) {
        int err = errno;
        reason_set(reason, -EINVAL, "%s: %s", path, strerror(err));
        return -err;
    }
    if (gnutls_certificate_allocate_credentials(&credentials->certificates) < 0)
        return no_memory(reason);
    gnutls_certificate_credentials_t to = credentials->certificates;
    path = folder->ca;
    int err = gnutls_certificate_set_x509_trust_file(to, path, GNUTLS_X509_FMT_PEM);
    if (err == 0)
        err = GNUTLS_E_NO_CERTIFICATE_FOUND;
    if (err > 0 && access(folder->crl, F_OK) == 0) {
        path = folder->crl;
        err = gnutls_certificate_set_x509_crl_file(to, path, GNUTLS_X509_FMT_PEM);
    }
    if (err >= 0) {
        path = folder->certificate;
        err = gnutls_certificate_set_x509_key_file(to, path, folder->key, GNUTLS_X509_FMT_PEM);
    }
    if (err >= 0)
        return 0;
    reason_set(reason, -EINVAL, "%s%s: %s", path,
               path == folder->certificate ? ", or server-key.pem beside it" : "",
               gnutls_strerror(err));
    return -EINVAL;
}

/* Load from a folder.  A usual one need not have what it takes: then nothing is loaded. */
static int load_folder(struct tls_credentials *credentials, const char *path, bool is_usual,
                       struct reason *reason)
{
    struct folder folder;
    if (name_files(path, &folder) != 0)
        return no_memory(reason);
    int err = 0;
    if (!is_usual || missing_file(&folder) == NULL)
        err = load_files(credentials, &folder, reason);
    free_folder(&folder);
    return err;
}

static int load_usual_folders(struct tls_credentials *credentials, struct reason *reason)
{
    const char *home = geteuid() == 0 ? NULL : getenv("HOME");
    const char *const below_home[] = {".pki/nbdkit", ".config/pki/nbdkit"};
    int err = 0;
    if (geteuid() == 0)
        err = load_folder(credentials, ROOT_FOLDER, true, reason);
    for (size_t i = 0; home != NULL && i < 2 && err == 0 && credentials->certificates == NULL;
         i++) {
        char *path = join(home, below_home[i]);
        err = path == NULL ? no_memory(reason) : load_folder(credentials, path, true, reason);
        free(path);
    }
    if (err == 0 && credentials->certificates == NULL) {
        reason_set(reason, -EINVAL,
                   "no certificates in the usual folders: say where they are "
                   "(--tls-certificates) or use keys (--tls-psk)");
        err = -ENOENT;
    }
    return err;
}

static int load(struct tls_credentials *credentials, const struct tls_options *options,
                struct reason *reason)
{
    const char *priority = options->psk_file != NULL ? PRIORITY_KEYS : PRIORITY_CERTIFICATES;
    int err = gnutls_priority_init(&credentials->priority, priority, NULL);
    if (err < 0) {
        /* The system's own configuration can forbid what we ask for. */
        reason_set(reason, -EINVAL, "TLS: %s: %s", priority, gnutls_strerror(err));
        return err == GNUTLS_E_MEMORY_ERROR ? -ENOMEM : -EINVAL;
    }
    if (options->psk_file != NULL)
        return load_keys(credentials, options->psk_file, reason);
    err = options->certificates != NULL
              ? load_folder(credentials, options->certificates, false, reason)
              : load_usual_folders(credentials, reason);
    if (err == 0 && options->verify_peer) {
        credentials->verify_peer = true;
        gnutls_certificate_set_verify_function(credentials->certificates, verify_client);
    }
    return err;
}

int tls_credentials_load(const struct tls_options *options, struct tls_credentials **credentials,
                         struct reason *reason)
{
    struct tls_credentials *made = calloc(1, sizeof *made);
    if (made == NULL)
        return no_memory(reason);
    int err = load(made, options, reason);
    if (err != 0)
        tls_credentials_free(made);
    else
        *credentials = made;
    return err;
}

void tls_credentials_free(struct tls_credentials *credentials)
{
    if (credentials == NULL)
        return;
    if (credentials->certificates != NULL)
        gnutls_certificate_free_credentials(credentials->certificates);
    if (credentials->psk != NULL)
        gnutls_psk_free_server_credentials(credentials->psk);
    if (credentials->priority != NULL)
        gnutls_priority_deinit(credentials->priority);
    while (credentials->keys != NULL) {
        struct key *key = credentials->keys;
        credentials->keys = key->next;
        free_key(key);
    }
    free(credentials);
}

/* One session */

int tls_credentials_use(const struct tls_credentials *credentials, gnutls_session_t session,
                        struct tls_peer *peer)
{
    peer->credentials = credentials;
    gnutls_session_set_ptr(session, peer);
    int err =
        credentials->psk != NULL
            ? gnutls_credentials_set(session, GNUTLS_CRD_PSK, credentials->psk)
            : gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, credentials->certificates);
    if (err < 0 || gnutls_priority_set(session, credentials->priority) < 0)
        return -ENOMEM;
    if (credentials->verify_peer)
        gnutls_certificate_server_set_request(session, GNUTLS_CERT_REQUIRE);
    return 0;
}

static void explain_distrust(unsigned distrust, struct reason *reason)
{
    gnutls_datum_t text;
    if (gnutls_certificate_verification_status_print(distrust, GNUTLS_CRT_X509, &text, 0) < 0) {
        reason_set(reason, -EINVAL, "the client's certificate is refused");
        return;
    }
    size_t length = strlen((const char *)text.data);
    while (length > 0 && isspace(text.data[length - 1]))
        length--;
    text.data[length] = '\0';
    for (size_t i = 0; i < length; i++)
        if (text.data[i] == '\n')
            text.data[i] = ' ';
    reason_set(reason, -EINVAL, "the client's certificate: %s", (const char *)text.data);
    gnutls_free(text.data);
}

void tls_peer_explain(const struct tls_peer *peer, int error, struct reason *reason)
{
    if (peer->distrust != 0)
        explain_distrust(peer->distrust, reason);
    else if (peer->user[0] != '\0' && error != GNUTLS_E_PREMATURE_TERMINATION)
        reason_set(reason, -EINVAL, "%s \"%s\": %s",
                   peer->is_unknown_user ? "there is no key of user"
                                         : "probably not the key of user",
                   peer->user, gnutls_strerror(error));
    else if (error == GNUTLS_E_DECRYPTION_FAILED) /* OpenSSL's alerts of that are in the clear */
        reason_set(reason, -EINVAL, "probably the client does not trust our certificate: %s",
                   gnutls_strerror(error));
    else
        reason_set(reason, -EINVAL, "%s", gnutls_strerror(error));
}
