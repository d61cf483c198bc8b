/* SPDX-License-Identifier: BSD-3-Clause */

/* We read pre-shared keys into memory ourselves.  GnuTLS would open the file of the keys at each
 * handshake.  But by then the process is in the background, has another current folder, and may
 * run as another user. */

#include "server/net/tls_credentials.h"

#include <errno.h>
#include <gnutls/gnutls.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/net/tls_peer.h"
#include "text/reason.h"

#define VERSIONS "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"
#define PRIORITY_CERTIFICATES VERSIONS
#define PRIORITY_KEYS VERSIONS ":-KX-ALL:+ECDHE-PSK:+DHE-PSK:+PSK"

#define ROOT_FOLDER "/etc/pki/nbdkit"

static int no_memory(struct reason *reason)
{
    return reason_set(reason, -ENOMEM, "%s", strerror(ENOMEM));
}

static int keep_path(struct tls_credentials *credentials, const char *path, struct reason *reason)
{
    credentials->path = strdup(path);
    return credentials->path ? 0 : no_memory(reason);
}

/* Pre-shared keys. */

static void free_key(struct tls_key *key)
{
    if (key->key.data)
        gnutls_memset(key->key.data, 0, key->key.size);
    gnutls_free(key->key.data);
    gnutls_free(key->user.data);
    free(key);
}

static int decode_hex(gnutls_datum_t *to, char *text)
{
    gnutls_datum_t hex = {.data = (unsigned char *)text, .size = (unsigned)strlen(text)};
    return gnutls_hex_decode2(&hex, to);
}

/* Parse USER:KEY.  If the name of a user is not text, USER is # and the name in hexadecimal.
 * Returns 0 or an error of GnuTLS. */
static int parse_key(char *line, struct tls_key *key)
{
    char *colon = strchr(line, ':');
    if (!colon || colon == line || colon[1] == '\0')
        return GNUTLS_E_PARSING_ERROR;
    *colon = '\0';
    int error = line[0] == '#' ? decode_hex(&key->user, line + 1)
                               : tls_copy_datum(&key->user, line, strlen(line));
    return error < 0 ? error : decode_hex(&key->key, colon + 1);
}

/* Append the keys of a file to a list.  Returns 0, -ENOMEM, or the number of the first wrong
 * line. */
static long read_keys(FILE *file, struct tls_key **end)
{
    char *line = NULL;
    size_t size = 0;
    long number = 0, result = 0;
    while (result == 0 && getline(&line, &size, file) >= 0) {
        number++;
        line[strcspn(line, "\r\n")] = '\0';
        if (line[0] == '\0')
            continue;
        struct tls_key *key = calloc(1, sizeof *key);
        int error = key ? parse_key(line, key) : GNUTLS_E_MEMORY_ERROR;
        if (error >= 0) {
            *end = key;
            end = &key->next;
            continue;
        }
        result = error == GNUTLS_E_MEMORY_ERROR ? -ENOMEM : number;
        if (key)
            free_key(key);
    }
    /* getline returns -1 both at the end of the file and when there is no memory. */
    if (result == 0 && !feof(file) && !ferror(file))
        result = -ENOMEM;
    if (line)
        gnutls_memset(line, 0, size);
    free(line);
    return result;
}

static int load_keys(struct tls_credentials *credentials, const char *path, struct reason *reason)
{
    FILE *file = fopen(path, "re");
    if (!file)
        return reason_set(reason, -errno, "%s: ", path);
    /* The buffer is our own, because fclose would not erase the keys in another one.  Without a
     * buffer, 40,000 keys took 4 s, and no connection was accepted during that time. */
    char buffer[4096];
    setvbuf(file, buffer, _IOFBF, sizeof buffer);
    long wrong = read_keys(file, &credentials->keys);
    bool is_unread = ferror(file) != 0;
    fclose(file);
    gnutls_memset(buffer, 0, sizeof buffer);
    if (is_unread)
        return reason_set(reason, -EIO, "%s: cannot be read", path);
    if (wrong > 0)
        return reason_set(reason, -EINVAL, "%s:%ld: not USER:KEY with a hexadecimal key", path,
                          wrong);
    if (wrong < 0 || gnutls_psk_allocate_server_credentials(&credentials->psk) < 0)
        return no_memory(reason);
    if (!credentials->keys)
        return reason_set(reason, -EINVAL, "%s: there are no keys in it", path);
    gnutls_psk_set_server_credentials_function2(credentials->psk, tls_peer_find_key);
    return keep_path(credentials, path, reason);
}

