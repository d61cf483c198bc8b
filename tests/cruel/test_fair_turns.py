# SPDX-License-Identifier: BSD-3-Clause
"""No client can keep a loop from the others, whatever it asks for.

The server sleeps while the attackers send all they have, and while others send one read each. So
the attack is first in every queue when the server wakes up.  What the reads return shows how much
of the attack was carried out before them (attacks.py).
"""

import contextlib
import fcntl
import socket
import struct
import termios

import pytest

import attacks
from client import Connection
from harness import HANG_SECONDS, KIB, MIB, until
from observe import Statistics, address_of, asleep, join
from traffic import client_hello
from wire import NBD_CMD_READ, NBD_OPT_STARTTLS, Style

ONE_LOOP = ("-t", "1")
OTHERS = 8
READ = 4 * KIB
STORED = 32 * MIB  # the part of the disk that holds data
HELLOS = 200
ATTEMPTS = 5


def attack(server, ask, rng, attackers, style=Style.STRUCTURED):
    """A function that connects attackers.

    It returns (client, piece) of each, and how many requests there are.
    """
    pieces = [attacks.piece(ask, rng, number) for number in range(attackers)]

    def connect():
        parts = [(join(server, style), piece) for piece, _ in pieces]
        return parts, sum(count for _, count in pieces)

    return connect


def seen_by_others(server, send, attackers):
    """Have the attack sent.  How much of it each of the others saw done."""
    others = [join(server) for _ in range(OTHERS)]
    others[0].write(0, bytes(attackers * attacks.COUNTER.size))
    with asleep(server):
        send()
        reads = [other.send_request(NBD_CMD_READ, 0, READ) for other in others]
    seen = []
    for other, read in zip(others, reads):
        start = other.finish(read).data
        seen.append(sum(attacks.carried_out(start, number) for number in range(attackers)))
        other.disconnect()
    return seen


def send_all(parts, **how):
    def send():
        for client, piece in parts:
            client.sock.settimeout(HANG_SECONDS)
            client.sock.sendall(piece, **how)

    return send


def at_least_once(measure, most):
    """The figure is small enough in one of ATTEMPTS attempts.

    It may be too large because the system has interrupted the server, or this test, at the wrong
    moment.  But if the server carries out all of the attack first, it is too large each time.
    """
    figures = []
    while len(figures) < ATTEMPTS:
        figures.append(measure())
        if figures[-1] <= most:
            return
    pytest.fail(f"how much was done before the others were served: {figures}")


def judge(server, connect, **how):
    """The others are served before a quarter of the attack is carried out."""

    def share_done():
        parts, total = connect()
        seen = seen_by_others(server, send_all(parts, **how), len(parts))
        for client, _ in parts:
            client.close()
        return max(seen) / total

    at_least_once(share_done, 0.25)


