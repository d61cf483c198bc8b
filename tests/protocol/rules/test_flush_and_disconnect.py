# SPDX-License-Identifier: BSD-3-Clause
"""FLUSH has neither offset nor length, and DISC has no reply.

Specification: "Terminating the transmission phase" and "Request types" (NBD_CMD_DISC,
NBD_CMD_FLUSH).
"""

from harness import KIB, MIB
from rules import (
    CLOSED,
    COUNT_MAX,
    OFFSET_MAX,
    check_outcome,
    each_row,
    in_every_style,
    request_rows,
)
from wire import *  # noqa: F403 - the specification's constants


@each_row(
    request_rows("FLUSH", NBD_CMD_FLUSH, (0,), length=0),
    request_rows("FUA", NBD_CMD_FLUSH, (0,), length=0, flags=NBD_CMD_FLAG_FUA),
)
def test_flush_is_done(bench, row):
    row.play(bench)


def flushes_of_a_range():
    for offset, length in ((0, 1), (1, 0), (OFFSET_MAX, 0), (0, COUNT_MAX), (4 * KIB, 4 * KIB)):
        name, allowed = f"{offset:#x}-{length:#x}", (NBD_EINVAL,)
        yield from request_rows(name, NBD_CMD_FLUSH, allowed, offset=offset, length=length)


@each_row(flushes_of_a_range())
def test_flush_of_a_range_is_invalid(bench, row):
    row.play(bench)


@in_every_style
def test_disc_has_no_reply(bench, style):
    # Offset and length MUST be zero, and flags are undefined: the connection ends all the same,
    # as it may in answer to any violation.
    for offset, length, flags in ((0, 0, 0), (0, 0, NBD_CMD_FLAG_FUA), (1, 0, 0), (0, 1, 0)):
        client = bench.connect(style)
        client.send_request(NBD_CMD_DISC, offset, length, flags)
        client.expect_closed()


@in_every_style
def test_disc_with_undefined_flags_is_closed_or_invalid(bench, style):
    for flags in (NBD_CMD_FLAG_DF, 1 << 15):
        client = bench.connect(style)
        outcome = bench.outcome(client, client.request(NBD_CMD_DISC, flags=flags))
        check_outcome(outcome, (CLOSED, NBD_EINVAL))
        if outcome != CLOSED:
            bench.prove_in_step(client)


@in_every_style
def test_disc_waits_for_outstanding_requests(bench, style):
    client = bench.connect(style)
    data = bench.rng.randbytes(4 * KIB)
    writes = [client.request(NBD_CMD_WRITE, at * 4 * KIB, payload=data) for at in range(20)]
    reads = [client.request(NBD_CMD_READ, MIB, 4 * KIB) for _ in range(20)]
    zeroes = [client.request(NBD_CMD_WRITE_ZEROES, 2 * MIB, 8 * MIB) for _ in range(20)]
    requests = [*writes, *reads, *zeroes, client.request(NBD_CMD_DISC)]
    client.send(b"".join(request.pack() for request in requests))
    for request in requests[:-1]:
        assert client.finish(request).error == 0
    client.expect_closed()
    assert bench.connect(style).read(0, 80 * KIB) == data * 20


@in_every_style
def test_nothing_is_done_after_disc(bench, style):
    client = bench.connect(style)
    requests = [
        client.request(NBD_CMD_DISC),
        client.request(NBD_CMD_WRITE, 0, payload=b"\xee" * 512),
        client.request(NBD_CMD_WRITE, 4 * KIB, payload=b"\xee" * 512),
    ]
    client.send(b"".join(request.pack() for request in requests))
    client.expect_closed()
    assert bench.connect(style).read(0, 8 * KIB) == bytes(8 * KIB)
