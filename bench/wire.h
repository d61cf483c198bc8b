/* SPDX-License-Identifier: BSD-3-Clause */

/* wire - a client's end of the NBD protocol, as bytes
 *
 * Fixed newstyle only, the export with the empty name, no TLS.  What a server may not send, and
 * what the system refuses, ends the program with a message: a benchmark of it would mean nothing.
 *
 * Any thread may call anything here; a socket belongs to one caller at a time.  Sizes and offsets
 * are bytes.  The protocol is in doc/proto.md of NetworkBlockDevice/nbd; extended headers are on
 * its branch extension-ext-header.
 */

#ifndef NBDRAM_BENCH_WIRE_H
#define NBDRAM_BENCH_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum wire_style { WIRE_SIMPLE, WIRE_STRUCTURED, WIRE_EXTENDED };

enum wire_kind {
    WIRE_REPLY_SIMPLE, /* error; the data of a successful read follows, count unknown here */
    WIRE_REPLY_NONE,
    WIRE_REPLY_DATA, /* count bytes at offset follow */
    WIRE_REPLY_HOLE, /* count bytes at offset are zeroes */
    WIRE_REPLY_ERROR,
};

enum {
    WIRE_REQUEST_MAX = 32, /* bytes that wire_put_request() writes at most */
    WIRE_HEAD_MAX = 44,    /* bytes that wire_get_reply() needs at most */
};

/* The protocol's numbers. */
enum wire_command { WIRE_READ = 0, WIRE_WRITE = 1, WIRE_TRIM = 4, WIRE_WRITE_ZEROES = 6 };
enum { WIRE_FLAG_NO_HOLE = 1 << 1 };

struct wire_request {
    uint64_t cookie, offset;
    uint32_t count;
    enum wire_command command; /* of a write, count bytes of payload are to follow the head */
    unsigned flags;
};

struct wire_reply {
    enum wire_kind kind;
    uint64_t cookie;
    uint64_t request_offset; /* extended only */
    uint64_t offset;
    uint32_t count;
    uint32_t error;   /* an NBD error number, 0 if there is none */
    uint32_t payload; /* bytes that follow the head: data, or text to skip */
    bool is_done;     /* the last of its request */
};

/* A connected, blocking socket.  ADDRESS with a slash is a Unix socket's path, else HOST:PORT. */
int wire_connect(const char *address);

/* The whole handshake.  Returns the export's size. */
uint64_t wire_handshake(int fd, enum wire_style style);

/* The head of a request, at TO.  Returns its bytes. */
size_t wire_put_request(char *to, enum wire_style style, const struct wire_request *request);

/* The head of the reply that starts at FROM, of which COUNT bytes are there.  Returns its bytes,
 * or 0 if it needs more than COUNT. */
size_t wire_get_reply(const char *from, size_t count, enum wire_style style,
                      struct wire_reply *reply);

#endif
