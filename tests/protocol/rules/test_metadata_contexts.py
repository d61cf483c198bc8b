# SPDX-License-Identifier: BSD-3-Clause
"""Metadata contexts: how they are listed, selected, and lost again.

Specification: "Metadata querying", "Option types" (NBD_OPT_LIST_META_CONTEXT,
NBD_OPT_SET_META_CONTEXT) and "The `base:` metadata namespace".
"""

import itertools

import pytest

from client import Connection
from harness import KIB
from rules import (
    ALLOCATION,
    CONTEXT_QUERY,
    COUNT_MAX,
    INVALID,
    NAMES,
    STRUCTURED_FIRST,
    TOO_BIG,
    OptionRow,
    each_row,
    in_chunked_styles,
    short_option,
    u32,
)
from wire import *  # noqa: F403 - the specification's constants
from wire import Style, pack_queries

MALFORMED = {
    "empty": b"",
    "three-bytes": bytes(3),
    "name-length-only": u32(0),
    "name-without-count": u32(4) + b"name",
    "name-longer-than-data": u32(9) + b"name" + u32(0),
    "name-length-max": u32(COUNT_MAX) + b"name" + u32(0),
    "name-length-wraps": u32(COUNT_MAX - 7) + b"name" + u32(0),
    "half-a-count": u32(0) + b"\0\0",
    "count-one-too-many": pack_queries(b"", [ALLOCATION]).replace(u32(1), u32(2)),
    "count-one-too-few": u32(0) + u32(0) + u32(15) + ALLOCATION,
    "count-max": u32(0) + u32(COUNT_MAX) + u32(15) + ALLOCATION,
    "count-wraps": u32(0) + u32(1 << 30) + u32(15) + ALLOCATION,
    "query-longer-than-data": u32(0) + u32(1) + u32(16) + ALLOCATION,
    "query-length-max": u32(0) + u32(1) + u32(COUNT_MAX) + ALLOCATION,
    "query-length-only": u32(0) + u32(1) + u32(15),
    "half-a-query-length": u32(0) + u32(1) + b"\0",
    "trailing-bytes": pack_queries(b"", [ALLOCATION]) + b"\0",
}
COUNTS_TOO_BIG = ("count-max", "count-wraps")  # no option could hold so many
BOTH = (NBD_OPT_LIST_META_CONTEXT, NBD_OPT_SET_META_CONTEXT)


@each_row(
    OptionRow(
        f"{short_option(option)}-{what}",
        option,
        data,
        INVALID + (TOO_BIG if what in COUNTS_TOO_BIG else ()),
        before=STRUCTURED_FIRST,
    )
    for (what, data), option in itertools.product(MALFORMED.items(), BOTH)
)
def test_malformed_data_is_invalid(bench, row):
    row.play(bench)


@each_row(
    OptionRow(
        f"{short_option(option)}-{what}",
        option,
        pack_queries(export, [ALLOCATION]),
        allowed,
        before=STRUCTURED_FIRST,
    )
    for (what, (export, allowed)), option in itertools.product(NAMES.items(), BOTH)
)
def test_export_names_are_accepted_or_refused(bench, row):
    row.play(bench)


EARLY = (NBD_REP_ERR_INVALID, NBD_REP_ERR_EXT_HEADER_REQD)


# LIST MAY be refused.
@each_row(
    [
        OptionRow("SET", NBD_OPT_SET_META_CONTEXT, CONTEXT_QUERY, EARLY),
        OptionRow("LIST", NBD_OPT_LIST_META_CONTEXT, CONTEXT_QUERY, (*EARLY, NBD_REP_ACK)),
    ]
)
def test_contexts_need_structured_replies(bench, row):
    row.play(bench)


@each_row(
    OptionRow(
        short_option(option),
        option,
        pack_queries(b"", [b"base:allocation%d" % number for number in range(2000)]),
        (NBD_REP_ACK, NBD_REP_ERR_TOO_BIG),
        before=STRUCTURED_FIRST,
    )
    for option in BOTH
)
def test_2000_queries_are_accepted_or_too_big(bench, row):
    row.play(bench)


# {kind: (query, may it fail)}.  Queries for what no server has are ignored.  One without a colon
# MAY be ERR_INVALID.  More than 4096 bytes, or a NUL, is no string at all: an error if it is not
# ignored.
STRANGE_QUERIES = {
    "unknown-namespace": (b"x-nobody:knows", False),
    "unknown-leaf": (b"base:nosuch", False),
    "prefix": (b"base:alloc", False),
    "suffix": (b"base:allocations", False),
    "other-case": (b"BASE:ALLOCATION", False),
    "spaced": (b" base:allocation", False),
    "no-colon": (b"base", True),
    "colon": (b":", True),
    "empty": (b"", True),
    "not-utf8": (b"x-\xff:\xff", True),
    "with-NUL": (b"base:allocation\0", True),
    "4096-bytes": (b"x-" + b"n" * 4093 + b":", False),
    "4097-bytes": (b"x-" + b"n" * 4094 + b":", True),
}


