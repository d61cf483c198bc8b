/* SPDX-License-Identifier: BSD-3-Clause */

/* client - a client's end of the NBD protocol, as bytes
 *
 * Fixed newstyle only, the export with the empty name, no TLS.  If the server breaks the protocol
 * or the system refuses something, the program ends with a message: a benchmark would mean
 * nothing then.
 *
 * Any thread may call anything here; a socket belongs to one caller at a time.  Sizes and offsets
 * are bytes.
 */

#ifndef NBDRAM_BENCH_CLIENT_H
#define NBDRAM_BENCH_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nbd/protocol.h"

/* What the client negotiates. */
enum client_style {
    CLIENT_SIMPLE,     /* nothing: replies are simple */
    CLIENT_STRUCTURED, /* structured replies */
    CLIENT_EXTENDED,   /* extended headers */
};

enum client_kind {
    CLIENT_REPLY_SIMPLE, /* error; if a read succeeded, as many bytes as it asked for follow */
    CLIENT_REPLY_NONE,   /* nothing but the end of the request */
    CLIENT_REPLY_DATA,   /* count bytes at offset follow */
    CLIENT_REPLY_HOLE,   /* count bytes at offset are zeroes */
    CLIENT_REPLY_ERROR,  /* error; its text follows */
};

enum {
    CLIENT_REQUEST_MAX = 32, /* bytes that client_put_request() writes at most */
    CLIENT_HEAD_MAX = 44,    /* bytes that client_get_reply() needs at most */
};

struct client_request {
    uint64_t cookie, offset;
    uint32_t count;
    enum nbd_command_type command; /* NBD_CMD_WRITE: count bytes of payload are to follow */
    unsigned flags;
};

struct client_reply {
    enum client_kind kind;
    uint64_t cookie;
    uint64_t request_offset; /* extended only */
    uint64_t offset;
    uint32_t count;
    uint32_t error;   /* an NBD error number, 0 if there is none */
    uint32_t payload; /* bytes that follow the head: data, or text to skip */
    bool is_done;     /* the last of its request */
};

/* Returns a connected, blocking socket.  An address with a slash is the path of a Unix socket,
 * another one HOST:PORT. */
int client_connect(const char *address);

/* Do the whole handshake, and return the size of the export. */
uint64_t client_handshake(int fd, enum client_style style);

/* Put the head of a request to `to`, and return its size. */
size_t client_put_request(char *to, enum client_style style,
                          const struct client_request *request);

/* Parse the head of the reply that starts at `from`, where there are count bytes.  Returns its
 * size, or 0 if there have to be more bytes. */
size_t client_get_reply(const char *from, size_t count, enum client_style style,
                        struct client_reply *reply);

#endif
