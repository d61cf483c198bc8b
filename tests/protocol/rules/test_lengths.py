# SPDX-License-Identifier: BSD-3-Clause
"""The longest payloads, longer ones, requests without a byte, and long requests without payload.

Specification: "Size constraints" and "Request types".
"""

import contextlib

from client import Closed
from harness import GIB, KIB, MIB
from rules import (
    ALLOCATOR_SETUPS,
    CHUNKED,
    CLOSED,
    COUNT_MAX,
    DATA_COMMANDS,
    OFFSET_MAX,
    PAYLOAD_MAX,
    SIZE,
    STYLES,
    WIDE,
    each_row,
    in_every_style,
    in_styles,
    on_servers,
    request_rows,
    short,
)
from wire import *  # noqa: F403 - the specification's constants
from wire import Style

TOO_LONG_WRITE = (0, NBD_EINVAL, NBD_ENOSPC, CLOSED)  # drained or dropped
TOO_LONG_READ = (0, NBD_EINVAL, NBD_EOVERFLOW)


# Payloads.


@each_row(
    request_rows("32M+1", NBD_CMD_WRITE, TOO_LONG_WRITE, length=PAYLOAD_MAX + 1),
    request_rows("48M", NBD_CMD_WRITE, TOO_LONG_WRITE, length=48 * MIB),
)
def test_a_write_that_is_too_long_is_done_or_refused_or_closed(bench, row):
    row.play(bench)


# Holes could be reported in one chunk, but no server sends a simple reply of 4 GiB.
@each_row(
    request_rows("32M+1", NBD_CMD_READ, TOO_LONG_READ, length=PAYLOAD_MAX + 1),
    request_rows("all", NBD_CMD_READ, TOO_LONG_READ, length=SIZE),
    request_rows("4G-1", NBD_CMD_READ, TOO_LONG_READ[1:], length=COUNT_MAX, setup=WIDE),
)
def test_a_read_that_is_too_long_is_done_or_refused(bench, row):
    row.play(bench)


def empty_requests():
    """What they do is not specified, but the server SHOULD NOT disconnect."""
    allowed = (0, NBD_EINVAL, NBD_ENOSPC)
    for command in DATA_COMMANDS:
        styles = CHUNKED if command == NBD_CMD_BLOCK_STATUS else STYLES
        yield from request_rows(short(command), command, allowed, styles=styles, length=0)
        fields = {"offset": SIZE, "length": 0}
        yield from request_rows(f"{short(command)}-at-end", command, allowed, **fields)
        fields = {"offset": OFFSET_MAX, "length": 0}
        yield from request_rows(f"{short(command)}-beyond", command, allowed, **fields)


@each_row(empty_requests())
def test_requests_without_a_byte_are_done_or_refused(bench, row):
    row.play(bench)


def longest_payload(bench, style):
    client = bench.connect(style)
    data = bench.rng.randbytes(MIB) * (PAYLOAD_MAX // MIB)
    client.write(12345, data)
    bench.witness.step()
    assert client.read(12345, len(data)) == data


@in_every_style
def test_32_mib_are_written_and_read(bench, style):
    longest_payload(bench, style)


@in_styles(Style.STRUCTURED)
@on_servers({name: ALLOCATOR_SETUPS[name] for name in ("malloc", "zstd")})
def test_32_mib_are_written_and_read_by_other_allocators(bench, style):
    longest_payload(bench, style)


@in_every_style
def test_a_write_of_4_gib_is_closed_or_drained(bench, style):
    client = bench.connect(style)
    request = client.request(NBD_CMD_WRITE, 0, COUNT_MAX, payload=bytes(MIB))
    with contextlib.suppress(Closed):
        client.send(request.pack())
        client.finish_sending()
    bench.witness.step()
    with contextlib.suppress(Closed):
        client.finish(request)  # an early answer
        assert request.error in (NBD_EINVAL, NBD_ENOSPC)
        client.expect_closed()


# Requests of 4 GiB - 1 without payload.


def longest_requests():
    for command in (NBD_CMD_TRIM, NBD_CMD_WRITE_ZEROES, NBD_CMD_CACHE, NBD_CMD_BLOCK_STATUS):
        styles = CHUNKED if command == NBD_CMD_BLOCK_STATUS else STYLES
        for offset in (0, 4 * KIB + 1):
            name = f"{short(command)}-at-{offset}"
            fields = {"offset": offset, "length": COUNT_MAX, "setup": WIDE}
            yield from request_rows(name, command, (0,), styles=styles, **fields)


@each_row(
    longest_requests(),
    request_rows(
        "WRITE_ZEROES-FAST_ZERO",
        NBD_CMD_WRITE_ZEROES,
        (0, NBD_ENOTSUP),
        length=COUNT_MAX,
        flags=NBD_CMD_FLAG_FAST_ZERO,
        setup=WIDE,
    ),
)
def test_requests_of_4_gib_without_payload_are_done(bench, row):
    row.play(bench)


@in_every_style
@on_servers({"8G": WIDE})
def test_4_gib_of_data_are_zeroed(bench, style):
    client = bench.connect(style)
    places = (0, 4 * KIB, GIB + 1, COUNT_MAX - 4 * KIB)
    for at in places:
        client.write(at, b"\xee" * 4 * KIB)
    client.done(NBD_CMD_WRITE_ZEROES, 1, COUNT_MAX - 2)
    assert client.read(0, 1) == b"\xee"
    assert client.read(COUNT_MAX - 1, 1) == b"\xee"
    for at in places:
        assert client.read(at + 1, 4 * KIB - 2) == bytes(4 * KIB - 2)