@in_chunked_styles
@pytest.mark.parametrize("query, may_fail", STRANGE_QUERIES.values(), ids=STRANGE_QUERIES)
def test_strange_queries_are_ignored_or_refused(bench, style, query, may_fail):
    for option in (NBD_OPT_LIST_META_CONTEXT, NBD_OPT_SET_META_CONTEXT):
        client = bench.haggle(style)
        *partial, final = client.option(option, pack_queries(b"", [query]))
        assert final.type == NBD_REP_ACK or (may_fail and final.is_error), final
        assert not partial
        # Together with a good one.
        *partial, final = client.option(option, pack_queries(b"", [query, ALLOCATION]))
        assert len(partial) == (0 if final.is_error else 1)
        assert final.type == NBD_REP_ACK or may_fail
        bench.enter(client)


@in_chunked_styles
def test_list_names_the_context_and_selects_nothing(bench, style):
    client = bench.haggle(style)
    name = ALLOCATION.decode()
    for queries in ([], [b"base:"], [ALLOCATION], [b"base:", ALLOCATION, b"base:"]):
        assert client.list_contexts(b"", queries) == [name]
        assert client.list_contexts(b"other", queries) == [name]
    # Listing selects nothing.
    client.go()
    client.contexts = {}
    assert client.call(NBD_CMD_BLOCK_STATUS, 0, 512).error == NBD_EINVAL


@in_chunked_styles
def test_set_selects_the_context(bench, style):
    client = bench.haggle(style)
    assert client.set_contexts(b"", [b"base:"]) == []  # MUST be ignored
    assert client.set_contexts(b"", []) == []
    name = ALLOCATION.decode()
    assert client.set_contexts(b"", [ALLOCATION]) == [name]
    assert client.set_contexts(b"", [ALLOCATION, b"base:", ALLOCATION]) == [name]
    client.list_contexts()
    client.info(b"other", [NBD_INFO_BLOCK_SIZE])
    client.list()
    client.go()
    client.done(NBD_CMD_BLOCK_STATUS, 0, 512)


# {name: (option, its data, export of GO)}: what comes between a good SET_META_CONTEXT and GO, and
# leaves no context.
LOST_CONTEXTS = {
    "zero-queries": (NBD_OPT_SET_META_CONTEXT, pack_queries(b"", []), b""),
    "unknown-query": (NBD_OPT_SET_META_CONTEXT, pack_queries(b"", [b"x-no:"]), b""),
    "wildcard": (NBD_OPT_SET_META_CONTEXT, pack_queries(b"", [b"base:"]), b""),
    "failing-empty": (NBD_OPT_SET_META_CONTEXT, b"", b""),
    "failing-trailing-bytes": (NBD_OPT_SET_META_CONTEXT, CONTEXT_QUERY + b"!", b""),
    "failing-name-too-long": (
        NBD_OPT_SET_META_CONTEXT,
        pack_queries(b"n" * 4097, [ALLOCATION]),
        b"",
    ),
    "failing-too-big": (NBD_OPT_SET_META_CONTEXT, bytes(64 * KIB + 1), b""),
    "set-for-another-name": (
        NBD_OPT_SET_META_CONTEXT,
        pack_queries(b"other", [ALLOCATION]),
        b"",
    ),
    "go-to-another-name": (NBD_OPT_LIST, b"", b"other"),
    "go-to-a-longer-name": (NBD_OPT_LIST, b"", b"x"),
}


@in_chunked_styles
@pytest.mark.parametrize("option, data, export", LOST_CONTEXTS.values(), ids=LOST_CONTEXTS)
def test_a_selected_context_is_lost(bench, style, option, data, export):
    for enter in (Connection.go, Connection.export_name):
        if style is Style.EXTENDED and enter is Connection.export_name:
            continue
        client = bench.haggle(style)
        client.set_contexts(b"", [ALLOCATION])
        client.option(option, data)
        enter(client, export)
        client.contexts = {}  # no reply may be about the context
        assert client.call(NBD_CMD_BLOCK_STATUS, 0, 512).error == NBD_EINVAL
        bench.prove_in_step(client)


@in_chunked_styles
def test_the_context_of_a_named_export_is_selected(bench, style):
    for name in (b"name", b"n" * 4096):
        client = bench.connect(style, name)
        client.done(NBD_CMD_BLOCK_STATUS, 0, 512)
    if style is Style.STRUCTURED:
        client = bench.haggle(style)
        client.set_contexts(b"name", [ALLOCATION])
        client.export_name(b"name")
        client.done(NBD_CMD_BLOCK_STATUS, 0, 512)
