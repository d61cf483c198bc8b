/* SPDX-License-Identifier: BSD-3-Clause */

/* Each option has a row in a table.  The row says when the option is legal, and which function
 * answers it.  An option is answered when all of its bytes have arrived.  Then all of its bytes
 * are consumed, even if the option is refused.  An option with too many bytes is an exception: it
 * is answered as soon as its header has arrived, and its data are thrown away as they arrive. */

#include "nbd/handshake.h"

#include <stdio.h>

#include "nbd/wire.h"

/* The option that is being answered now. */
struct option {
    struct nbd_handshake *handshake;
    uint32_t type;
    struct wire_reader data;
    struct wire_writer *out;
};

static const char context_name[] = "base:allocation";

/* The functions in this section put the replies to options into the writer. */

static void put_reply(struct option *option, uint32_t reply, size_t length)
{
    wire_put64(option->out, NBD_REPLY_MAGIC);
    wire_put32(option->out, option->type);
    wire_put32(option->out, reply);
    wire_put32(option->out, (uint32_t)length);
}

static void reply_ack(struct option *option)
{
    put_reply(option, NBD_REP_ACK, 0);
}

static enum nbd_progress refuse_option(struct option *option, uint32_t error, const char *message)
{
    size_t length = strlen(message);
    put_reply(option, error, length);
    wire_put(option->out, message, length);
    return NBD_AGAIN;
}

static enum nbd_progress acknowledge(struct option *option)
{
    reply_ack(option);
    return NBD_AGAIN;
}

/* The functions in this section answer the options that describe or choose an export. */

static uint16_t transmission_flags(const struct nbd_handshake *handshake)
{
    unsigned flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA |
                     NBD_FLAG_CAN_MULTI_CONN | NBD_FLAG_SEND_CACHE;
    if (handshake->export->read_only)
        flags |= NBD_FLAG_READ_ONLY;
    else
        flags |= NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_FAST_ZERO;
    if (handshake->session->style != NBD_SIMPLE)
        flags |= NBD_FLAG_SEND_DF;
    if (handshake->session->style == NBD_EXTENDED)
        flags |= NBD_FLAG_BLOCK_STATUS_PAYLOAD;
    return (uint16_t)flags;
}

static void reply_info_export(struct option *option)
{
    put_reply(option, NBD_REP_INFO, 12);
    wire_put16(option->out, NBD_INFO_EXPORT);
    wire_put64(option->out, option->handshake->export->size);
    wire_put16(option->out, transmission_flags(option->handshake));
}

static void reply_info_text(struct option *option, uint16_t info, const char *text)
{
    size_t length = strlen(text);
    put_reply(option, NBD_REP_INFO, 2 + length);
    wire_put16(option->out, info);
    wire_put(option->out, text, length);
}

static void reply_info_block_size(struct option *option)
{
    const struct nbd_export *export = option->handshake->export;
    put_reply(option, NBD_REP_INFO, 14);
    wire_put16(option->out, NBD_INFO_BLOCK_SIZE);
    wire_put32(option->out, 1); /* the minimum block size is 1 byte */
    wire_put32(option->out, export->preferred);
    wire_put32(option->out, export->payload_max);
}

/* Take a string of `length` bytes from `data`.  Returns false if `length` is more than
 * NBD_STRING_MAX, if `data` has fewer bytes, or if the string contains a NUL. */
static bool get_string(struct wire_reader *data, uint32_t length, const char **string)
{
    if (length > NBD_STRING_MAX)
        return false;
    *string = (const char *)wire_get(data, length);
    return *string && !memchr(*string, 0, length);
}

/* Called when the client enters an export.  A client chooses a metadata context for one export by
 * name.  If the client now enters an export with a different name, its choice is forgotten. */
static void drop_foreign_context(struct nbd_handshake *handshake, const char *name, uint32_t size)
{
    if (handshake->name_size != size || memcmp(handshake->name, name, size) != 0)
        handshake->session->has_context = false;
}

static void reply_infos(struct option *option, unsigned asked)
{
    const struct nbd_export *export = option->handshake->export;
    reply_info_export(option);
    if (asked & 1u << NBD_INFO_NAME)
        reply_info_text(option, NBD_INFO_NAME, export->name);
    if (asked & 1u << NBD_INFO_DESCRIPTION)
        reply_info_text(option, NBD_INFO_DESCRIPTION, export->description);
    if (asked & 1u << NBD_INFO_BLOCK_SIZE)
        reply_info_block_size(option);
}

