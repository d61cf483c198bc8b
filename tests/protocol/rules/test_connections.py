# SPDX-License-Identifier: BSD-3-Clause
"""Many connections show one disk, and standard input can be a connection too.

Specification: "Transmission flags" (NBD_FLAG_CAN_MULTI_CONN).
"""

import socket
import subprocess

import harness
from client import Connection
from harness import KIB
from rules import SIZE, STYLES, in_every_style
from wire import *  # noqa: F403 - the specification's constants
from wire import Style


@in_every_style
def test_all_connections_read_what_one_has_written(bench, style):
    clients = [bench.connect(other, b"name") for other in STYLES for _ in range(4)]
    for number, client in enumerate(clients):
        data = bench.rng.randbytes(5000)
        if number % 2:
            client.write(number * 5000, data, NBD_CMD_FLAG_FUA)
        else:
            client.write(number * 5000, data)
            client.done(NBD_CMD_FLUSH)
        for other in clients:
            assert other.read(number * 5000, len(data)) == data


def test_two_hundred_connections_are_served(bench):
    clients = [bench.connect(Style.SIMPLE) for _ in range(200)]
    for client in clients:
        bench.prove_in_step(client)
    for client in clients[::2]:
        client.disconnect()
    for client in clients[1::2]:
        client.close()


def test_requests_like_those_of_the_kernel_are_served(bench):
    """Simple replies, requests of up to 256 KiB, pipelined on several connections."""
    clients = [bench.connect(Style.SIMPLE) for _ in range(4)]
    waiting = []
    for number in range(64):
        client = clients[number % 4]
        data = bytes([number]) * 128 * KIB
        at = number * len(data)
        waiting.append((client, client.send_request(NBD_CMD_WRITE, at, payload=data)))
    for client, request in waiting:
        assert client.finish(request).error == 0
    for number in range(64):
        at = number * 128 * KIB
        assert clients[-number % 4].read(at, 128 * KIB) == bytes([number]) * 128 * KIB


def test_standard_input_is_the_connection():
    """-s: one client, on standard input and output; the server ends with it."""
    ours, theirs = socket.socketpair()
    command = [harness.SERVER, "-s", str(SIZE)]
    with theirs, Connection(ours) as client:
        server = subprocess.Popen(command, stdin=theirs, stdout=theirs)
        theirs.close()
        try:
            client.greet().negotiate(Style.STRUCTURED).go(b"any")
            client.write(1, b"data")
            assert client.read(0, 6) == b"\0data\0"
            client.disconnect()
            assert server.wait(harness.HANG_SECONDS) == 0
        finally:
            server.kill()
            server.wait()
