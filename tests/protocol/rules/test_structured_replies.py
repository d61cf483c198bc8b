# SPDX-License-Identifier: BSD-3-Clause
"""READ and its errors come in the style that was negotiated, and in one chunk with DF.

Specification: "Structured reply chunk message", "Structured reply types", "Option types"
(NBD_OPT_STRUCTURED_REPLY), "Command flags" (NBD_CMD_FLAG_DF) and "Request types" (NBD_CMD_READ).
"""

from harness import KIB, MIB
from rules import (
    ALLOCATION,
    ALLOCATOR_SETUPS,
    CHUNKED,
    OFFSET_MAX,
    PAYLOAD_MAX,
    SIZE,
    ServerSetup,
    each_row,
    in_chunked_styles,
    in_every_style,
    on_servers,
    request_rows,
)
from wire import *  # noqa: F403 - the specification's constants
from wire import SimpleReply, Style, pack_queries


@in_every_style
def test_every_read_is_answered_in_its_style(bench, style):
    """wire.py checks the form of all these replies."""
    client = bench.connect(style)
    for offset, length, flags, error in (
        (0, 1, 0, 0),
        (0, 4 * KIB, NBD_CMD_FLAG_FUA, 0),
        (SIZE, 1, 0, NBD_EINVAL),
        (OFFSET_MAX, 1, 0, NBD_EINVAL),
        (0, 512, 1 << 15, NBD_EINVAL),
        (0, 512, NBD_CMD_FLAG_NO_HOLE, NBD_EINVAL),
    ):
        request = client.call(NBD_CMD_READ, offset, length, flags)
        assert request.error == error
        assert not (error and request.content)
    bench.prove_in_step(client)


@in_every_style
def test_a_read_crosses_data_and_holes(bench, style):
    """The data is right, however the reply is cut into chunks."""
    client = bench.connect(style)
    shadow = bytearray(2 * MIB)
    for page in bench.rng.sample(range(0, 2 * MIB, 32 * KIB), 20):
        data = bench.rng.randbytes(32 * KIB)
        client.write(page, data)
        shadow[page : page + len(data)] = data
    assert client.read(0, len(shadow)) == shadow
    for _ in range(30):
        start = bench.rng.randrange(len(shadow))
        count = bench.rng.randint(1, len(shadow) - start)
        assert client.read(start, count) == shadow[start : start + count]
        # A client that wants a single chunk may be told that this is too much.
        request = client.call(NBD_CMD_READ, start, count, NBD_CMD_FLAG_DF)
        if style is Style.SIMPLE:
            assert request.error == NBD_EINVAL
        elif request.error:
            assert request.error == NBD_EOVERFLOW and count > 64 * KIB
            assert not request.content
        else:
            assert request.data == shadow[start : start + count]


@in_chunked_styles
def test_a_hole_is_read_as_a_hole(bench, style):
    """The specification leaves it open; this server promises it."""
    client = bench.connect(style)
    request = client.done(NBD_CMD_READ, 0, 4 * MIB)
    assert all(data is None for _, _, data in request.content)


def test_structured_replies_may_be_asked_for_twice(bench):
    client = bench.haggle(Style.STRUCTURED)
    final = client.option(NBD_OPT_STRUCTURED_REPLY)[-1]
    assert final.type in (NBD_REP_ACK, NBD_REP_ERR_INVALID)
    bench.enter(client)


def test_replies_stay_simple_after_a_refused_structured_reply(bench):
    client = bench.haggle()
    assert client.option(NBD_OPT_STRUCTURED_REPLY, b"data")[-1].is_error
    client.go()
    assert isinstance(client.call(NBD_CMD_READ, 0, 512).replies[0], SimpleReply)
    assert isinstance(client.call(NBD_CMD_READ, SIZE, 512).replies[0], SimpleReply)


@on_servers({"no-sr": ServerSetup(flags=("--no-sr",))})
def test_a_server_may_refuse_structured_replies(bench):
    client = bench.haggle()
    for option in (NBD_OPT_STRUCTURED_REPLY, NBD_OPT_EXTENDED_HEADERS):
        assert client.option(option)[-1].type in (NBD_REP_ERR_UNSUP, NBD_REP_ERR_POLICY)
    data = pack_queries(b"", [ALLOCATION])
    assert client.option(NBD_OPT_SET_META_CONTEXT, data)[-1].is_error
    bench.enter(client)
    assert client.call(NBD_CMD_BLOCK_STATUS, 0, 512).error == NBD_EINVAL


# DF: do not fragment.


@in_chunked_styles
@on_servers(ALLOCATOR_SETUPS)
def test_64_kib_with_df_come_in_one_chunk(bench, style):
    client = bench.connect(style)
    data = bench.rng.randbytes(4 * KIB)
    client.write(96 * KIB, data)
    shadow = bytes(96 * KIB) + data + bytes(92 * KIB)
    for start in (0, 64 * KIB, 95 * KIB + 1, 96 * KIB, 128 * KIB):
        request = client.done(NBD_CMD_READ, start, 64 * KIB, NBD_CMD_FLAG_DF)
        assert len(request.content) == 1
        assert request.data == shadow[start : start + 64 * KIB]


WITH_DF = {"flags": NBD_CMD_FLAG_DF}


@each_row(
    request_rows(
        "32M",
        NBD_CMD_READ,
        (0, NBD_EOVERFLOW),
        styles=CHUNKED,
        length=PAYLOAD_MAX,
        **WITH_DF,
    )
)
def test_the_longest_read_with_df_may_be_too_long(bench, row):
    row.play(bench)


@each_row(request_rows("DF", NBD_CMD_READ, (NBD_EINVAL,), styles=(Style.SIMPLE,), **WITH_DF))
def test_df_is_invalid_with_simple_replies(bench, row):
    row.play(bench)