static enum nbd_progress info_or_go(struct option *option)
{
    const char *name;
    unsigned asked = 0;
    uint32_t size = wire_get32(&option->data);
    if (!get_string(&option->data, size, &name))
        return refuse_option(option, NBD_REP_ERR_INVALID,
                             "the length of the name is wrong, or it contains a NUL");
    uint16_t count = wire_get16(&option->data);
    if (option->data.failed || option->data.left != 2 * (size_t)count)
        return refuse_option(option, NBD_REP_ERR_INVALID, "the length of the list is wrong");
    while (count--) {
        uint16_t info = wire_get16(&option->data);
        if (info <= NBD_INFO_BLOCK_SIZE)
            asked |= 1u << info;
    }
    reply_infos(option, asked);
    reply_ack(option);
    if (option->type == NBD_OPT_INFO)
        return NBD_AGAIN;
    drop_foreign_context(option->handshake, name, size);
    return NBD_TRANSMISSION;
}

/* Answers EXPORT_NAME.  This option has no error reply, so the connection is closed after an
 * error. */
static enum nbd_progress export_name(struct option *option)
{
    static const uint8_t zeroes[124];
    struct nbd_handshake *handshake = option->handshake;
    uint32_t size = (uint32_t)option->data.left;
    const char *name;
    if (handshake->session->style == NBD_EXTENDED || !get_string(&option->data, size, &name))
        return NBD_CLOSE;
    drop_foreign_context(handshake, name, size);
    wire_put64(option->out, handshake->export->size);
    wire_put16(option->out, transmission_flags(handshake));
    if (!handshake->no_zeroes)
        wire_put(option->out, zeroes, sizeof zeroes);
    return NBD_TRANSMISSION;
}

static enum nbd_progress list_exports(struct option *option)
{
    const char *name = option->handshake->export->name;
    const char *description = option->handshake->export->description;
    size_t name_length = strlen(name), length = strlen(description);
    put_reply(option, NBD_REP_SERVER, 4 + name_length + length);
    wire_put32(option->out, (uint32_t)name_length);
    wire_put(option->out, name, name_length);
    wire_put(option->out, description, length);
    return acknowledge(option);
}

/* The functions in this section answer the options about metadata contexts. */

/* Whether a query asks for base:allocation.  In LIST_META_CONTEXT the query "base:" asks for all
 * contexts whose names begin with "base:". */
static bool is_our_context(uint32_t option, const char *query, uint32_t size)
{
    if (option == NBD_OPT_LIST_META_CONTEXT && size == 5)
        return memcmp(query, context_name, size) == 0;
    return size == sizeof context_name - 1 && memcmp(query, context_name, size) == 0;
}

static bool get_queries(struct option *option, uint32_t count, bool *found)
{
    for (uint32_t i = 0; i < count; i++) {
        const char *query;
        uint32_t size = wire_get32(&option->data);
        if (option->data.failed || !get_string(&option->data, size, &query))
            return false;
        *found = *found || is_our_context(option->type, query, size);
    }
    return option->data.left == 0;
}

static void reply_context(struct option *option, uint32_t number)
{
    size_t length = sizeof context_name - 1;
    put_reply(option, NBD_REP_META_CONTEXT, 4 + length);
    wire_put32(option->out, number);
    wire_put(option->out, context_name, length);
}

static enum nbd_progress meta_context(struct option *option)
{
    struct nbd_handshake *handshake = option->handshake;
    bool set = option->type == NBD_OPT_SET_META_CONTEXT, found = false;
    const char *name;
    /* SET_META_CONTEXT cancels the context that the client chose before, even if the new choice
     * is then refused. */
    if (set)
        handshake->session->has_context = false;
    if (handshake->session->style == NBD_SIMPLE)
        return refuse_option(option, NBD_REP_ERR_INVALID,
                             "structured replies have to be negotiated first");
    uint32_t size = wire_get32(&option->data);
    if (!get_string(&option->data, size, &name))
        return refuse_option(option, NBD_REP_ERR_INVALID,
                             "the length of the name is wrong, or it contains a NUL");
    uint32_t count = wire_get32(&option->data);
    if (option->data.failed || !get_queries(option, count, &found))
        return refuse_option(option, NBD_REP_ERR_INVALID, "the list of queries is malformed");
    if (found || (!set && count == 0))
        reply_context(option, set ? NBD_CONTEXT_ALLOCATION : 0);
    if (set) {
        handshake->session->has_context = found;
        handshake->name_size = size;
        memcpy(handshake->name, name, size);
    }
    return acknowledge(option);
}

