/* SPDX-License-Identifier: BSD-3-Clause */

#include "haggle.h"

#include <string.h>

#include "demand.h"
#include "nbd/protocol.h"

#define LOOKED_AT_MOST 65536u
#define SKIPPED_MOST 1048576u
#define CONTEXT "base:allocation"

struct option {
    uint32_t type, length;
    struct wire_reader data;
};

/* Replies. */

/* The next reply has to be this one.  Returns its data. */
static struct wire_reader expect(struct haggle *haggle, const struct option *option,
                                 uint32_t reply)
{
    struct wire_reader *out = &haggle->out;
    uint64_t magic = wire_get64(out);
    uint32_t type = wire_get32(out), got = wire_get32(out), length = wire_get32(out);
    const uint8_t *data = wire_get(out, length);
    DEMAND(!out->failed, "no reply %#x to option %u", reply, option->type);
    DEMAND(magic == NBD_REPLY_MAGIC && type == option->type && got == reply,
           "option %u: reply %#x to %u, not %#x", option->type, got, type, reply);
    return wire_read(data, length);
}

static void expect_text(struct haggle *haggle, const struct option *option, uint32_t reply)
{
    if (haggle->dry)
        return;
    struct wire_reader text = expect(haggle, option, reply);
    DEMAND(text.left <= NBD_STRING_MAX, "a long text");
    while (text.left) {
        uint8_t c = *wire_get(&text, 1);
        DEMAND(c >= ' ' && c < 0x7f, "a text with %#x", c);
    }
}

static void expect_exactly(struct haggle *haggle, const struct option *option, uint32_t reply,
                           const uint8_t *data, const uint8_t *end)
{
    if (haggle->dry)
        return;
    struct wire_reader got = expect(haggle, option, reply);
    DEMAND(got.left == (size_t)(end - data) && memcmp(got.at, data, got.left) == 0,
           "reply %#x to option %u holds other bytes", reply, option->type);
}

static enum haggle_end refuse(struct haggle *haggle, const struct option *option, uint32_t error)
{
    expect_text(haggle, option, error);
    return HAGGLE_WAITS;
}

static enum haggle_end acknowledge(struct haggle *haggle, const struct option *option)
{
    expect_exactly(haggle, option, NBD_REP_ACK, NULL, NULL);
    return HAGGLE_WAITS;
}

/* The export. */

static uint16_t flags_of(const struct haggle *haggle)
{
    unsigned flags = 1 | 1 << 2 | 1 << 3 | 1 << 8 | 1 << 10;
    flags |= haggle->export->read_only ? 1 << 1 : 1 << 5 | 1 << 6 | 1 << 11;
    flags |= haggle->session.style == NBD_SIMPLE ? 0 : 1 << 7;
    flags |= haggle->session.style == NBD_EXTENDED ? 1 << 12 : 0;
    return (uint16_t)flags;
}

static void expect_infos(struct haggle *haggle, const struct option *option, unsigned asked)
{
    const struct nbd_export *export = haggle->export;
    const char *texts[] = {export->name, export->description};
    uint8_t data[2 + NBD_STRING_MAX], *at = wire_set16(data, NBD_INFO_EXPORT);
    at = wire_set16(wire_set64(at, export->size), flags_of(haggle));
    expect_exactly(haggle, option, NBD_REP_INFO, data, at);
    for (uint16_t info = NBD_INFO_NAME; info <= NBD_INFO_DESCRIPTION; info++) {
        const char *text = texts[info - NBD_INFO_NAME];
        at = wire_set(wire_set16(data, info), text, strlen(text));
        if (asked & 1u << info)
            expect_exactly(haggle, option, NBD_REP_INFO, data, at);
    }
    at = wire_set32(wire_set16(data, NBD_INFO_BLOCK_SIZE), 1);
    at = wire_set32(wire_set32(at, export->preferred), export->payload_max);
    if (asked & 1u << NBD_INFO_BLOCK_SIZE)
        expect_exactly(haggle, option, NBD_REP_INFO, data, at);
}

/* A string with its length before it. */
static bool get_string(struct wire_reader *data, const uint8_t **string, uint32_t *size)
{
    *size = wire_get32(data);
    *string = wire_get(data, *size);
    return !data->failed && *size <= NBD_STRING_MAX &&
           (*size == 0 || !memchr(*string, '\0', *size));
}

/* Begin the transmission.  Contexts only count if they were chosen for an export of this name. */
static enum haggle_end start(struct haggle *haggle, const uint8_t *name, uint32_t size)
{
    if (haggle->context_size != size || (size && memcmp(haggle->context_name, name, size) != 0))
        haggle->session.has_context = false;
    return HAGGLE_GO;
}

