# SPDX-License-Identifier: BSD-3-Clause
"""Connections that vanish, by the thousand, at each stage, after a farewell or with a reset.

Half of the clients leave when all of a crowd have reached their stage.  The others leave at once,
perhaps before the server has noticed them.
"""

from collections.abc import Callable
from typing import NamedTuple

import pytest

from client import Connection
from harness import KIB, MIB, until
from ledger import LOOPS, SLACK_AGAIN, Ledger, scaled
from observe import arrived, descriptors
from traffic import FLAGS, STYLES, connect, entry, first_part, leave, request
from wire import NBD_CMD_DISC, NBD_CMD_READ, NBD_CMD_WRITE, NBD_OPT_LIST, Style, pack_option

PAGE = 4 * KIB
GREETING = 18

CROWD = scaled(2_000, 10_000)  # for each stage, place and way to leave
AT_ONCE = scaled(500, 4_000)


def mid_handshake(style, number):
    options = (
        FLAGS,
        FLAGS + pack_option(NBD_OPT_LIST),
        FLAGS + pack_option(NBD_OPT_LIST, bytes(5000)),  # longer than any that succeeds
        entry(style),
    )
    return first_part(options[number // 3 % len(options)], number)


def mid_header(style, number):
    return entry(style) + first_part(request(style, NBD_CMD_READ, MIB, PAGE), number)


def mid_payload(style, number):
    """Small payloads are kept until they are whole, large ones are received into the disk."""
    size = (PAGE, 15 * KIB, 64 * KIB)[number // 3 % 3]
    write = request(style, NBD_CMD_WRITE, 2 * MIB + number % 100 * KIB, payload=bytes(size))
    return entry(style) + first_part(write, number, least=len(write) - size)


def mid_reply(style, number):
    """At most a part of the reply fits into the socket."""
    large, small = (request(style, NBD_CMD_READ, 0, size) for size in (4 * MIB, 100))
    return entry(style) + large * (2 + number % 3) + small * (number % 5)


class Stage(NamedTuple):
    sends: Callable[[Style, int], bytes]
    is_in: bool  # the stage is after the handshake
    unread: int  # at least so many bytes of replies arrive at the stage
    at_once: int  # clients in a crowd


STAGES = {
    "handshake": Stage(mid_handshake, False, 0, AT_ONCE),
    "header": Stage(mid_header, True, 0, AT_ONCE),
    "payload": Stage(mid_payload, True, 0, AT_ONCE),
    "reply": Stage(mid_reply, True, 1000, scaled(100, 250)),  # each pins a buffer full of data
}
WAYS = {"farewell": False, "reset": True}  # whether a client leaves abruptly


def greetings(server):
    """{style: the bytes that a client receives before the transmission phase}"""
    counts = {}
    for style in STYLES:
        with connect(server, entry(style) + request(style, NBD_CMD_DISC), 0) as sock:
            counts[style] = len(sock.makefile("rb").read())
    return counts


def vanish_at_once(server, ledger, stage, numbers, abruptly, counts):
    """A crowd leaves when all of it has reached its stage."""
    crowd = []
    for number in numbers:
        style = STYLES[number % 3]
        client = Connection(connect(server, stage.sends(style, number), number))
        crowd.append((client, counts[style] + stage.unread if stage.is_in else GREETING))
    for client, count in crowd:
        until(lambda: arrived(client) >= count)
    assert descriptors(server) == ledger.descriptors + len(crowd), "some are turned away"
    for client, _ in crowd:
        leave(client.sock, abruptly)


def storm(server, ledger, stage, at_once, count):
    counts = greetings(server)
    ledger.await_departures()
    for abruptly in WAYS.values():
        for first in range(0, count // 2, at_once):
            numbers = range(first, min(first + at_once, count // 2))
            vanish_at_once(server, ledger, stage, numbers, abruptly, counts)
            ledger.await_departures()
            ledger.check_service()
        for number in range(count - count // 2):
            style = STYLES[number % 3]
            leave(connect(server, stage.sends(style, number), number), abruptly)
        ledger.await_departures()


@pytest.mark.parametrize("place", ("unix", "tcp4"))
@pytest.mark.parametrize("name", STAGES)
def test_vanish(nbdram, rng, crowd_most, name, place):
    """Nothing stays behind, neither of the first storm nor of a second one."""
    server = nbdram("4M", flags=LOOPS, place=place)
    ledger = Ledger(server, rng)
    stage = STAGES[name]
    at_once = min(stage.at_once, crowd_most)
    storm(server, ledger, stage, at_once, CROWD // 2)
    once = ledger.balance()
    storm(server, ledger, stage, at_once, CROWD // 2)
    ledger.balance(once + SLACK_AGAIN)