/* The functions in this section answer the options that choose the style of replies, start TLS,
 * or end the handshake. */

static enum nbd_progress structured_reply(struct option *option)
{
    struct nbd_session *session = option->handshake->session;
    if (!option->handshake->policy->structured)
        return refuse_option(option, NBD_REP_ERR_POLICY, "structured replies are disabled");
    if (session->style == NBD_EXTENDED)
        return refuse_option(option, NBD_REP_ERR_EXT_HEADER_REQD,
                             "extended headers are already in use");
    session->style = NBD_STRUCTURED;
    return acknowledge(option);
}

static enum nbd_progress extended_headers(struct option *option)
{
    if (!option->handshake->policy->structured)
        return refuse_option(option, NBD_REP_ERR_POLICY, "structured replies are disabled");
    option->handshake->session->style = NBD_EXTENDED;
    return acknowledge(option);
}

static enum nbd_progress accept_starttls(struct option *option)
{
    struct nbd_handshake *handshake = option->handshake;
    if (handshake->session->secure)
        return refuse_option(option, NBD_REP_ERR_INVALID, "TLS is already in use");
    if (!handshake->policy->tls_offered)
        return refuse_option(option, NBD_REP_ERR_POLICY, "TLS is disabled");
    *handshake->session = (struct nbd_session){.secure = true};
    reply_ack(option);
    return NBD_TLS;
}

static enum nbd_progress abort_session(struct option *option)
{
    reply_ack(option);
    return NBD_CLOSE;
}

/* This section has the table of options, and the functions that use it. */

enum option_property {
    /* the option may carry data; without HAS_DATA, data are an error */
    HAS_DATA = 1 << 0,
    WITHOUT_TLS = 1 << 1,  /* the option may come before TLS even if the policy requires TLS */
    WHEN_CLOSING = 1 << 2, /* the option is answered even after the server has begun to stop */
};

static const struct rule {
    enum nbd_progress (*answer)(struct option *option);
    unsigned properties;
} rules[] = {
    [NBD_OPT_EXPORT_NAME] = {export_name, HAS_DATA},
    [NBD_OPT_ABORT] = {abort_session, HAS_DATA | WITHOUT_TLS | WHEN_CLOSING},
    [NBD_OPT_LIST] = {list_exports, 0},
    [NBD_OPT_STARTTLS] = {accept_starttls, WITHOUT_TLS},
    [NBD_OPT_INFO] = {info_or_go, HAS_DATA},
    [NBD_OPT_GO] = {info_or_go, HAS_DATA},
    [NBD_OPT_STRUCTURED_REPLY] = {structured_reply, 0},
    [NBD_OPT_LIST_META_CONTEXT] = {meta_context, HAS_DATA},
    [NBD_OPT_SET_META_CONTEXT] = {meta_context, HAS_DATA},
    [NBD_OPT_EXTENDED_HEADERS] = {extended_headers, 0},
};

/* Returns the row of an option in the table, or NULL if the option is unknown. */
static const struct rule *rule_of(uint32_t type)
{
    bool known = type < sizeof rules / sizeof rules[0] && rules[type].answer;
    return known ? &rules[type] : NULL;
}

/* Whether this option is illegal now, because the policy requires TLS first.  If it is illegal,
 * wanted_tls is set.  The end of such a connection is logged as an error, because an attacker may
 * have removed the client's STARTTLS. */
static bool comes_before_tls(const struct option *option)
{
    struct nbd_handshake *handshake = option->handshake;
    const struct rule *rule = rule_of(option->type);
    if (!handshake->policy->tls_required || handshake->session->secure ||
        (rule && rule->properties & WITHOUT_TLS))
        return false;
    handshake->wanted_tls = true;
    return true;
}

static const char tls_message[] = "this server requires TLS";

/* Check whether the option is legal in the present state.  Returns NULL if it is legal.
 * Otherwise returns the message for the client, and stores the type of the error reply
 * (NBD_REP_ERR_...) in *error. */
