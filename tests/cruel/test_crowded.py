# SPDX-License-Identifier: BSD-3-Clause
"""Clients that vanish before they are admitted: in the TLS handshake, and from a full server."""

import struct

import pytest

from client import Connection
from harness import MIB, until
from ledger import LOOPS, SLACK, SLACK_AGAIN, Ledger, scaled
from observe import arrived, descriptors
from traffic import FLAGS, client_hello, connect, entry, first_part, leave
from wire import NBD_OPT_STARTTLS, Style, pack_option

CROWD = scaled(2_000, 10_000)  # for each stage of TLS
AT_ONCE = scaled(200, 1_000)
ROOM = 20
SLACK_TLS = 5 * MIB  # after both storms: the library's tables, and heap fragments

GREETING = 18
ACKNOWLEDGED = GREETING + 20  # and an empty option reply


def stages():
    """{name: (what a client sends after the ACK to STARTTLS, whether the server answers it)}"""
    hello = client_hello()
    return {
        "silent": (lambda number: b"", False),
        "mid-record": (lambda number: first_part(hello, number), False),
        "hello": (lambda number: hello, True),
        "garbage": (lambda number: b"\x16\3\1\0\4" + struct.pack(">I", number), False),
    }


def vanish_in_tls(server, says, is_answered, count):
    crowd = []
    for number in range(count):
        data = FLAGS + pack_option(NBD_OPT_STARTTLS)
        crowd.append(Connection(connect(server, data, number)))
    for number, client in enumerate(crowd):
        client.recv(ACKNOWLEDGED)
        client.send(says(number))
    for number, client in enumerate(crowd):
        if is_answered and number % 2:
            client.sock.recv(1)  # or the end of the connection
        leave(client.sock, number // 2 % 2)


@pytest.mark.parametrize("place", ("unix", "tcp4"))
@pytest.mark.parametrize("stage", stages())
def test_vanish_in_tls(nbdram, rng, secrets, crowd_most, stage, place):
    flags = (*LOOPS, "--tls=on", *secrets.flags("certificates"))
    server = nbdram("4M", flags=flags, place=place)
    ledger = Ledger(server, rng)
    says, is_answered = stages()[stage]
    for _ in range(2):
        for _ in range(0, CROWD // 2, AT_ONCE):
            vanish_in_tls(server, says, is_answered, min(AT_ONCE, crowd_most))
            ledger.check_service()
        ledger.balance(SLACK_TLS)


def queue_up(server, count):
    """Clients of which ROOM - 1 are served and the others wait to be accepted."""
    crowd = [connect(server, entry(Style.SIMPLE), number) for number in range(count)]
    inside = ROOM - 1
    until(lambda: arrived(Connection(crowd[inside - 1])) > GREETING)
    assert not arrived(Connection(crowd[inside])), "there was room for more"
    return crowd


@pytest.mark.parametrize("place", ("unix", "tcp4"))
def test_vanish_from_the_queue(nbdram, rng, crowd_most, place):
    """Clients that wait to be accepted may leave before or after those that are served."""
    server = nbdram("4M", flags=(*LOOPS, "--max-connections", ROOM), place=place)
    ledger = Ledger(server, rng)
    most = SLACK
    for _ in range(2):
        for number in range(CROWD // 2 // AT_ONCE):
            crowd = queue_up(server, min(AT_ONCE, crowd_most))
            ledger.check_stored()
            assert descriptors(server) == ledger.descriptors + ROOM - 1
            for sock in crowd[:: -1 if number % 2 else 1]:
                leave(sock, number // 2 % 2)
            ledger.await_departures()
            ledger.check_service()
        most = ledger.balance(most) + SLACK_AGAIN
