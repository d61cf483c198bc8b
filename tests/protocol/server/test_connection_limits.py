# SPDX-License-Identifier: BSD-3-Clause
"""Too many clients, too few descriptors, silence, and what thousands of clients leave behind.

Whether the server spins is judged by the processor time that it uses, which a busy machine only
makes less.
"""

import contextlib
import os
import resource
import select
import socket

from client import Closed, Connection
from harness import HANG_SECONDS, MIB, until
from observe import (
    address_of,
    asleep,
    await_clients,
    await_departures,
    descriptors,
    join,
    processor_seconds,
    resident,
    resident_is_meaningful,
)
from serving import PAGE
from wire import NBD_CMD_FLUSH, NBD_CMD_READ, NBD_CMD_WRITE, NBD_OPT_LIST, pack_option


def is_greeted(client):
    return bool(select.select([client.sock], [], [], 0)[0])


def check_idle(server, client, seconds, most):
    """For a while the client receives nothing, and the server hardly uses a processor."""
    used = processor_seconds(server)
    assert not select.select([client.sock], [], [], seconds)[0], "it is served"
    assert processor_seconds(server) - used < most, "it spins"


def test_quiet_client_costs_nothing(nbdram):
    """A loop with one client polls for the next request before it sleeps, but not forever."""
    server = nbdram("8M")
    client = join(server)
    for _ in range(1000):
        client.read(0, PAGE)
    check_idle(server, client, 0.5, 0.1)
    client.read(0, PAGE)


def test_max_connections(nbdram):
    """One client more has to wait until another one leaves."""
    server = nbdram("8M", flags=("--max-connections", "3"))
    clients = [join(server) for _ in range(3)]
    waiting = Connection.to(server.socket)
    for client in clients * 100:
        client.read(0, PAGE)
    check_idle(server, waiting, 0.4, 0.2)
    clients.pop().close()
    waiting.greet().go()
    waiting.read(0, PAGE)
    clients[0].read(0, PAGE)


def test_idle_clients_do_not_lock_others_out(nbdram):
    """They hold all connections that there may be, and lose them; one that is busy does not."""
    server = nbdram("8M", flags=("--max-connections", "3", "--idle-timeout", "1"))
    busy, *idle = [join(server) for _ in range(3)]
    newcomer = Connection.to(server.socket)
    while not select.select([newcomer.sock], [], [], 0.1)[0]:
        busy.read(0, PAGE)
    newcomer.greet().go()
    for client in idle:
        while not select.select([client.sock], [], [], 0.1)[0]:
            busy.read(0, PAGE)
        client.expect_closed()
    busy.read(0, PAGE)
    until(lambda: server.errors().count("idle for 1 seconds") == 2)


def test_client_that_does_not_read_is_idle(nbdram):
    server = nbdram("8M", flags=("--idle-timeout", "1"))
    client = join(server, receive_buffer=4096)
    for _ in range(8):
        client.send_request(NBD_CMD_READ, 0, 8 * MIB)
    until(lambda: "idle for 1 seconds" in server.errors())


def test_client_is_not_idle_because_the_server_was_stopped(nbdram):
    """What it sent meanwhile counts."""
    server = nbdram("8M", flags=("-t", "1", "--idle-timeout", "1"))
    clients = [join(server) for _ in range(300)]  # more than the loop sees at a time
    with asleep(server):
        requests = [client.send_request(NBD_CMD_FLUSH) for client in clients]
        select.select([], [], [], 1.5)
    for client, request in zip(clients, requests):
        assert client.finish(request).error == 0


def test_share_of_a_peer(nbdram):
    """A user at a Unix socket holds no more connections than this; the next one is closed."""
    server = nbdram("8M", flags=("--max-per-peer", "2"))
    with join(server) as newcomer:  # so the harness's own probe has been accepted
        newcomer.disconnect()
    await_clients(server, 0)
    clients = [join(server) for _ in range(2)]
    for _ in range(3):
        Connection.to(server.socket).expect_closed()
    refusal = f"uid {os.getuid()}: refused: it holds 2 connections already"
    until(lambda: server.errors().count(refusal) == 3)
    clients.pop().close()
    await_clients(server, 1)
    clients.append(join(server))
    for client in clients:
        client.read(0, PAGE)