/* Certificates. */

/* The paths of the files in a folder of certificates. */
struct certificate_files {
    char *ca, *crl, *certificate, *key;
};

static void free_paths(struct certificate_files *files)
{
    free(files->ca);
    free(files->crl);
    free(files->certificate);
    free(files->key);
}

static char *join_path(const char *folder, const char *name)
{
    char *path = NULL;
    return asprintf(&path, "%s/%s", folder, name) < 0 ? NULL : path;
}

static int name_files(const char *folder, struct certificate_files *files)
{
    *files = (struct certificate_files){
        .ca = join_path(folder, "ca-cert.pem"),
        .crl = join_path(folder, "ca-crl.pem"),
        .certificate = join_path(folder, "server-cert.pem"),
        .key = join_path(folder, "server-key.pem"),
    };
    if (files->ca && files->crl && files->certificate && files->key)
        return 0;
    free_paths(files);
    return -ENOMEM;
}

/* Can a file be read?  Returns 0, or -errno with a reason.  GnuTLS would wait for ever for a FIFO
 * that nobody writes, and the main thread does not handle signals while it waits. */
static int check_file(const char *path, struct reason *reason)
{
    struct stat status;
    if (access(path, R_OK) < 0 || stat(path, &status) < 0)
        return reason_set(reason, -errno, "%s: ", path);
    if (!S_ISREG(status.st_mode))
        return reason_set(reason, -EINVAL, "%s: not a regular file", path);
    return 0;
}

/* Find the first required file that cannot be read.  Returns 0 if there is none. */
static int check_required(const struct certificate_files *files, struct reason *reason)
{
    int r = check_file(files->ca, reason);
    if (r == 0)
        r = check_file(files->certificate, reason);
    return r == 0 ? check_file(files->key, reason) : r;
}

/* Is there a list of revoked certificates?  If this cannot be found out, there is one, and it
 * cannot be read. */
static bool has_revocations(const struct certificate_files *files)
{
    return access(files->crl, F_OK) == 0 || errno != ENOENT;
}

static int load_files(struct tls_credentials *credentials, const struct certificate_files *files,
                      struct reason *reason)
{
    bool has_crl = has_revocations(files);
    int r = check_required(files, reason);
    if (r == 0 && has_crl)
        r = check_file(files->crl, reason);
    if (r < 0)
        return r;
    if (gnutls_certificate_allocate_credentials(&credentials->certificates) < 0)
        return no_memory(reason);
    gnutls_certificate_credentials_t to = credentials->certificates;
    const char *path = files->ca;
    /* A result above 0 is the number of certificates. */
    int error = gnutls_certificate_set_x509_trust_file(to, path, GNUTLS_X509_FMT_PEM);
    if (error == 0)
        error = GNUTLS_E_NO_CERTIFICATE_FOUND;
    if (error > 0 && has_crl) {
        path = files->crl;
        error = gnutls_certificate_set_x509_crl_file(to, path, GNUTLS_X509_FMT_PEM);
    }
    if (error >= 0) {
        path = files->certificate;
        error = gnutls_certificate_set_x509_key_file(to, path, files->key, GNUTLS_X509_FMT_PEM);
    }
    if (error >= 0)
        return 0;
    return reason_set(reason, -EINVAL, "%s%s: %s", path,
                      path == files->certificate ? ", or server-key.pem next to it" : "",
                      gnutls_strerror(error));
}

/* Load the certificates of a folder.  If is_usual is true, the folder is one that nbdkit searches
 * by default.  If such a folder lacks a required file, nothing is loaded from it, and the result
 * is 0. */