def fill(server, rng):
    """Store text that compresses to some half."""
    words = [rng.randbytes(8) for _ in range(4096)]
    with join(server) as client:
        for at in range(attacks.HOT, attacks.HOT + STORED, MIB):
            client.write(at, b"".join(rng.choices(words, k=MIB // 8)))
        client.disconnect()


@pytest.mark.parametrize("attackers", (1, 4))
@pytest.mark.parametrize(
    "ask", (attacks.tiny_reads, attacks.statuses, attacks.small_zeroes, attacks.small_trims)
)
def test_many_small_requests(nbdram, rng, ask, attackers):
    server = nbdram(str(attacks.DISK), flags=ONE_LOOP)
    fill(server, rng)
    judge(server, attack(server, ask, rng, attackers))


@pytest.mark.parametrize("attackers", (1, 4))
def test_reads_of_compressed_pages(nbdram, rng, tmp_path, attackers):
    statistics = Statistics(tmp_path)
    server = nbdram(
        str(attacks.DISK), "allocator=zstd,level=1", flags=(*ONE_LOOP, *statistics.flags)
    )
    fill(server, rng)
    until(lambda: statistics.now(server)["compressed_bytes"] >= STORED // 2)
    judge(server, attack(server, stored_reads, rng, attackers))


def stored_reads(rng):
    return NBD_CMD_READ, rng.randrange(attacks.HOT, attacks.HOT + STORED), 1


@pytest.mark.parametrize("attackers", (1, 4))
def test_refused_reads_that_are_logged(nbdram, rng, attackers):
    server = nbdram(str(attacks.DISK), flags=(*ONE_LOOP, "-v"))
    judge(server, attack(server, attacks.refused_reads, rng, attackers))


# TLS.


@pytest.fixture
def encrypted(nbdram, secrets):
    """A server that also takes clients without TLS."""
    flags = (*ONE_LOOP, "--tls=on", *secrets.flags("certificates"))
    return nbdram(str(attacks.DISK), flags=flags)


def dial(server):
    """A client that is to send its first option."""
    family, address = address_of(server)
    sock = socket.socket(family)
    sock.settimeout(HANG_SECONDS)
    sock.connect(address)
    return Connection(sock).greet()


def encrypt(client):
    client.accepted(NBD_OPT_STARTTLS)
    client.sock = attacks.RecordsSocket(client.sock)
    return client


@pytest.mark.parametrize("record, attackers", ((1, 1), (1, 4), (512, 4)))
def test_small_records(encrypted, rng, record, attackers):
    fill(encrypted, rng)
    size = attacks.PIECE * record // (record + 22)
    pieces = [attacks.piece(attacks.tiny_reads, rng, n, size) for n in range(attackers)]

    def connect():
        parts = [(encrypt(dial(encrypted)), piece) for piece, _ in pieces]
        for client, _ in parts:
            client.go()
        return parts, sum(count for _, count in pieces)

    judge(encrypted, connect, record=record)


def unread(clients):
    """Bytes that the clients have sent and the server has not received."""
    return sum(
        struct.unpack("i", fcntl.ioctl(client.sock.fileno(), termios.TIOCOUTQ, bytes(4)))[0]
        for client in clients
    )


def share_received_before_a_read(server, rng, attackers):
    """The share of one-byte records that was received before a read after them was answered."""
    other = join(server)
    clients = [encrypt(dial(server)) for _ in range(attackers)]
    for client in clients:
        client.go()
    with asleep(server):
        for client in clients:
            client.sock.sendall(attacks.piece(attacks.tiny_reads, rng, size=7 * KIB)[0], record=1)
        sent = unread(clients)
        read = other.send_request(NBD_CMD_READ, 0, READ)
    other.finish(read)
    with asleep(server):
        share = 1 - unread(clients) / sent
    for client in (other, *clients):
        client.close()
    return share


@pytest.mark.parametrize("attackers", (1, 4))
def test_receiving_one_byte_records(encrypted, rng, attackers):
    """The time goes into receiving here, before any request is carried out."""
    at_least_once(lambda: share_received_before_a_read(encrypted, rng, attackers), 0.5)


def answered(clients):
    """How many of the clients have received something."""
    count = 0
    for client in clients:
        client.sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            count += bool(client.sock.recv(1, socket.MSG_PEEK))
    return count


def hellos_before_a_read(server, hello):
    """How many of HELLOS handshakes were answered before a read that came after them was."""
    other = join(server)
    clients = [dial(server) for _ in range(HELLOS)]
    for client in clients:
        client.accepted(NBD_OPT_STARTTLS)
    with asleep(server):
        for client in clients:
            client.send(hello)
        read = other.send_request(NBD_CMD_READ, 0, READ)
    other.finish(read)
    with asleep(server):
        count = answered(clients)
    for client in (other, *clients):
        client.close()
    return count


def test_hellos_of_the_past(encrypted):
    """Hellos that were sent before cost a client nothing, and the server a signature each."""
    hello = client_hello()
    at_least_once(lambda: hellos_before_a_read(encrypted, hello), HELLOS // 2)
