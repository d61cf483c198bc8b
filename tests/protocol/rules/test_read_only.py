# SPDX-License-Identifier: BSD-3-Clause
"""A server that was started with -r refuses what would change the disk, and nothing else.

Specification: "Transmission flags" (NBD_FLAG_READ_ONLY) and "Error values" (NBD_EPERM).
"""

import itertools

from harness import KIB, MIB
from rules import (
    BEYOND,
    CHUNKED,
    READ_ONLY,
    SIZE,
    each_row,
    in_every_style,
    on_servers,
    request_rows,
    short,
)
from wire import *  # noqa: F403 - the specification's constants

WRITERS = (NBD_CMD_WRITE, NBD_CMD_TRIM, NBD_CMD_WRITE_ZEROES)


def writers():
    for command, length in itertools.product(WRITERS, (1, 64 * KIB, 8 * MIB)):
        name = f"{short(command)}-{length}"
        yield from request_rows(name, command, (NBD_EPERM,), length=length, setup=READ_ONLY)
    for command in WRITERS:
        fields = {"flags": NBD_CMD_FLAG_FUA, "setup": READ_ONLY}
        yield from request_rows(f"{short(command)}-FUA", command, (NBD_EPERM,), **fields)
        # There are two reasons to refuse it: either will do.
        fields = {"offset": SIZE, "setup": READ_ONLY}
        name, allowed = f"{short(command)}-beyond-end", (NBD_EPERM, BEYOND[command])
        yield from request_rows(name, command, allowed, **fields)
    for flags in (NBD_CMD_FLAG_NO_HOLE, NBD_CMD_FLAG_FAST_ZERO):
        name = f"WRITE_ZEROES-flags-{flags:#x}"
        # A read-only server need not offer FAST_ZERO.
        allowed = (NBD_EPERM, NBD_EINVAL) if flags == NBD_CMD_FLAG_FAST_ZERO else (NBD_EPERM,)
        fields = {"flags": flags, "setup": READ_ONLY}
        yield from request_rows(name, NBD_CMD_WRITE_ZEROES, allowed, **fields)


@each_row(writers())
def test_changes_are_refused(bench, row):
    row.play(bench)


def readers():
    for command in (NBD_CMD_READ, NBD_CMD_CACHE):
        yield from request_rows(short(command), command, (0,), setup=READ_ONLY)
    yield from request_rows("FLUSH", NBD_CMD_FLUSH, (0,), length=0, setup=READ_ONLY)
    status = NBD_CMD_BLOCK_STATUS
    yield from request_rows("BLOCK_STATUS", status, (0,), styles=CHUNKED, setup=READ_ONLY)


@each_row(readers())
def test_all_other_commands_are_served(bench, row):
    row.play(bench)


@in_every_style
@on_servers({"read-only": READ_ONLY})
def test_refused_payloads_between_reads_are_skipped(bench, style):
    """All requests come in one send."""
    client = bench.connect(style)
    requests = []
    for number in range(40):
        requests.append(client.request(NBD_CMD_WRITE, number * 512, payload=b"\xee" * 700))
        requests.append(client.request(NBD_CMD_READ, number * 512, 512))
    client.send(b"".join(request.pack() for request in requests))
    for request in requests:
        client.finish(request)
        is_write = request.command == NBD_CMD_WRITE
        assert request.error == (NBD_EPERM if is_write else 0)
        assert is_write or request.data == bytes(512)
