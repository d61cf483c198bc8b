# SPDX-License-Identifier: BSD-3-Clause
"""A server that runs in a guest, on a disk of the guest's memory."""

import socket
import struct

from client import Connection
from harness import HANG_SECONDS, MIB
from wire import NBD_CMD_TRIM, NBD_CMD_WRITE, NBD_ENOSPC

PAGE = 4096


def content(number):
    """A MiB of pages that differ from each other, and from those of every other number."""
    pages = range(number * MIB // PAGE, (number + 1) * MIB // PAGE)
    return b"".join(struct.pack(">Q", page + 1) * (PAGE // 8) for page in pages)


class Door:
    """Where the relay of guest/server.sh connects to."""

    def __init__(self):
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.settimeout(HANG_SECONDS)
        self.port = self._socket.getsockname()[1]

    def enter(self):
        """A connection to the server."""
        client = Connection(self._socket.accept()[0]).greet()
        client.go()
        return client

    def close(self):
        self._socket.close()


class Writer:
    """A client that fills the disk, one MiB after the other, and knows what it has written."""

    def __init__(self, client):
        self._client = client
        self.written = 0  # MiB

    def write(self):
        """Write the next MiB.  Returns whether there was space."""
        offset = self.written * MIB
        error = self._client.call(NBD_CMD_WRITE, offset, payload=content(self.written)).error
        assert error in (0, NBD_ENOSPC)
        if error:
            return False
        self.written += 1
        return True

    def write_up_to(self, count):
        while self.written < count:
            assert self.write()

    def fill(self, at_most):
        """Write until there is no space, which must be before `at_most` MiB are written."""
        while self.write():
            assert self.written < at_most

    def trim_down_to(self, count):
        self._client.done(NBD_CMD_TRIM, count * MIB, (self.written - count) * MIB)
        self.written = count

    def check(self):
        """Read all of it, page by page."""
        for number in range(self.written):
            assert self._client.read(number * MIB, MIB) == content(number), f"MiB {number}"