static int load_folder(struct tls_credentials *credentials, const char *folder, bool is_usual,
                       struct reason *reason)
{
    struct certificate_files files;
    if (name_files(folder, &files) < 0)
        return no_memory(reason);
    int r = 0;
    if (!is_usual || check_required(&files, reason) == 0)
        r = load_files(credentials, &files, reason);
    free_paths(&files);
    return r < 0 || !credentials->certificates ? r : keep_path(credentials, folder, reason);
}

static int load_usual_folders(struct tls_credentials *credentials, struct reason *reason)
{
    static const char *const below_home[] = {".pki/nbdkit", ".config/pki/nbdkit"};
    const char *home = geteuid() == 0 ? NULL : getenv("HOME");
    int r = 0;
    if (geteuid() == 0)
        r = load_folder(credentials, ROOT_FOLDER, true, reason);
    for (size_t i = 0; home && i < 2 && r == 0 && !credentials->certificates; i++) {
        char *path = join_path(home, below_home[i]);
        r = path ? load_folder(credentials, path, true, reason) : no_memory(reason);
        free(path);
    }
    if (r == 0 && !credentials->certificates)
        r = reason_set(reason, -ENOENT,
                       "no certificates in the usual folders: say where they are "
                       "(--tls-certificates) or use keys (--tls-psk)");
    return r;
}

static int load_keys_or_certificates(struct tls_credentials *credentials,
                                     const struct tls_options *options, struct reason *reason)
{
    const char *priority = options->psk_file ? PRIORITY_KEYS : PRIORITY_CERTIFICATES;
    int error = gnutls_priority_init(&credentials->priority, priority, NULL);
    /* gnutls_priority_init fails if the system's configuration of GnuTLS forbids what `priority`
     * asks for. */
    if (error < 0)
        return reason_set(reason, error == GNUTLS_E_MEMORY_ERROR ? -ENOMEM : -EINVAL,
                          "TLS: %s: %s", priority, gnutls_strerror(error));
    if (options->psk_file)
        return load_keys(credentials, options->psk_file, reason);
    int r = options->certificates ? load_folder(credentials, options->certificates, false, reason)
                                  : load_usual_folders(credentials, reason);
    if (r == 0 && options->verify_peer) {
        credentials->verify_peer = true;
        gnutls_certificate_set_verify_function(credentials->certificates, tls_peer_verify);
    }
    return r;
}

int tls_credentials_load(const struct tls_options *options, struct tls_credentials **credentials,
                         struct reason *reason)
{
    struct tls_credentials *made = calloc(1, sizeof *made);
    if (!made)
        return no_memory(reason);
    atomic_init(&made->holders, 1);
    int r = load_keys_or_certificates(made, options, reason);
    if (r < 0)
        tls_credentials_release(made);
    else
        *credentials = made;
    return r;
}

const char *tls_credentials_path(const struct tls_credentials *credentials)
{
    return credentials->path;
}

/* Relaxed: the caller knows that the count is above 0, and the credentials reached it by the lock
 * of the store, or by its own hold. */
void tls_credentials_hold(struct tls_credentials *credentials)
{
    atomic_fetch_add_explicit(&credentials->holders, 1, memory_order_relaxed);
}

static void free_credentials(struct tls_credentials *credentials)
{
    if (credentials->certificates)
        gnutls_certificate_free_credentials(credentials->certificates);
    if (credentials->psk)
        gnutls_psk_free_server_credentials(credentials->psk);
    if (credentials->priority)
        gnutls_priority_deinit(credentials->priority);
    while (credentials->keys) {
        struct tls_key *key = credentials->keys;
        credentials->keys = key->next;
        free_key(key);
    }
    free(credentials->path);
    free(credentials);
}

/* Release and acquire: this pairs with the same operation in other threads.  So whatever they did
 * with the credentials happens before the last holder frees them. */
void tls_credentials_release(struct tls_credentials *credentials)
{
    if (credentials &&
        atomic_fetch_sub_explicit(&credentials->holders, 1, memory_order_acq_rel) == 1)
        free_credentials(credentials);
}