def test_share_of_an_address(nbdram):
    server = nbdram("8M", flags=("--max-per-peer", "1"), place="tcp4")
    address = address_of(server)[1]
    first, again, other = (
        Connection(socket.create_connection(address, HANG_SECONDS, (source, 0)))
        for source in ("127.0.0.1", "127.0.0.1", "127.0.0.2")
    )
    first.greet().go()
    again.expect_closed()
    other.greet().go()
    until(lambda: "127.0.0.1: refused: it holds 1 connections already" in server.errors())


def test_no_descriptors_left(nbdram):
    """Clients that could not be accepted are served when others leave; meanwhile none spins."""
    server = nbdram("8M")
    veteran = join(server)
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (32, 32))
    clients = [Connection.to(server.socket) for _ in range(60)]
    until(lambda: descriptors(server) == 32 and any(is_greeted(client) for client in clients))
    veteran.write(0, b"still there")
    check_idle(server, clients[-1], 0.5, 0.25)
    while clients:
        leaving = until(lambda: [client for client in clients if is_greeted(client)])
        for client in leaving:
            client.greet().go()
            assert client.read(0, 11) == b"still there"
        for client in leaving:
            client.close()
            clients.remove(client)
    assert veteran.read(0, 11) == b"still there"


def test_handshake_timeout(nbdram):
    """It ends silence, and talk that leads nowhere, but no connection that is past it."""
    server = nbdram("8M", flags=("--timeout", "1"))
    patient = join(server)
    half = join(server)
    flush = half.request(NBD_CMD_FLUSH)
    half.send(flush.pack()[:5])
    silent = Connection.to(server.socket)
    silent.recv_greeting()
    lingering = Connection.to(server.socket).greet()
    talk = iter(pack_option(NBD_OPT_LIST, bytes(60000)))
    while not select.select([lingering.sock], [], [], 0.01)[0]:
        with contextlib.suppress(Closed):
            lingering.send(bytes([next(talk)]))  # for ten minutes
    lingering.expect_closed()
    silent.expect_closed()
    assert patient.read(0, PAGE) == bytes(PAGE)
    half.send(flush.pack()[5:])
    assert half.finish(flush).error == 0


def leave_at(server, phase):
    """Connect, and leave at some point of the conversation."""
    with Connection.to(server.socket) as client:
        if phase == 0:
            return
        if phase == 1:
            client.send(b"\0\0")
            return
        client.greet()
        if phase == 2:
            client.send(pack_option(NBD_OPT_LIST) * 20)
            return
        if phase == 3:
            client.send(pack_option(NBD_OPT_LIST, bytes(5000))[:3000])
            return
        client.go()
        if phase == 4:
            client.send(b"not a request at all, and too long for one")
        elif phase == 5:
            client.send_request(NBD_CMD_READ, 0, MIB)
        elif phase == 6:
            request = client.request(NBD_CMD_WRITE, 0, payload=bytes(200_000))
            client.send(request.pack()[:100_000])
        elif phase == 7:
            request = client.request(NBD_CMD_WRITE, 0, payload=bytes(8000))
            client.send(request.pack()[:4000])
        elif phase == 8:
            client.disconnect()


def test_clients_that_left_leave_nothing_behind(nbdram):
    server = nbdram("8M")
    for number in range(500):
        leave_at(server, number % 10)
    witness = join(server)
    witness.read(0, PAGE)
    await_clients(server, 1)
    before = descriptors(server), resident(server)
    for number in range(10_000):
        leave_at(server, number % 10)
    await_departures(server, before[0])
    if resident_is_meaningful(server):
        assert resident(server) - before[1] < 4 * MIB
    assert witness.read(0, PAGE) == bytes(PAGE)
