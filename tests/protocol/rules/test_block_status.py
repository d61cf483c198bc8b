# SPDX-License-Identifier: BSD-3-Clause
"""BLOCK_STATUS reports what is there, and what it does not report as a hole has its space.

Specification: "Request types" (NBD_CMD_BLOCK_STATUS), "Structured reply types"
(NBD_REPLY_TYPE_BLOCK_STATUS), "`base:allocation` metadata context", "Command flags"
(NBD_CMD_FLAG_REQ_ONE, NBD_CMD_FLAG_NO_HOLE).
"""

import itertools

from harness import KIB, MIB
from rules import (
    ALLOCATOR_SETUPS,
    HOLE_STATE,
    HUGE,
    PLAIN,
    SIZE,
    THIN_SETUPS,
    WIDE,
    ServerSetup,
    in_chunked_styles,
    in_every_style,
    on_servers,
    whole_map,
)
from wire import *  # noqa: F403 - the specification's constants
from wire import Extent, Style


@in_chunked_styles
@on_servers({"128M": PLAIN, "8G": WIDE, "8E": HUGE})
def test_a_fresh_disk_is_one_hole(bench, style):
    client = bench.connect(style)
    for offset, length in ((0, 1), (1, 511), (4 * KIB, 4 * MIB), (0, SIZE // 2)):
        for flags in (0, NBD_CMD_FLAG_REQ_ONE):
            (extent,) = client.done(NBD_CMD_BLOCK_STATUS, offset, length, flags).allocation
            assert extent.state == HOLE_STATE
            assert extent.length == length  # all of the request, and no more


@in_chunked_styles
@on_servers(THIN_SETUPS)
def test_data_and_holes_are_told_apart(bench, style):
    """Data is never reported as zero, and no neighbours have the same state."""
    client = bench.connect(style)
    page = 32 * KIB
    has_data = [bench.rng.random() < 0.5 for _ in range(256)]
    for number, is_data in enumerate(has_data):
        if is_data:
            client.write(number * page, b"\xee" * page)
    extents = whole_map(client, 0, 256 * page)
    wanted = [
        Extent(len(list(group)) * page, 0 if is_data else HOLE_STATE)
        for is_data, group in itertools.groupby(has_data)
    ]
    assert extents == wanted
    for _ in range(100):
        start = bench.rng.randrange(256 * page)
        length = bench.rng.randint(1, 256 * page - start)
        request = client.done(NBD_CMD_BLOCK_STATUS, start, length, NBD_CMD_FLAG_REQ_ONE)
        assert bool(request.allocation[0].state & NBD_STATE_ZERO) != has_data[start // page]
        answer = client.done(NBD_CMD_BLOCK_STATUS, start, length).allocation
        assert all(one.state != two.state for one, two in itertools.pairwise(answer))


@in_chunked_styles
@on_servers({"malloc": ALLOCATOR_SETUPS["malloc"]})
def test_malloc_has_no_holes(bench, style):
    client = bench.connect(style)
    assert all(not extent.state & NBD_STATE_HOLE for extent in whole_map(client, 0, SIZE))


@in_chunked_styles
def test_many_extents_take_several_requests(bench, style):
    client = bench.connect(style)
    for at in range(0, 16 * MIB, 8 * KIB):
        client.write(at, b"\xee")
    pair = [Extent(4 * KIB, 0), Extent(4 * KIB, HOLE_STATE)]
    assert whole_map(client, 0, 16 * MIB) == pair * (16 * MIB // (8 * KIB))


@in_chunked_styles
@on_servers({"128M": PLAIN, "8E": HUGE})
def test_the_map_reaches_the_last_byte(bench, style):
    client = bench.connect(style)
    end = bench.setup.size
    for offset, length in ((end - 1, 1), (end - 4 * KIB - 7, 4 * KIB + 7)):
        assert whole_map(client, offset, length)
    assert client.call(NBD_CMD_BLOCK_STATUS, end - 1, 2).error == NBD_EINVAL


@in_every_style
def test_block_status_without_a_context_is_invalid(bench, style):
    client = bench.haggle(style)
    client.go()
    for flags in (0, NBD_CMD_FLAG_REQ_ONE):
        assert client.call(NBD_CMD_BLOCK_STATUS, 0, 512, flags).error == NBD_EINVAL
    bench.prove_in_step(client)


@in_chunked_styles
def test_a_hole_reads_as_zeroes(bench, style):
    client = bench.connect(style)
    for _ in range(200):
        command = bench.rng.choice((NBD_CMD_WRITE, NBD_CMD_TRIM, NBD_CMD_WRITE_ZEROES))
        at = bench.rng.randrange(MIB)
        length = bench.rng.randint(1, 64 * KIB)
        payload = b"\xee" * length if command == NBD_CMD_WRITE else b""
        client.done(command, at, length, payload=payload)
    at = 0
    for length, state in whole_map(client, 0, 2 * MIB):
        assert state in (0, NBD_STATE_ZERO, HOLE_STATE)  # never HOLE alone
        assert not state & NBD_STATE_ZERO or client.read(at, length) == bytes(length)
        at += length


# What is no hole never fails for lack of space.

LIMITED = {
    "sparse": ServerSetup(params=("limit=8M",)),
    "zstd": ServerSetup(params=("limit=8M", "allocator=zstd")),
}


@in_chunked_styles
@on_servers({"sparse": LIMITED["sparse"]})
def test_what_is_no_hole_can_be_written_on_a_full_disk(bench, style):
    client = bench.connect(style)
    rng = bench.rng
    while client.call(
        NBD_CMD_WRITE, rng.randrange(32 * MIB), payload=rng.randbytes(32 * KIB)
    ).error == 0:
        pass
    at = 0
    for length, state in whole_map(client, 0, 32 * MIB):
        if not state & NBD_STATE_HOLE:
            for start in range(at, at + length, MIB):
                client.write(start, rng.randbytes(min(MIB, at + length - start)))
        at += length


@in_every_style
@on_servers(LIMITED)
def test_what_was_zeroed_with_no_hole_can_be_written_on_a_full_disk(bench, style):
    client = bench.connect(style)
    rng = bench.rng
    client.done(NBD_CMD_WRITE_ZEROES, 64 * KIB, MIB, NBD_CMD_FLAG_NO_HOLE)
    if style is not Style.SIMPLE:
        (extent,) = whole_map(client, 64 * KIB, MIB)
        assert not extent.state & NBD_STATE_HOLE
    errors = set()
    for at in range(2 * MIB, 34 * MIB, 256 * KIB):
        errors.add(client.call(NBD_CMD_WRITE, at, payload=rng.randbytes(256 * KIB)).error)
    assert errors == {0, NBD_ENOSPC}
    data = rng.randbytes(MIB)
    client.write(64 * KIB, data)
    assert client.read(64 * KIB, MIB) == data