static enum haggle_end info_or_go(struct haggle *haggle, struct option *option)
{
    const uint8_t *name;
    uint32_t size;
    unsigned asked = 0;
    if (!get_string(&option->data, &name, &size))
        return refuse(haggle, option, NBD_REP_ERR_INVALID);
    uint16_t count = wire_get16(&option->data);
    if (option->data.failed || option->data.left != count * 2u)
        return refuse(haggle, option, NBD_REP_ERR_INVALID);
    while (option->data.left) {
        uint16_t info = wire_get16(&option->data);
        asked |= info < 16 ? 1u << info : 0;
    }
    expect_infos(haggle, option, asked);
    acknowledge(haggle, option);
    return option->type == NBD_OPT_GO ? start(haggle, name, size) : HAGGLE_WAITS;
}

static enum haggle_end export_name(struct haggle *haggle, const struct option *option)
{
    static const uint8_t zeroes[124];
    const uint8_t *name = option->data.at, *got;
    if (option->length > NBD_STRING_MAX || memchr(name, '\0', option->length) ||
        haggle->session.style == NBD_EXTENDED)
        return HAGGLE_CLOSES;
    enum haggle_end end = start(haggle, name, option->length);
    if (haggle->dry)
        return end;
    uint64_t size = wire_get64(&haggle->out);
    uint16_t flags = wire_get16(&haggle->out);
    DEMAND(!haggle->out.failed && size == haggle->export->size && flags == flags_of(haggle),
           "size %llu, flags %#x", (unsigned long long)size, flags);
    if (!haggle->no_zeroes) {
        got = wire_get(&haggle->out, sizeof zeroes);
        DEMAND(got && memcmp(got, zeroes, sizeof zeroes) == 0, "not zeroes");
    }
    return end;
}

static enum haggle_end list(struct haggle *haggle, const struct option *option)
{
    const char *name = haggle->export->name, *description = haggle->export->description;
    uint8_t data[4 + 2 * NBD_STRING_MAX], *at = wire_set32(data, (uint32_t)strlen(name));
    at = wire_set(wire_set(at, name, strlen(name)), description, strlen(description));
    expect_exactly(haggle, option, NBD_REP_SERVER, data, at);
    return acknowledge(haggle, option);
}

/* Contexts. */

static bool get_queries(struct option *option, bool *found)
{
    uint32_t count = wire_get32(&option->data);
    bool lists = option->type == NBD_OPT_LIST_META_CONTEXT;
    *found = lists && count == 0;
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *query;
        uint32_t size;
        if (!get_string(&option->data, &query, &size))
            return false;
        *found |= size == strlen(CONTEXT) && memcmp(query, CONTEXT, size) == 0;
        *found |= lists && size == strlen("base:") && memcmp(query, "base:", size) == 0;
    }
    return !option->data.failed && option->data.left == 0;
}

static enum haggle_end contexts(struct haggle *haggle, struct option *option)
{
    bool set = option->type == NBD_OPT_SET_META_CONTEXT, found;
    const uint8_t *name;
    uint32_t size;
    haggle->session.has_context &= !set;
    if (haggle->session.style == NBD_SIMPLE || !get_string(&option->data, &name, &size) ||
        !get_queries(option, &found))
        return refuse(haggle, option, NBD_REP_ERR_INVALID);
    uint8_t data[64], *at = wire_set32(data, set ? NBD_CONTEXT_ALLOCATION : 0);
    if (found)
        expect_exactly(haggle, option, NBD_REP_META_CONTEXT, data,
                       wire_set(at, CONTEXT, strlen(CONTEXT)));
    if (set) {
        haggle->session.has_context = found;
        haggle->context_name = name;
        haggle->context_size = size;
    }
    return acknowledge(haggle, option);
}

/* The rest. */

static enum haggle_end set_style(struct haggle *haggle, const struct option *option,
                                 enum nbd_style style)
{
    if (!haggle->policy->structured)
        return refuse(haggle, option, NBD_REP_ERR_POLICY);
    if (haggle->session.style == NBD_EXTENDED && style == NBD_STRUCTURED)
        return refuse(haggle, option, NBD_REP_ERR_EXT_HEADER_REQD);
    haggle->session.style = style;
    return acknowledge(haggle, option);
}

static enum haggle_end start_tls(struct haggle *haggle, const struct option *option)
{
    if (haggle->session.secure)
        return refuse(haggle, option, NBD_REP_ERR_INVALID);
    if (!haggle->policy->tls_offered)
        return refuse(haggle, option, NBD_REP_ERR_POLICY);
    acknowledge(haggle, option);
    haggle->session = (struct nbd_session){.secure = true};
    return HAGGLE_TLS;
}

