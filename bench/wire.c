/* SPDX-License-Identifier: BSD-3-Clause */

#include <endian.h>
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

#include "wire.h"

static const uint64_t greeting_magic = 0x4e42444d41474943; /* "NBDMAGIC" */
static const uint64_t option_magic = 0x49484156454f5054;   /* "IHAVEOPT" */
static const uint64_t option_reply_magic = 0x3e889045565a9;
static const uint32_t request_magic = 0x25609513, extended_request_magic = 0x21e41c71;
static const uint32_t simple_magic = 0x67446698, structured_magic = 0x668e33ef,
                      extended_magic = 0x6e8a278c;

enum { FIXED_NEWSTYLE = 1, NO_ZEROES = 2 };
enum { OPT_GO = 7, OPT_STRUCTURED_REPLY = 8, OPT_EXTENDED_HEADERS = 11 };
enum { REP_ACK = 1, REP_INFO = 3, INFO_EXPORT = 0 };
enum { FLAG_PAYLOAD_LEN = 1 << 5 };
enum { FLAG_DONE = 1, TYPE_NONE = 0, TYPE_DATA = 1, TYPE_HOLE = 2, TYPE_ERROR_BIT = 1 << 15 };
enum { OPTION_REPLY_MAX = 64 << 10, ERROR_MAX = 64 << 10 };

static uint16_t get16(const char *p)
{
    uint16_t v;

    memcpy(&v, p, sizeof v);
    return be16toh(v);
}

static uint32_t get32(const char *p)
{
    uint32_t v;

    memcpy(&v, p, sizeof v);
    return be32toh(v);
}

static uint64_t get64(const char *p)
{
    uint64_t v;

    memcpy(&v, p, sizeof v);
    return be64toh(v);
}

static char *put16(char *p, unsigned v)
{
    const uint16_t be = htobe16((uint16_t)v);

    memcpy(p, &be, sizeof be);
    return p + sizeof be;
}

static char *put32(char *p, uint32_t v)
{
    v = htobe32(v);
    memcpy(p, &v, sizeof v);
    return p + sizeof v;
}

static char *put64(char *p, uint64_t v)
{
    v = htobe64(v);
    memcpy(p, &v, sizeof v);
    return p + sizeof v;
}

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

int wire_connect(const char *address)
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
    char head[16];

    put32(put32(put64(head, option_magic), option), count);
    write_all(fd, head, sizeof head);
    write_all(fd, data, count);
}

/* One reply to OPTION: its type.  If it tells of the export, *size is set. */
static uint32_t receive_option_reply(int fd, uint32_t option, uint64_t *size)
{
    static _Thread_local char data[OPTION_REPLY_MAX];
    char head[20];
    uint32_t count, type;

    read_all(fd, head, sizeof head);
    type = get32(head + 12);
    count = get32(head + 16);
    if (get64(head) != option_reply_magic || get32(head + 8) != option || count > sizeof data)
        errx(EXIT_FAILURE, "this is no reply to option %u", option);
    read_all(fd, data, count);
    if (type == REP_INFO && count == 12 && get16(data) == INFO_EXPORT)
        *size = get64(data + 2);
    return type;
}

static void ask_for(int fd, uint32_t option, const char *data, uint32_t count, uint64_t *size)
{
    uint32_t type;

    send_option(fd, option, data, count);
    do
        type = receive_option_reply(fd, option, size);
    while (type == REP_INFO);
    if (type != REP_ACK)
        errx(EXIT_FAILURE, "the server answers option %u with %#x", option, type);
}

uint64_t wire_handshake(int fd, enum wire_style style)
{
    static const char go[6] = {0}; /* a name of no bytes, no information asked for */
    uint64_t size = UINT64_MAX;
    char greeting[18], flags[4];

    read_all(fd, greeting, sizeof greeting);
    if (get64(greeting) != greeting_magic || get64(greeting + 8) != option_magic ||
        !(get16(greeting + 16) & FIXED_NEWSTYLE))
        errx(EXIT_FAILURE, "the server does not speak fixed newstyle NBD");
    put32(flags, get16(greeting + 16) & (FIXED_NEWSTYLE | NO_ZEROES));
    write_all(fd, flags, sizeof flags);
    if (style == WIRE_STRUCTURED)
        ask_for(fd, OPT_STRUCTURED_REPLY, "", 0, &size);
    if (style == WIRE_EXTENDED)
        ask_for(fd, OPT_EXTENDED_HEADERS, "", 0, &size);
    ask_for(fd, OPT_GO, go, sizeof go, &size);
    if (size == UINT64_MAX)
        errx(EXIT_FAILURE, "the server does not tell the size");
    return size;
}

