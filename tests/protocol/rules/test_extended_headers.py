# SPDX-License-Identifier: BSD-3-Clause
"""Extended headers: 64-bit lengths, and payloads that come with any command.

Specification, in the branch extension-ext-header: "Request message", "Extended reply chunk
message", "Option types" (NBD_OPT_EXTENDED_HEADERS), "Command flags" (NBD_CMD_FLAG_PAYLOAD_LEN)
and "Request types" (NBD_CMD_BLOCK_STATUS).
"""

import contextlib
import struct

import pytest

from client import Closed
from harness import KIB, MIB, TIB
from rules import (
    CLOSED,
    CONTEXT_QUERY,
    COUNT_MAX,
    DATA_COMMANDS,
    EXTENDED_FIRST,
    HOLE_STATE,
    HUGE,
    INVALID,
    OFFSET_MAX,
    PAYLOAD_MAX,
    STRUCTURED_FIRST,
    UNKNOWN_COMMANDS,
    UNSUPPORTED,
    OptionRow,
    check_outcome,
    each_row,
    garbage,
    on_servers,
    request_rows,
    short,
    whole_map,
)
from wire import *  # noqa: F403 - the specification's constants
from wire import Extent, Style

# The option.


@each_row(
    [
        OptionRow("first", NBD_OPT_EXTENDED_HEADERS, b"", (NBD_REP_ACK,)),
        OptionRow(
            "after-structured",
            NBD_OPT_EXTENDED_HEADERS,
            b"",
            (NBD_REP_ACK,),
            before=STRUCTURED_FIRST,
        ),
        OptionRow(
            "twice",
            NBD_OPT_EXTENDED_HEADERS,
            b"",
            (NBD_REP_ACK, NBD_REP_ERR_INVALID),
            before=EXTENDED_FIRST,
        ),
    ]
)
def test_extended_headers_are_acknowledged(bench, row):
    row.play(bench)


@each_row(
    OptionRow(
        f"after-{what}",
        NBD_OPT_STRUCTURED_REPLY,
        b"",
        (NBD_REP_ERR_EXT_HEADER_REQD,),
        before=before,
    )
    for before, what in (
        (EXTENDED_FIRST, "extended"),
        (STRUCTURED_FIRST + EXTENDED_FIRST, "both"),
    )
)
def test_there_is_no_way_back_to_structured_replies(bench, row):
    row.play(bench)


@each_row(
    OptionRow(name, option, payload, allowed, before=EXTENDED_FIRST)
    for name, option, payload, allowed in (
        ("EXPORT_NAME-is-closed", NBD_OPT_EXPORT_NAME, b"", (CLOSED,)),
        ("contexts", NBD_OPT_SET_META_CONTEXT, CONTEXT_QUERY, (NBD_REP_ACK,)),
        ("malformed-GO", NBD_OPT_GO, b"", INVALID),
        ("unknown", 99, garbage(99), UNSUPPORTED),
    )
)
def test_options_after_extended_headers(bench, row):
    row.play(bench)


def test_requests_stay_compact_after_refused_extended_headers(bench):
    client = bench.haggle(Style.STRUCTURED)
    assert client.option(NBD_OPT_EXTENDED_HEADERS, b"data")[-1].is_error
    bench.enter(client)


# Lengths of 64 bits.


def long_requests(powers, allowed, *commands):
    for command in commands:
        for power in powers:
            fields = {"styles": (Style.EXTENDED,), "length": 1 << power, "setup": HUGE}
            yield from request_rows(f"{short(command)}-2^{power}", command, allowed, **fields)


@each_row(
    long_requests(
        (32, 33, 40, 62),
        (0,),
        *(NBD_CMD_TRIM, NBD_CMD_WRITE_ZEROES, NBD_CMD_CACHE, NBD_CMD_BLOCK_STATUS),
    )
)
def test_requests_of_64_bits_without_payload_are_done(bench, row):
    row.play(bench)


# Hole chunks have 32-bit lengths, and clients SHOULD NOT ask.
@each_row(long_requests((32, 40, 62), (NBD_EOVERFLOW, NBD_EINVAL), NBD_CMD_READ))
def test_reads_of_64_bits_are_refused(bench, row):
    row.play(bench)


@on_servers({"8E": HUGE})
def test_extents_have_64_bits(bench):
    client = bench.connect(Style.EXTENDED)
    (extent,) = client.done(NBD_CMD_BLOCK_STATUS, 0, 1 << 62).allocation
    assert extent.state == HOLE_STATE
    assert extent.length > COUNT_MAX  # a busy server may report a part of the range
    assert whole_map(client, 0, 1 << 62) == [Extent(1 << 62, HOLE_STATE)]
    client.write(TIB, b"\xee" * 32 * KIB)
    request = client.done(NBD_CMD_BLOCK_STATUS, 0, 1 << 62, NBD_CMD_FLAG_REQ_ONE)
    (extent,) = request.allocation
    assert extent.state == HOLE_STATE and COUNT_MAX < extent.length <= TIB
    assert whole_map(client, 0, 1 << 62) == [
        Extent(TIB, HOLE_STATE),
        Extent(32 * KIB, 0),
        Extent((1 << 62) - TIB - 32 * KIB, HOLE_STATE),
    ]
    client.done(NBD_CMD_WRITE_ZEROES, 1, (1 << 62) - 1)
    assert client.read(TIB, 32 * KIB) == bytes(32 * KIB)


