# SPDX-License-Identifier: BSD-3-Clause
"""What a client sends if it wants the loop for itself.

Each attack is a piece of requests that fits into a socket, and that takes the server much longer
than the client.  Every tenth request of a piece writes a counter to a place of the attacker's
own.  So a client that reads this place learns how many requests of the piece the server had
carried out by then.  The speed of the clients does not matter.
"""

import itertools
import ssl
import struct

from harness import KIB, MIB
from traffic import request
from wire import (
    NBD_CMD_BLOCK_STATUS,
    NBD_CMD_READ,
    NBD_CMD_TRIM,
    NBD_CMD_WRITE,
    NBD_CMD_WRITE_ZEROES,
    Style,
)

PIECE = 160 * KIB  # fits into a Unix socket
COUNTER = struct.Struct(">Q")
COUNTED_EVERY = 10
HOT = MIB  # attacks write nothing but counters to this first part of the disk
DISK = 256 * MIB

# One request of an attack, as the arguments of request().


def tiny_reads(rng):
    """The server looks a page up, and may have to decompress it, for a single byte."""
    return NBD_CMD_READ, rng.randrange(HOT, DISK), 1


def page_reads(rng):
    return NBD_CMD_READ, rng.randrange(HOT, DISK, 4 * KIB), 4 * KIB


def refused_reads(rng):
    """A read after the end of the disk is answered with an error, and may be logged."""
    return NBD_CMD_READ, DISK + rng.randrange(DISK), 1


def statuses(rng):
    """The server looks at the whole disk."""
    return NBD_CMD_BLOCK_STATUS, HOT, DISK - HOT


def small_zeroes(rng):
    """Few bytes ask for much zeroing, and the pages at both ends are zeroed in part."""
    return NBD_CMD_WRITE_ZEROES, rng.randrange(HOT, DISK - 256 * KIB), 256 * KIB - 1


def small_trims(rng):
    """As small_zeroes, but the memory goes back."""
    return NBD_CMD_TRIM, rng.randrange(HOT, DISK - 256 * KIB), 256 * KIB - 1


def requests(ask, rng, number, style=Style.STRUCTURED):
    """Packed requests of one attacker, without end."""
    for count in itertools.count(1):
        if count % COUNTED_EVERY == 0:
            payload = COUNTER.pack(count)
            yield request(style, NBD_CMD_WRITE, number * COUNTER.size, payload=payload)
        else:
            yield request(style, *ask(rng))


def piece(ask, rng, number=0, size=PIECE):
    """(bytes, how many requests they are)."""
    packed, length = [], 0
    for one in requests(ask, rng, number):
        if length + len(one) > size:
            return b"".join(packed), len(packed)
        packed.append(one)
        length += len(one)


def carried_out(start_of_disk, number=0):
    """How many of attacker NUMBER's requests were carried out before this was read."""
    return COUNTER.unpack_from(start_of_disk, number * COUNTER.size)[0]


# Records of TLS.


class RecordsSocket:
    """A socket that speaks TLS and lets the caller choose the size of the records.

    It does what client.Connection asks of a socket.
    """

    def __init__(self, sock):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing)
        self._sock = sock
        self._retried(self._tls.do_handshake)
        self._send_records()

    def _send_records(self):
        self._sock.sendall(self._outgoing.read())

    def _retried(self, call, *arguments):
        while True:
            try:
                return call(*arguments)
            except ssl.SSLWantReadError:
                self._send_records()
                received = self._sock.recv(64 * KIB)
                if not received:
                    return 0
                self._incoming.write(received)

    def fileno(self):
        return self._sock.fileno()

    def settimeout(self, seconds):
        self._sock.settimeout(seconds)

    def sendall(self, data, record=16 * KIB):
        """Send the data in one piece, in records of this many bytes."""
        for at in range(0, len(data), record):
            self._tls.write(data[at : at + record])
        self._send_records()

    def recv_into(self, view):
        return self._retried(self._tls.read, len(view), view)

    def drain(self, buffer):
        """Wait for encrypted bytes, and throw them away.  Nothing can be received afterwards."""
        return self._sock.recv_into(buffer)

    def close(self):
        self._sock.close()
