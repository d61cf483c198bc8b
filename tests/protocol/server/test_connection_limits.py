# SPDX-License-Identifier: BSD-3-Clause
"""Too many clients, too few descriptors, silence, and what thousands of clients leave behind.

Whether the server spins is judged by the processor time that it uses, which a busy machine only
makes less.
"""

import contextlib
import resource
import select

from client import Closed, Connection
from harness import MIB, until
from observe import (
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
