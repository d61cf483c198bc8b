# SPDX-License-Identifier: BSD-3-Clause
"""Many clients that send or receive a byte at a time, in every state of a connection.

Whether others are served is judged by order: in each round every slow client moves a byte, and
then the witness and one more client of each loop are answered before the next round begins.
"""

import struct

from client import Connection
from harness import KIB, MIB
from ledger import LOOPS, SLACK_AGAIN, Ledger, scaled
from observe import join
from traffic import STYLES, client_hello, entry
from wire import (
    NBD_CMD_READ,
    NBD_CMD_WRITE,
    NBD_OPT_EXTENDED_HEADERS,
    NBD_OPT_GO,
    NBD_OPT_STARTTLS,
    NBD_OPT_STRUCTURED_REPLY,
    NBD_REP_ACK,
    NBD_SIMPLE_REPLY_MAGIC,
    Style,
)

EACH = scaled(20, 100)  # of each kind
ROUNDS = 60  # the number of bytes that each client moves
PAYLOADS = (100, 5000, 64 * KIB)  # all but the last are kept until they are whole
SPOT = 2 * MIB


class Slow:
    """A client that has `left` to send or to receive."""

    def __init__(self, client, left):
        self._client = client
        self._left = left

    def move(self):
        """Move one byte, unless it is the last one."""
        if len(self._left) > 1:
            self._move()
            self._left = self._left[1:]

    def close(self):
        self._client.close()


class Sender(Slow):
    """Sends what is left, and is answered after the last byte."""

    def __init__(self, client, left, answered):
        super().__init__(client, left)
        self._answered = answered

    def _move(self):
        self._client.send(self._left[:1])

    def end(self):
        self._client.send(self._left)
        self._answered()
        self.close()


class Taker(Slow):
    """Receives what is left."""

    def _move(self):
        assert self._client.recv(1) == self._left[:1]

    def end(self):
        assert self._client.recv(len(self._left)) == self._left
        self.close()


def greeter(server, number):
    """Slow from its first byte."""
    client = Connection.to(server.socket)
    style = STYLES[number % 3]
    options = {
        Style.SIMPLE: [],
        Style.STRUCTURED: [NBD_OPT_STRUCTURED_REPLY],
        Style.EXTENDED: [NBD_OPT_EXTENDED_HEADERS],
    }

    def answered():
        client.recv_greeting()
        for name in options[style]:
            assert client.recv_option_reply(name).type == NBD_REP_ACK
        client.style = style
        assert client.recv_option_replies(NBD_OPT_GO)[-1].type == NBD_REP_ACK

    return Sender(client, entry(style), answered)


def encrypter(server, number):
    """Slow with its first TLS record."""
    client = Connection.to(server.socket).greet()
    client.accepted(NBD_OPT_STARTTLS)
    return Sender(client, client_hello(), lambda: client.recv(1))


def asker(server, number):
    client = join(server, STYLES[number % 3])
    read = client.request(NBD_CMD_READ, 0, 1000)
    return Sender(client, read.pack(), lambda: client.finish(read))


def writer(server, number):
    client = join(server, STYLES[number % 3])
    data = bytes([1 + number % 255]) * PAYLOADS[number // 3 % len(PAYLOADS)]
    write = client.request(NBD_CMD_WRITE, SPOT, payload=data)
    client.send(write.pack()[:-90])
    return Sender(client, write.pack()[-90:], lambda: client.finish(write))


def reader(server, number):
    """Slow to receive a reply that does not fit into the socket."""
    client = join(server)
    expected = client.read(0, MIB)
    read = client.send_request(NBD_CMD_READ, 0, MIB)
    return Taker(client, struct.pack(">IIQ", NBD_SIMPLE_REPLY_MAGIC, 0, read.cookie) + expected)


KINDS = (greeter, encrypter, asker, writer, reader)


def creep(server, ledger):
    """All move a byte in each round; in the end one half moves the rest, the other leaves."""
    slow = [kind(server, number) for number in range(EACH) for kind in KINDS]
    prompt = [join(server) for _ in range(2)]
    for _ in range(ROUNDS):
        for client in slow:
            client.move()
        ledger.check_stored()
        for client in prompt:
            client.write(SPOT + MIB, b"at once")
            assert client.read(SPOT + MIB, 7) == b"at once"
    for client in slow[::2]:
        client.end()
    for client in slow[1::2] + prompt:
        client.close()


def test_slow_in_every_state(nbdram, rng, secrets):
    flags = (*LOOPS, "--timeout", "0", "--tls=on", *secrets.flags("certificates"))
    server = nbdram("4M", flags=flags)
    ledger = Ledger(server, rng)
    creep(server, ledger)
    once = ledger.balance()
    creep(server, ledger)
    ledger.balance(once + SLACK_AGAIN)
