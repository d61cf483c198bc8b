# SPDX-License-Identifier: BSD-3-Clause
"""Connections that end: the server stops, or a client vanishes, stalls or half-closes.

Specification: "Terminating the transmission phase", "Termination of the session during option
haggling" and "Error values" (NBD_ESHUTDOWN).
"""

import contextlib

from client import Closed
from harness import KIB, MIB
from rules import STYLES, THIN_SETUPS, in_every_style, on_servers, u32
from wire import *  # noqa: F403 - the specification's constants
from wire import pack_info, pack_option

# The server stops.


def test_sigterm_ends_idle_connections(bench):
    bench.witness.leave()
    clients = [bench.dial(), bench.haggle(), *map(bench.connect, STYLES)]
    bench.server.terminate()
    for client in clients:
        with contextlib.suppress(Closed):
            while True:
                client.recv(1)


@in_every_style
def test_sigterm_does_not_wait_for_half_a_request(bench, style):
    bench.witness.leave()
    clients = [bench.connect(style) for _ in range(3)]
    write = clients[0].request(NBD_CMD_WRITE, 0, payload=bytes(64 * KIB)).pack()
    for client, part in zip(clients, (write[:10], write[:32], write[:1000])):
        client.send(part)
    bench.server.terminate()
    for client in clients:
        client.expect_closed()


@in_every_style
def test_sigterm_with_requests_in_flight(bench, style):
    """Each is done, or answered ESHUTDOWN, or not answered; each answer is whole."""
    bench.witness.leave()
    client = bench.connect(style)
    requests = [client.request(NBD_CMD_READ, 0, 64 * KIB) for _ in range(50)]
    client.send(b"".join(request.pack() for request in requests))
    client.finish(requests[0])
    bench.server.terminate()
    with contextlib.suppress(Closed):
        for request in requests[1:]:
            assert client.finish(request).error in (0, NBD_ESHUTDOWN)
        client.expect_closed()


# A client vanishes.


@in_every_style
def test_a_client_may_vanish_at_every_byte(bench, style):
    for number in range(0, 45):
        client = bench.connect(style)
        whole = client.request(NBD_CMD_WRITE, 0, payload=b"\xee" * 9).pack()
        client.send(whole[: min(number, len(whole) - 1)])
        client.close()
        bench.witness.step()
    # A payload that came in part may be written in part.
    assert set(bench.connect(style).read(0, 9)) <= {0, 0xEE}


@in_every_style
@on_servers(THIN_SETUPS)
def test_a_client_that_vanishes_within_a_payload_exposes_no_old_memory(bench, style):
    """Memory that held one client's bytes is reused, and no other client gets to see them."""
    secret = b"SECRET. " * (128 * KIB)
    owner = bench.connect(style)
    for sent in (0, 1, 100, 4 * KIB, 5 * KIB, 70000, MIB - 1):
        owner.write(32 * MIB, secret)
        owner.done(NBD_CMD_TRIM, 32 * MIB, len(secret))
        client = bench.connect(style)
        write = client.request(NBD_CMD_WRITE, 4 * KIB - 5, payload=b"\xee" * MIB).pack()
        client.send(write[: len(write) - MIB + sent])
        client.close()
        bench.witness.step()
        assert set(owner.read(0, 2 * MIB)) <= {0, 0xEE}
        owner.done(NBD_CMD_WRITE_ZEROES, 0, 2 * MIB)


# A client stalls.


@in_every_style
@on_servers(THIN_SETUPS)
def test_a_slow_reader_sees_no_other_memory(bench, style):
    """Data may change while it is sent, but not into what other places hold."""
    owner, slow = bench.connect(style), bench.connect(style)
    length = 8 * MIB
    for _ in range(3):
        owner.write(0, b"\xaa" * length)
        read = slow.send_request(NBD_CMD_READ, 0, length)
        slow.wait_for_reply()
        owner.done(NBD_CMD_TRIM, 0, length)
        owner.write(16 * MIB, b"SECRET. " * (length // 8))
        owner.write(0, b"\xbb" * (length // 2))
        bench.witness.step()
        slow.finish(read)
        assert set(read.data) <= {0xAA, 0xBB, 0}
        owner.done(NBD_CMD_TRIM, 16 * MIB, length)


@in_every_style
def test_replies_that_no_client_reads_block_no_other_client(bench, style):
    """They are dropped together with the connection."""
    slow = [bench.connect(style) for _ in range(4)]
    slow[0].write(0, b"\xee" * 32 * MIB)
    for client in slow:
        client.send_request(NBD_CMD_READ, 0, 32 * MIB)
        bench.witness.step()
    bench.prove_in_step(bench.connect(style))
    for client in slow:
        client.close()
        bench.witness.step()


@in_every_style
def test_payloads_that_do_not_come_block_no_other_client(bench, style):
    slow = [bench.connect(style) for _ in range(8)]
    for client in slow:
        client.send(client.request(NBD_CMD_WRITE, 0, payload=bytes(32 * MIB)).pack()[:100000])
    bench.witness.step()
    bench.prove_in_step(bench.connect(style))


# A client half-closes.


@in_every_style
def test_a_half_closed_connection_may_get_its_answers(bench, style):
    """Or an end instead of them."""
    client = bench.connect(style)
    requests = [client.request(NBD_CMD_READ, 0, 4 * KIB) for _ in range(10)]
    client.send(b"".join(request.pack() for request in requests))
    client.finish_sending()
    bench.witness.step()
    with contextlib.suppress(Closed):
        for request in requests:
            assert client.finish(request).error == 0
        client.expect_closed()


def test_a_connection_that_is_half_closed_in_the_handshake_ends(bench):
    for data in (b"", b"\0\0", u32(3), u32(3) + pack_option(NBD_OPT_INFO, pack_info())[:9]):
        client = bench.dial()
        client.recv_greeting()
        client.send(data)
        client.finish_sending()
        bench.witness.step()
        client.expect_closed()
