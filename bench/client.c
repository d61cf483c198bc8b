/* SPDX-License-Identifier: BSD-3-Clause */

#include <err.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "client.h"
#include "nbd/wire.h"

/* Types of chunks with this bit are errors. */
enum { REPLY_TYPE_ERROR_BIT = 1 << 15 };
enum { OPTION_REPLY_MAX = 64 << 10, ERROR_MAX = 64 << 10 };

static int connect_unix(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (strlen(path) >= sizeof address.sun_path)
        errx(EXIT_FAILURE, "%s: too long for a socket", path);
    memcpy(address.sun_path, path, strlen(path) + 1);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof address) < 0)
        err(EXIT_FAILURE, "%s", path);
    return fd;
}

static int connect_tcp(const char *name)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    const char *colon = strrchr(name, ':');
    struct addrinfo *found;
    const int yes = 1;
    char host[256];
    int fd = -1, error;

    if (!colon || (size_t)(colon - name) >= sizeof host)
        errx(EXIT_FAILURE, "%s: neither a path with a slash nor HOST:PORT", name);
    memcpy(host, name, (size_t)(colon - name));
    host[colon - name] = 0;
    error = getaddrinfo(host, colon + 1, &hints, &found);
    if (error)
        errx(EXIT_FAILURE, "%s: %s", name, gai_strerror(error));
    for (const struct addrinfo *a = found; a; a = a->ai_next) {
        fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);
        if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) == 0)
            break;
        if (!a->ai_next)
            err(EXIT_FAILURE, "%s", name);
        close(fd);
    }
    freeaddrinfo(found);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    return fd;
}

int client_connect(const char *address)
{
    return strchr(address, '/') ? connect_unix(address) : connect_tcp(address);
}

static void read_all(int fd, char *buf, size_t count)
{
    while (count > 0) {
        const ssize_t n = recv(fd, buf, count, MSG_WAITALL);

        if (n == 0)
            errx(EXIT_FAILURE, "the server closed the connection during the handshake");
        if (n < 0 && errno != EINTR)
            err(EXIT_FAILURE, "handshake");
        if (n > 0) {
            buf += n;
            count -= (size_t)n;
        }
    }
}

static void write_all(int fd, const char *buf, size_t count)
{
    while (count > 0) {
        const ssize_t n = send(fd, buf, count, MSG_NOSIGNAL);

        if (n < 0 && errno != EINTR)
            err(EXIT_FAILURE, "handshake");
        if (n > 0) {
            buf += n;
            count -= (size_t)n;
        }
    }
}

static void send_option(int fd, uint32_t option, const char *data, uint32_t count)
{
    uint8_t head[16];

    wire_set32(wire_set32(wire_set64(head, NBD_OPTION_MAGIC), option), count);
    write_all(fd, (const char *)head, sizeof head);
    write_all(fd, data, count);
}

/* Receive a reply to an option, and return its type.  *size is set if the reply describes the
 * export. */
static uint32_t receive_option_reply(int fd, uint32_t option, uint64_t *size)
{
    static _Thread_local char data[OPTION_REPLY_MAX];
    char head[20];

    read_all(fd, head, sizeof head);
    struct wire_reader reader = wire_read(head, sizeof head);
    const uint64_t magic = wire_get64(&reader);
    const uint32_t answered = wire_get32(&reader), type = wire_get32(&reader),
                   count = wire_get32(&reader);
    if (magic != NBD_REPLY_MAGIC || answered != option || count > sizeof data)
        errx(EXIT_FAILURE, "this is no reply to option %u", option);
    read_all(fd, data, count);
    reader = wire_read(data, count);
    if (type == NBD_REP_INFO && wire_get16(&reader) == NBD_INFO_EXPORT && count == 12)
        *size = wire_get64(&reader);
    return type;
}

static void ask_for(int fd, uint32_t option, const char *data, uint32_t count, uint64_t *size)
{
    uint32_t type;

    send_option(fd, option, data, count);
    do
        type = receive_option_reply(fd, option, size);
    while (type == NBD_REP_INFO);
    if (type != NBD_REP_ACK)
        errx(EXIT_FAILURE, "the server answers option %u with %#x", option, type);
}

uint64_t client_handshake(int fd, enum client_style style)
{
    static const char go[6] = {0}; /* a name of no bytes, no information asked for */
    uint64_t size = UINT64_MAX;
    char greeting[18];
    uint8_t answer[4];

    read_all(fd, greeting, sizeof greeting);
    struct wire_reader reader = wire_read(greeting, sizeof greeting);
    const bool is_nbd = wire_get64(&reader) == NBD_MAGIC;
    const bool is_newstyle = wire_get64(&reader) == NBD_OPTION_MAGIC;
    const uint16_t flags = wire_get16(&reader);
    if (!is_nbd || !is_newstyle || !(flags & NBD_FLAG_FIXED_NEWSTYLE))
        errx(EXIT_FAILURE, "the server does not speak fixed newstyle NBD");
    wire_set32(answer, flags & (NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES));
    write_all(fd, (const char *)answer, sizeof answer);
    if (style == CLIENT_STRUCTURED)
        ask_for(fd, NBD_OPT_STRUCTURED_REPLY, "", 0, &size);
    if (style == CLIENT_EXTENDED)
        ask_for(fd, NBD_OPT_EXTENDED_HEADERS, "", 0, &size);
    ask_for(fd, NBD_OPT_GO, go, sizeof go, &size);
    if (size == UINT64_MAX)
        errx(EXIT_FAILURE, "the server does not say the size");
    return size;
}

