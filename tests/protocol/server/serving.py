# SPDX-License-Identifier: BSD-3-Clause
"""Clients and data that the tests in this folder share."""

import random

from client import Connection
from harness import KIB, MIB
from wire import Style

STYLES = tuple(Style)
CHUNKED = (Style.STRUCTURED, Style.EXTENDED)
PAGE = 4 * KIB


class PiecewiseConnection(Connection):
    """A connection that receives in pieces of odd sizes, down to a single byte."""

    sizes = random.Random(0)

    def recv(self, count):
        pieces = []
        while count:
            n = min(count, self.sizes.choice((1, 7, 509, 4093, 4096, 12289, 65521)))
            pieces.append(super().recv(n))
            count -= n
        return b"".join(pieces)


def write_all(client, data, offset=0):
    for at in range(0, len(data), 4 * MIB):
        client.write(offset + at, data[at : at + 4 * MIB])


def pattern(count, start=0):
    """Bytes that show their own offset, at every alignment, and compress to a quarter or less."""
    return b"".join(b"%015x\n" % at for at in range(start, start + count, 16))[:count]
