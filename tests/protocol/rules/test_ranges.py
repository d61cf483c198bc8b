# SPDX-License-Identifier: BSD-3-Clause
"""Ranges that end after the end of the disk, or wrap around.

Specification: "Request types" and "Error values" (NBD_EINVAL, NBD_ENOSPC, NBD_EOVERFLOW).
"""

import itertools

from harness import KIB, MIB
from rules import (
    BEYOND,
    COUNT_MAX,
    OFFSET_MAX,
    SIZE,
    each_row,
    in_every_style,
    request_rows,
    short,
)
from wire import *  # noqa: F403 - the specification's constants
from wire import Style, spell

RANGES = {
    "past-end": (SIZE, 1),
    "across-end": (SIZE - 1, 2),
    "offset-2^63": (1 << 63, 512),
    "offset-max": (OFFSET_MAX, 1),
    "ending-at-2^64": (OFFSET_MAX - 511, 512),
    "wrapping-to-the-start": (OFFSET_MAX - 511, 1024),
    "payload-of-1M": (SIZE - 512, MIB),
}
FAR_RANGES = {
    "all-and-one": (0, SIZE + 1),
    "count-max": (0, COUNT_MAX),
    "wrapping-far": (OFFSET_MAX - COUNT_MAX + 2, COUNT_MAX),
}
# Only extended headers can express these.
LONG_RANGES = {
    "2^32": (0, 1 << 32),
    "2^32-and-512": (0, (1 << 32) + 512),
    "2^63": (0, 1 << 63),
    "2^64-1": (0, OFFSET_MAX),
    "2^64-1-wrapping": (512, OFFSET_MAX),
    "ending-at-2^64": (SIZE, OFFSET_MAX - SIZE + 1),
}


def beyond_the_end():
    product = itertools.product(BEYOND.items(), RANGES.items())
    for (command, error), (where, (offset, length)) in product:
        name = f"{short(command)}-{where}-{spell('NBD_E', error)}"
        yield from request_rows(name, command, (error,), offset=offset, length=length)


@each_row(beyond_the_end())
def test_ranges_beyond_the_end_are_refused(bench, row):
    row.play(bench)


def without_payload(ranges, **options):
    """All commands but WRITE.  Such a READ may also be too long, wherever it is."""
    for where, (offset, length) in ranges.items():
        for command, error in BEYOND.items():
            if command != NBD_CMD_WRITE:
                also = (NBD_EOVERFLOW,) if command == NBD_CMD_READ else ()
                name, allowed = f"{short(command)}-{where}", (error, *also)
                fields = {"offset": offset, "length": length}
                yield from request_rows(name, command, allowed, **options, **fields)


@each_row(without_payload(FAR_RANGES))
def test_ranges_far_beyond_the_end_are_refused(bench, row):
    row.play(bench)


@each_row(without_payload(LONG_RANGES, styles=(Style.EXTENDED,)))
def test_lengths_of_64_bits_beyond_the_end_are_refused(bench, row):
    row.play(bench)


@in_every_style
def test_refused_writes_change_nothing(bench, style):
    client = bench.connect(style)
    data = bench.rng.randbytes(4 * KIB)
    client.write(0, data)
    for command in (NBD_CMD_WRITE, NBD_CMD_WRITE_ZEROES, NBD_CMD_TRIM):
        for offset in (OFFSET_MAX - 511, OFFSET_MAX - 4 * KIB + 1, SIZE - 1, SIZE):
            payload = b"\xee" * 4 * KIB if command == NBD_CMD_WRITE else b""
            assert client.call(command, offset, 4 * KIB, payload=payload).error
            bench.witness.step()
    assert client.read(0, 8 * KIB) == data + bytes(4 * KIB)