@on_servers({"8E": HUGE})
def test_extents_of_structured_replies_have_32_bits(bench):
    client = bench.connect(Style.STRUCTURED)
    assert whole_map(client, 0, COUNT_MAX) == [Extent(COUNT_MAX, HOLE_STATE)]


# Payloads.


def test_a_write_without_payload_len_is_done_or_closed(bench):
    """The flag is a MUST for clients, but qemu's (10.0) sends the payload without it.

    The payload must not be taken for requests.
    """
    client = bench.connect(Style.EXTENDED)
    for length in (1, 512, 64 * KIB):
        data = bench.rng.randbytes(length)
        request = client.request(NBD_CMD_WRITE, 0, payload=data)
        request.flags = 0
        outcome = bench.outcome(client, request)
        check_outcome(outcome, (0, CLOSED))
        if outcome == CLOSED:
            return
        assert client.read(0, length) == data


def unwanted_payloads():
    for command in (*DATA_COMMANDS, NBD_CMD_FLUSH, *UNKNOWN_COMMANDS):
        if command != NBD_CMD_WRITE:
            long = [PAYLOAD_MAX] if command < NBD_CMD_FLUSH else []
            for length in (1, 1000, 64 * KIB, *long):
                yield pytest.param(command, length, id=f"{short(command)}-{length}")


@pytest.mark.parametrize("command, length", unwanted_payloads())
def test_a_payload_for_a_command_without_one_is_invalid(bench, command, length):
    client = bench.connect(Style.EXTENDED)
    data = client.request(NBD_CMD_WRITE_ZEROES, 0, 1).pack() * (length // 32 + 1)
    for flags in (0, NBD_CMD_FLAG_FUA, 1 << 15)[: 1 if length > MIB else 3]:
        request = client.request(
            command, 0, length, flags | NBD_CMD_FLAG_PAYLOAD_LEN, data[:length]
        )
        check_outcome(bench.outcome(client, request), (NBD_EINVAL,))
        bench.prove_in_step(client)


def test_a_payload_of_no_bytes_is_invalid_or_nothing_to_write(bench):
    client = bench.connect(Style.EXTENDED)
    for command in (*DATA_COMMANDS, NBD_CMD_FLUSH):
        request = client.request(command, 0, 0, NBD_CMD_FLAG_PAYLOAD_LEN)
        allowed = (0, NBD_EINVAL) if command == NBD_CMD_WRITE else (NBD_EINVAL,)
        check_outcome(bench.outcome(client, request), allowed)
    bench.prove_in_step(client)


def test_a_payload_that_is_too_long_is_closed_or_drained(bench):
    """SHOULD be dropped; may be drained, as far as that can be shown."""
    for command in (NBD_CMD_WRITE, NBD_CMD_READ, NBD_CMD_BLOCK_STATUS, 99):
        client = bench.connect(Style.EXTENDED)
        flags = NBD_CMD_FLAG_PAYLOAD_LEN
        request = client.request(command, 0, PAYLOAD_MAX + 1, flags, bytes(PAYLOAD_MAX + 1))
        outcome = bench.outcome(client, request)
        also = (0,) if command == NBD_CMD_WRITE else ()
        check_outcome(outcome, (CLOSED, NBD_EINVAL, *also))
        if outcome != CLOSED:
            bench.prove_in_step(client)


def test_a_payload_of_4_gib_and_more_is_closed_or_refused(bench):
    for command in (NBD_CMD_WRITE, NBD_CMD_READ, NBD_CMD_TRIM, 99):
        for length in (1 << 32, 1 << 40, OFFSET_MAX):
            client = bench.connect(Style.EXTENDED)
            request = client.request(
                command, 0, length, NBD_CMD_FLAG_PAYLOAD_LEN, bytes(64 * KIB)
            )
            with contextlib.suppress(Closed):
                client.send(request.pack())
                client.finish_sending()
            with contextlib.suppress(Closed):
                client.finish(request)
                assert request.error
                client.expect_closed()


def status_payload(effect, contexts):
    return struct.pack(f">Q{len(contexts)}I", effect, *contexts)


def test_block_status_may_name_its_contexts(bench):
    """Served if offered, else EINVAL; unknown and repeated contexts are always EINVAL."""
    client = bench.connect(Style.EXTENDED)
    (context,) = client.contexts
    is_offered = bool(client.export.flags & NBD_FLAG_BLOCK_STATUS_PAYLOAD)
    good = status_payload(MIB, [context])
    for payload, wanted in (
        (good, 0 if is_offered else NBD_EINVAL),
        (status_payload(MIB, [context, context]), NBD_EINVAL),
        (status_payload(MIB, [context + 1]), NBD_EINVAL),
        (status_payload(OFFSET_MAX, [context]), NBD_EINVAL),
        (good[:7], NBD_EINVAL),
        (good[:9], NBD_EINVAL),
        (good + b"!", NBD_EINVAL),
        (status_payload(MIB, [context] * 5000), NBD_EINVAL),
    ):
        request = client.request(
            NBD_CMD_BLOCK_STATUS, 0, len(payload), NBD_CMD_FLAG_PAYLOAD_LEN, payload
        )
        client.send(request.pack())
        request.length = MIB  # the effect: what extents are compared with
        assert client.finish(request).error == wanted
    bench.prove_in_step(client)
