# SPDX-License-Identifier: BSD-3-Clause
"""NBD_OPT_INFO and NBD_OPT_GO: what they refuse, and what they say of the export.

Specification: "Option types" (NBD_OPT_INFO and NBD_OPT_GO), "Option reply types" (NBD_REP_INFO),
"Transmission flags" and "Size constraints".
"""

import itertools

import pytest

from harness import KIB, MIB
from rules import (
    ALLOCATOR_SETUPS,
    COUNT_MAX,
    DATA_COMMANDS,
    INVALID,
    NAMES,
    PAYLOAD_MAX,
    PLAIN,
    READ_ONLY,
    OptionRow,
    ServerSetup,
    each_row,
    in_every_style,
    on_servers,
    short_option,
    u16,
    u32,
)
from wire import *  # noqa: F403 - the specification's constants
from wire import Style, pack_info

MALFORMED = {
    "empty": b"",
    "one-byte": b"\0",
    "three-bytes": bytes(3),
    "name-length-only": u32(0),
    "half-a-count": u32(0) + b"\0",
    "name-without-count": u32(4) + b"name",
    "name-longer-than-data": u32(5) + b"name",
    "name-takes-the-count": u32(6) + b"name" + u16(0),
    "name-length-max": u32(COUNT_MAX) + b"name" + u16(0),
    "name-length-wraps": u32(COUNT_MAX - 5) + b"name" + u16(0),
    "name-length-negative": u32(1 << 31) + b"name" + u16(0),
    "count-one-too-many": u32(0) + u16(1),
    "count-one-too-few": u32(0) + u16(0) + u16(NBD_INFO_BLOCK_SIZE),
    "count-max": u32(0) + u16(0xFFFF) + u16(NBD_INFO_BLOCK_SIZE),
    "count-wraps": u32(0) + u16(0x8000),
    "odd-byte": u32(0) + u16(1) + u16(NBD_INFO_BLOCK_SIZE) + b"\0",
    "half-a-request": u32(0) + u16(1) + b"\0",
}
BOTH = (NBD_OPT_INFO, NBD_OPT_GO)


@each_row(
    OptionRow(f"{short_option(option)}-{what}", option, data, INVALID)
    for (what, data), option in itertools.product(MALFORMED.items(), BOTH)
)
def test_malformed_data_is_invalid(bench, row):
    row.play(bench)


@each_row(
    OptionRow(f"{short_option(option)}-{what}", option, pack_info(export), allowed)
    for (what, (export, allowed)), option in itertools.product(NAMES.items(), BOTH)
)
def test_export_names_are_accepted_or_refused(bench, row):
    row.play(bench)


@each_row(
    [
        OptionRow(
            "30000-requests",
            NBD_OPT_GO,
            pack_info(b"", [NBD_INFO_BLOCK_SIZE] * 30000),
            (NBD_REP_ACK, NBD_REP_ERR_TOO_BIG),
        )
    ]
)
def test_many_information_requests_are_accepted_or_too_big(bench, row):
    row.play(bench)


INFO_REQUESTS = {
    "none": [],
    "export": [NBD_INFO_EXPORT],
    "name": [NBD_INFO_NAME],
    "description": [NBD_INFO_DESCRIPTION],
    "block-size": [NBD_INFO_BLOCK_SIZE],
    "all": [3, 2, 1, 0],
    "unknown": [4, 0x7FFF, 0xFFFF],
    "known-among-unknown": [0xFFFF, NBD_INFO_BLOCK_SIZE, 77],
    "duplicates": [3, 3, 0, 0, 1, 1, 3],
    "thousand": [NBD_INFO_BLOCK_SIZE] * 1000,
}


@in_every_style
@pytest.mark.parametrize("requests", INFO_REQUESTS.values(), ids=INFO_REQUESTS)
def test_info_and_go_say_the_same(bench, style, requests):
    for name in (b"", b"some name"):
        client = bench.haggle(style)
        payload = pack_info(name, requests)
        info = client.accepted(NBD_OPT_INFO, payload)
        again = client.accepted(NBD_OPT_INFO, payload)
        go = client.accepted(NBD_OPT_GO, payload)
        assert sorted(info) == sorted(again)
        assert sorted(reply.payload for reply in info) == sorted(reply.payload for reply in go)
        assert client.export.size == bench.setup.size
        if client.export.name is not None:
            assert client.export.name in ("", name.decode())
        assert NBD_INFO_BLOCK_SIZE not in requests or client.export.block_size
        bench.prove_in_step(client)


@on_servers(ALLOCATOR_SETUPS)
def test_block_size_is_that_of_the_allocator(bench):
    client = bench.haggle()
    minimum, preferred, maximum = client.go(b"", [NBD_INFO_BLOCK_SIZE]).block_size
    assert minimum == 1
    assert preferred in (4 * KIB, 32 * KIB)  # a page of the allocator
    assert preferred == 32 * KIB or "allocator=zstd" not in bench.setup.params
    assert maximum >= PAYLOAD_MAX


@in_every_style
@on_servers({"writable": PLAIN, "read-only": READ_ONLY})
def test_transmission_flags_name_what_is_served(bench, style):
    flags = bench.connect(style).export.flags
    must = may = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_CAN_MULTI_CONN
    must |= NBD_FLAG_SEND_CACHE
    writing = NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_FAST_ZERO
    writing |= NBD_FLAG_SEND_FUA
    if bench.setup.is_writable:
        must |= writing
    else:
        must |= NBD_FLAG_READ_ONLY
    if style is not Style.SIMPLE:
        must |= NBD_FLAG_SEND_DF
    if style is Style.EXTENDED:
        may |= NBD_FLAG_BLOCK_STATUS_PAYLOAD
    may |= must | writing  # a read-only server may name what it would refuse
    assert flags & must == must, f"{must & ~flags:#x} is missing"
    assert flags & ~may == 0, f"{flags & ~may:#x} too many"


@in_every_style
@on_servers({"no-bytes": ServerSetup(size=0)})
def test_a_disk_without_bytes_is_served(bench, style):
    client = bench.connect(style)
    assert client.export.size == 0
    for command in DATA_COMMANDS:
        data = b"!" if command == NBD_CMD_WRITE else b""
        assert client.call(command, 0, 1, payload=data).error in (NBD_EINVAL, NBD_ENOSPC)
    client.done(NBD_CMD_FLUSH)
    client.disconnect()


@in_every_style
@on_servers({"odd-size": ServerSetup(size=5 * MIB + 4097)})
def test_a_disk_of_odd_size_is_served_to_its_last_byte(bench, style):
    client = bench.connect(style)
    end = bench.setup.size
    assert client.export.size == end
    assert client.call(NBD_CMD_READ, end - 5, 6).error == NBD_EINVAL
    assert client.call(NBD_CMD_READ, end - 5, 5).error == 0