size_t client_put_request(char *to, enum client_style style, const struct client_request *request)
{
    const bool is_extended = style == CLIENT_EXTENDED;
    const bool has_payload = request->command == NBD_CMD_WRITE;
    uint8_t *start = (uint8_t *)to, *p = start;

    p = wire_set32(p, is_extended ? NBD_EXTENDED_REQUEST_MAGIC : NBD_REQUEST_MAGIC);
    p = wire_set16(p, (uint16_t)(request->flags |
                                 (is_extended && has_payload ? NBD_CMD_FLAG_PAYLOAD_LEN : 0)));
    p = wire_set16(p, (uint16_t)request->command);
    p = wire_set64(p, request->cookie);
    p = wire_set64(p, request->offset);
    p = is_extended ? wire_set64(p, request->count) : wire_set32(p, request->count);
    return (size_t)(p - start);
}

/* Take the fixed part of a chunk's payload from the reader; `length` is the size of the whole
 * payload.  False: there have to be more bytes. */
static bool get_payload_head(struct wire_reader *reader, uint64_t length,
                             struct client_reply *reply)
{
    const size_t fixed = reply->kind == CLIENT_REPLY_DATA    ? 8
                         : reply->kind == CLIENT_REPLY_HOLE  ? 12
                         : reply->kind == CLIENT_REPLY_ERROR ? 6
                                                             : 0;

    if (length < fixed || (length > fixed && fixed != 8 && fixed != 6) || length > UINT32_MAX ||
        (reply->kind == CLIENT_REPLY_ERROR && length > ERROR_MAX))
        errx(EXIT_FAILURE, "a chunk has %llu bytes", (unsigned long long)length);
    if (reply->kind == CLIENT_REPLY_DATA || reply->kind == CLIENT_REPLY_HOLE)
        reply->offset = wire_get64(reader);
    if (reply->kind == CLIENT_REPLY_HOLE)
        reply->count = wire_get32(reader);
    if (reply->kind == CLIENT_REPLY_ERROR) {
        reply->error = wire_get32(reader);
        wire_get16(reader); /* the size of the text */
    }
    reply->payload = (uint32_t)(length - fixed);
    if (reply->kind == CLIENT_REPLY_DATA)
        reply->count = reply->payload;
    return !reader->failed;
}

static enum client_kind kind_of(unsigned type)
{
    if (type & REPLY_TYPE_ERROR_BIT)
        return CLIENT_REPLY_ERROR;
    switch (type) {
    case NBD_REPLY_TYPE_NONE:
        return CLIENT_REPLY_NONE;
    case NBD_REPLY_TYPE_OFFSET_DATA:
        return CLIENT_REPLY_DATA;
    case NBD_REPLY_TYPE_OFFSET_HOLE:
        return CLIENT_REPLY_HOLE;
    default:
        errx(EXIT_FAILURE, "a chunk is of type %u", type);
    }
}

/* Take the rest of a chunk's head. */
static size_t get_chunk(struct wire_reader *reader, size_t count, bool is_extended,
                        struct client_reply *reply)
{
    const uint16_t flags = wire_get16(reader), type = wire_get16(reader);

    reply->cookie = wire_get64(reader);
    reply->request_offset = is_extended ? wire_get64(reader) : 0;
    const uint64_t length = is_extended ? wire_get64(reader) : wire_get32(reader);
    if (reader->failed)
        return 0;
    reply->kind = kind_of(type);
    reply->is_done = flags & NBD_REPLY_FLAG_DONE;
    return get_payload_head(reader, length, reply) ? count - reader->left : 0;
}

size_t client_get_reply(const char *from, size_t count, enum client_style style,
                        struct client_reply *reply)
{
    struct wire_reader reader = wire_read(from, count);
    const uint32_t magic = wire_get32(&reader);

    if (reader.failed)
        return 0;
    *reply = (struct client_reply){.kind = CLIENT_REPLY_SIMPLE, .is_done = true};
    if (magic == NBD_SIMPLE_REPLY_MAGIC && style != CLIENT_EXTENDED) {
        reply->error = wire_get32(&reader);
        reply->cookie = wire_get64(&reader);
        return reader.failed ? 0 : count - reader.left;
    }
    if (magic !=
            (style == CLIENT_EXTENDED ? NBD_EXTENDED_REPLY_MAGIC : NBD_STRUCTURED_REPLY_MAGIC) ||
        style == CLIENT_SIMPLE)
        errx(EXIT_FAILURE, "%#x does not begin a reply", magic);
    return get_chunk(&reader, count, style == CLIENT_EXTENDED, reply);
}
