# SPDX-License-Identifier: BSD-3-Clause
"""A running nbdram as the system sees it, and clients of it that speak byte by byte."""

import contextlib
import fcntl
import json
import os
import pathlib
import re
import select
import signal
import socket
import struct
import termios
import time

from client import Connection
from harness import HANG_SECONDS, KIB, process_status
from wire import Style


def until(condition, pause=0.005):
    """Wait until condition() is true, and return what it was."""
    deadline = time.monotonic() + HANG_SECONDS
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, "hangs"
        select.select([], [], [], pause)


def resident(server):
    """Bytes of memory that are the server's own."""
    return int(process_status(server.pid)["VmRSS"].split()[0]) * KIB


def resident_is_telling(server):
    """Sanitizers keep what is freed, and shadows of everything."""
    return not re.search("lib[alt]san", pathlib.Path(f"/proc/{server.pid}/maps").read_text())


def descriptors(server):
    return len(os.listdir(f"/proc/{server.pid}/fd"))


@contextlib.contextmanager
def asleep(server):
    """What is sent meanwhile is there in one piece when the server wakes up."""
    os.kill(server.pid, signal.SIGSTOP)
    try:
        until(lambda: process_status(server.pid)["State"].startswith("T"))
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


def poke(server):
    """Make the main thread look around: it prints its numbers, and writes its file."""
    os.kill(server.pid, signal.SIGUSR1)


class Statistics:
    """The file of --stats."""

    def __init__(self, folder):
        self._path = folder / "statistics"
        self.flags = ("--stats", self._path)

    def now(self, server):
        """The numbers of a moment after the call."""
        before = self._path.stat().st_ino if self._path.exists() else None
        poke(server)
        until(lambda: self._path.exists() and self._path.stat().st_ino != before)
        return json.loads(self._path.read_text())


def address_of(server):
    """(family, address) of its socket."""
    port = re.match(r"nbd://[^/]*:(\d+)", server.uri)
    if port:
        return socket.AF_INET, ("127.0.0.1", int(port[1]))
    return socket.AF_UNIX, str(server.socket)


def join(server, style=Style.SIMPLE, kind=Connection, receive_buffer=0):
    """A client in transmission."""
    family, address = address_of(server)
    sock = socket.socket(family)
    sock.settimeout(HANG_SECONDS)
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.connect(address)
    client = kind(sock).greet().negotiate(style)
    if style is not Style.SIMPLE:
        client.set_contexts(b"", [b"base:allocation"])
    client.go()
    return client


def arrived(client):
    """Bytes that are there to be received."""
    return struct.unpack("i", fcntl.ioctl(client.sock, termios.FIONREAD, bytes(4)))[0]