size_t wire_put_request(char *to, enum wire_style style, const struct wire_request *request)
{
    const bool is_extended = style == WIRE_EXTENDED, has_payload = request->command == WIRE_WRITE;
    char *p = put32(to, is_extended ? extended_request_magic : request_magic);

    p = put16(p, request->flags | (is_extended && has_payload ? FLAG_PAYLOAD_LEN : 0));
    p = put16(p, request->command);
    p = put64(p, request->cookie);
    p = put64(p, request->offset);
    p = is_extended ? put64(p, request->count) : put32(p, request->count);
    return (size_t)(p - to);
}

/* The fixed part of a chunk's payload, at P, of which COUNT bytes are there; LENGTH is that of
 * all of the payload.  Returns its bytes, or -1 if it needs more than COUNT. */
static int get_payload_head(const char *p, size_t count, uint64_t length,
                            struct wire_reply *reply)
{
    const size_t fixed = reply->kind == WIRE_REPLY_DATA    ? 8
                         : reply->kind == WIRE_REPLY_HOLE  ? 12
                         : reply->kind == WIRE_REPLY_ERROR ? 6
                                                           : 0;

    if (length < fixed || (length > fixed && fixed != 8 && fixed != 6) || length > UINT32_MAX ||
        (reply->kind == WIRE_REPLY_ERROR && length > ERROR_MAX))
        errx(EXIT_FAILURE, "a chunk has %llu bytes", (unsigned long long)length);
    if (count < fixed)
        return -1;
    if (reply->kind == WIRE_REPLY_DATA || reply->kind == WIRE_REPLY_HOLE)
        reply->offset = get64(p);
    if (reply->kind == WIRE_REPLY_HOLE)
        reply->count = get32(p + 8);
    if (reply->kind == WIRE_REPLY_ERROR)
        reply->error = get32(p);
    reply->payload = (uint32_t)(length - fixed);
    if (reply->kind == WIRE_REPLY_DATA)
        reply->count = reply->payload;
    return (int)fixed;
}

static enum wire_kind kind_of(unsigned type)
{
    if (type & TYPE_ERROR_BIT)
        return WIRE_REPLY_ERROR;
    if (type != TYPE_NONE && type != TYPE_DATA && type != TYPE_HOLE)
        errx(EXIT_FAILURE, "a chunk is of type %u", type);
    return type == TYPE_NONE   ? WIRE_REPLY_NONE
           : type == TYPE_DATA ? WIRE_REPLY_DATA
                               : WIRE_REPLY_HOLE;
}

static size_t get_chunk(const char *from, size_t count, bool is_extended,
                        struct wire_reply *reply)
{
    const size_t head = is_extended ? 32 : 20;
    int more;

    if (count < head)
        return 0;
    *reply = (struct wire_reply){.kind = kind_of(get16(from + 6)),
                                 .cookie = get64(from + 8),
                                 .request_offset = is_extended ? get64(from + 16) : 0,
                                 .is_done = get16(from + 4) & FLAG_DONE};
    more = get_payload_head(from + head, count - head,
                            is_extended ? get64(from + 24) : get32(from + 16), reply);
    return more < 0 ? 0 : head + (size_t)more;
}

size_t wire_get_reply(const char *from, size_t count, enum wire_style style,
                      struct wire_reply *reply)
{
    const uint32_t magic = count >= 4 ? get32(from) : 0;

    if (count < 16)
        return 0;
    if (magic == simple_magic && style != WIRE_EXTENDED) {
        *reply = (struct wire_reply){.kind = WIRE_REPLY_SIMPLE,
                                     .cookie = get64(from + 8),
                                     .error = get32(from + 4),
                                     .is_done = true};
        return 16;
    }
    if (magic != (style == WIRE_EXTENDED ? extended_magic : structured_magic) ||
        style == WIRE_SIMPLE)
        errx(EXIT_FAILURE, "%#x does not begin a reply", magic);
    return get_chunk(from, count, style == WIRE_EXTENDED, reply);
}
