# SPDX-License-Identifier: BSD-3-Clause
"""Commands and flags that are unknown or do not go together, and wrong magic numbers.

Specification: "Request message", "Command flags", "Request types" and "Reserved Magic values".
"""

import contextlib

import pytest

from client import Closed
from rules import (
    COUNT_MAX,
    DATA_COMMANDS,
    UNKNOWN_COMMANDS,
    allowed_errors,
    in_every_style,
    named,
    short,
    u32,
)
from wire import *  # noqa: F403 - the specification's constants
from wire import Style

LOW_FLAGS = NBD_CMD_FLAG_PAYLOAD_LEN * 2 - 1


@in_every_style
@pytest.mark.parametrize(
    "command", (*DATA_COMMANDS, NBD_CMD_FLUSH, *UNKNOWN_COMMANDS), ids=short
)
def test_every_flag_of_a_command(bench, style, command):
    """All combinations of the defined flags, and each undefined one alone and with FUA."""
    client = bench.connect(style)
    high = [1 << bit | fua for bit in range(6, 16) for fua in (0, 1)]
    for flags in (*range(LOW_FLAGS + 1), *high, 0xFFC0, 0xFFFF):
        has_payload = command == NBD_CMD_WRITE
        if style is Style.EXTENDED:
            if command == NBD_CMD_WRITE and not flags & NBD_CMD_FLAG_PAYLOAD_LEN:
                continue  # has a test of its own
            has_payload = bool(flags & NBD_CMD_FLAG_PAYLOAD_LEN)
        length = 0 if command == NBD_CMD_FLUSH and not has_payload else 512
        payload = bytes(length) if has_payload else b""
        request = client.call(command, 0, length, flags, payload)
        wanted = allowed_errors(style, command, flags)
        assert request.error in wanted, f"flags {flags:#x}: {named(request.error)}"
    bench.prove_in_step(client)


BAD_MAGIC = {
    "zero": 0,
    "ones": COUNT_MAX,
    "historic": 0x12560953,
    "log": 0x25609514,
    "simple-reply": NBD_SIMPLE_REPLY_MAGIC,
    "extended-reply": NBD_EXTENDED_REPLY_MAGIC,
    "swapped": 0x13956025,
    "IHAVEOPT": IHAVEOPT >> 32,
    "one-bit": NBD_REQUEST_MAGIC ^ 1 << 31,
    "of-the-other-kind": None,  # that of extended requests among compact ones, or the reverse
}


@in_every_style
@pytest.mark.parametrize("magic", BAD_MAGIC.values(), ids=BAD_MAGIC)
def test_a_wrong_magic_number_ends_the_connection(bench, style, magic):
    client = bench.connect(style)
    other = NBD_EXTENDED_REQUEST_MAGIC if style is not Style.EXTENDED else NBD_REQUEST_MAGIC
    request = client.request(NBD_CMD_WRITE, 0, payload=b"\xee" * 512).pack()
    client.send(u32(other if magic is None else magic) + request[4:])
    bench.witness.step()
    client.expect_closed()
    assert bench.connect(style).read(0, 512) == bytes(512)


@in_every_style
def test_requests_before_a_wrong_magic_number_are_answered_or_dropped(bench, style):
    client = bench.connect(style)
    requests = [client.request(NBD_CMD_READ, 0, 512) for _ in range(10)]
    client.send(b"".join(request.pack() for request in requests) + bytes(64))
    with contextlib.suppress(Closed):
        for request in requests:
            client.finish(request)
            assert request.error == 0
        client.expect_closed()