/* Options that are legal at this point, and have no data if they must not have any. */
static enum haggle_end answer(struct haggle *haggle, struct option *option)
{
    switch (option->type) {
    case NBD_OPT_EXPORT_NAME:
        return export_name(haggle, option);
    case NBD_OPT_ABORT:
        acknowledge(haggle, option);
        return HAGGLE_CLOSES;
    case NBD_OPT_LIST:
        return list(haggle, option);
    case NBD_OPT_STARTTLS:
        return start_tls(haggle, option);
    case NBD_OPT_STRUCTURED_REPLY:
        return set_style(haggle, option, NBD_STRUCTURED);
    case NBD_OPT_EXTENDED_HEADERS:
        return set_style(haggle, option, NBD_EXTENDED);
    case NBD_OPT_LIST_META_CONTEXT:
    case NBD_OPT_SET_META_CONTEXT:
        return contexts(haggle, option);
    default:
        return info_or_go(haggle, option);
    }
}

static bool comes_before_tls(const struct haggle *haggle, const struct option *option)
{
    return haggle->policy->tls_required && !haggle->session.secure &&
           option->type != NBD_OPT_ABORT && option->type != NBD_OPT_STARTTLS;
}

static enum haggle_end take_option(struct haggle *haggle, struct option *option)
{
    bool needs_tls = comes_before_tls(haggle, option);
    switch (option->type) {
    case NBD_OPT_EXPORT_NAME:
        return needs_tls ? HAGGLE_CLOSES : answer(haggle, option);
    case NBD_OPT_LIST:
    case NBD_OPT_STARTTLS:
    case NBD_OPT_STRUCTURED_REPLY:
    case NBD_OPT_EXTENDED_HEADERS:
        if (option->length && !needs_tls)
            return refuse(haggle, option, NBD_REP_ERR_INVALID);
        break;
    case NBD_OPT_ABORT:
    case NBD_OPT_INFO:
    case NBD_OPT_GO:
    case NBD_OPT_LIST_META_CONTEXT:
    case NBD_OPT_SET_META_CONTEXT:
        break;
    default:
        return refuse(haggle, option, needs_tls ? NBD_REP_ERR_TLS_REQD : NBD_REP_ERR_UNSUP);
    }
    return needs_tls ? refuse(haggle, option, NBD_REP_ERR_TLS_REQD) : answer(haggle, option);
}

/* A long option is answered when its header has come, and then skipped.  *stuck: its end never
 * comes. */
static enum haggle_end take_long(struct haggle *haggle, const struct option *option, bool *stuck)
{
    if (option->length > SKIPPED_MOST || option->type == NBD_OPT_EXPORT_NAME)
        return HAGGLE_CLOSES;
    if (option->type == NBD_OPT_SET_META_CONTEXT)
        haggle->session.has_context = false;
    if (option->type == NBD_OPT_ABORT)
        acknowledge(haggle, option);
    else
        refuse(haggle, option,
               comes_before_tls(haggle, option) ? NBD_REP_ERR_TLS_REQD : NBD_REP_ERR_TOO_BIG);
    *stuck = haggle->in.left < option->length;
    wire_get(&haggle->in, option->length);
    return option->type == NBD_OPT_ABORT && !*stuck ? HAGGLE_CLOSES : HAGGLE_WAITS;
}

/* Take the next option.  False: not all of it has come. */
static bool take_next(struct haggle *haggle, enum haggle_end *end)
{
    struct wire_reader *in = &haggle->in;
    bool stuck = false;
    if (in->left < 16)
        return false;
    struct option option = {0};
    uint64_t magic = wire_get64(in);
    option.type = wire_get32(in);
    option.length = wire_get32(in);
    if (magic != NBD_OPTION_MAGIC) {
        *end = HAGGLE_CLOSES;
        return true;
    }
    if (option.length > LOOKED_AT_MOST) {
        *end = take_long(haggle, &option, &stuck);
        return !stuck;
    }
    option.data = wire_read(in->at, option.length);
    if (!wire_get(in, option.length))
        return false;
    *end = take_option(haggle, &option);
    return true;
}

enum haggle_end haggle_run(struct haggle *haggle)
{
    enum haggle_end end = HAGGLE_WAITS;
    if (!haggle->has_flags) {
        uint32_t flags = wire_get32(&haggle->in);
        if (haggle->in.failed)
            return HAGGLE_WAITS;
        if (flags & ~(uint32_t)haggle->policy->handshake_flags)
            return HAGGLE_CLOSES;
        haggle->has_flags = true;
        haggle->no_zeroes = flags & NBD_FLAG_NO_ZEROES;
    }
    while (end == HAGGLE_WAITS && take_next(haggle, &end))
        continue;
    return end;
}