static const char *reason_to_refuse(const struct option *option, uint32_t *error)
{
    struct nbd_handshake *handshake = option->handshake;
    const struct rule *rule = rule_of(option->type);
    if (comes_before_tls(option)) {
        *error = NBD_REP_ERR_TLS_REQD;
        return tls_message;
    }
    if (!rule) {
        *error = NBD_REP_ERR_UNSUP;
        return "unknown option";
    }
    if (handshake->session->shutting_down && !(rule->properties & WHEN_CLOSING)) {
        *error = NBD_REP_ERR_SHUTDOWN;
        return "the server is shutting down";
    }
    if (!(rule->properties & HAS_DATA) && option->data.left) {
        *error = NBD_REP_ERR_INVALID;
        return "this option takes no data";
    }
    return NULL;
}

static enum nbd_progress answer_option(struct option *option)
{
    uint32_t error;
    const char *reason = reason_to_refuse(option, &error);
    if (!reason)
        return rules[option->type].answer(option);
    return option->type == NBD_OPT_EXPORT_NAME ? NBD_CLOSE : refuse_option(option, error, reason);
}

/* Answer an option whose data have more than NBD_OPTION_MAX bytes. */
static enum nbd_progress answer_too_big(struct option *option, uint32_t length)
{
    struct nbd_handshake *handshake = option->handshake;
    bool needs_tls = comes_before_tls(option);
    if (length > NBD_OPTION_ABSURD || option->type == NBD_OPT_EXPORT_NAME)
        return NBD_CLOSE;
    handshake->skip = length;
    if (option->type == NBD_OPT_SET_META_CONTEXT)
        handshake->session->has_context = false;
    if (option->type == NBD_OPT_ABORT) {
        handshake->closing = true;
        return acknowledge(option);
    }
    if (needs_tls)
        return refuse_option(option, NBD_REP_ERR_TLS_REQD, tls_message);
    return refuse_option(option, NBD_REP_ERR_TOO_BIG, "the option is too long");
}

static enum nbd_progress take_option(struct nbd_handshake *handshake, struct wire_reader *in,
                                     struct wire_writer *out)
{
    struct wire_reader reader = *in;
    if (in->left < NBD_OPTION_HEADER)
        return NBD_MORE;
    if (wire_get64(&reader) != NBD_OPTION_MAGIC)
        return NBD_CLOSE;
    struct option option = {.handshake = handshake, .type = wire_get32(&reader), .out = out};
    uint32_t length = wire_get32(&reader);
    if (length > NBD_OPTION_MAX) {
        *in = reader;
        return answer_too_big(&option, length);
    }
    if (reader.left < length)
        return NBD_MORE;
    option.data = wire_read(wire_get(&reader, length), length);
    *in = reader;
    return answer_option(&option);
}

/* Take the client's flags.  If the client sets a flag that was not offered, the connection is
 * closed.  A client that does not set FIXED_NEWSTYLE is accepted.  Such a client sends only
 * EXPORT_NAME. */
static enum nbd_progress take_flags(struct nbd_handshake *handshake, struct wire_reader *in)
{
    if (in->left < sizeof(uint32_t))
        return NBD_MORE;
    uint32_t flags = wire_get32(in);
    if (flags & ~(uint32_t)handshake->policy->handshake_flags)
        return NBD_CLOSE;
    handshake->has_flags = true;
    handshake->no_zeroes = flags & NBD_FLAG_NO_ZEROES;
    return NBD_AGAIN;
}

static enum nbd_progress skip_data(struct nbd_handshake *handshake, struct wire_reader *in)
{
    size_t n = in->left < handshake->skip ? in->left : handshake->skip;
    wire_get(in, n);
    handshake->skip -= (uint32_t)n;
    if (handshake->closing && handshake->skip == 0)
        return NBD_CLOSE;
    return n ? NBD_AGAIN : NBD_MORE;
}

void nbd_handshake_begin(struct nbd_handshake *handshake, const struct nbd_export *export,
                         const struct nbd_policy *policy, struct nbd_session *session,
                         struct wire_writer *out)
{
    *handshake = (struct nbd_handshake){.export = export, .policy = policy, .session = session};
    *session = (struct nbd_session){.style = NBD_SIMPLE};
    wire_put64(out, NBD_MAGIC);
    wire_put64(out, NBD_OPTION_MAGIC);
    wire_put16(out, policy->handshake_flags);
}

enum nbd_progress nbd_handshake_step(struct nbd_handshake *handshake, struct wire_reader *in,
                                     struct wire_writer *out)
{
    enum nbd_progress progress;
    if (!handshake->has_flags)
        progress = take_flags(handshake, in);
    else if (handshake->skip)
        progress = skip_data(handshake, in);
    else
        progress = take_option(handshake, in, out);
    return out->failed ? NBD_CLOSE : progress;
}
