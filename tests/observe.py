# SPDX-License-Identifier: BSD-3-Clause
"""A running nbdram as the system sees it, and clients that speak to it byte by byte."""

import contextlib
import fcntl
import json
import os
import pathlib
import re
import signal
import socket
import struct
import termios

from client import Connection
from harness import HANG_SECONDS, process_bytes, process_status, until
from wire import Style

# Memory.


def resident(server):
    """Bytes of memory that are resident."""
    return process_bytes(server.pid, "VmRSS")


def peak(server):
    """Bytes: the largest resident size so far."""
    return process_bytes(server.pid, "VmHWM")


def resident_is_meaningful(server):
    """Whether it shows what is in use: sanitizers keep freed memory and shadows of the rest."""
    return not re.search("lib[alt]san", pathlib.Path(f"/proc/{server.pid}/maps").read_text())


# Descriptors.


def links(server):
    """What each of its descriptors leads to."""
    for link in pathlib.Path(f"/proc/{server.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            yield os.readlink(link)


def descriptors(server):
    """How many there are, without the files by which the machine is asked for memory.

    Those are open for a moment, at any time.
    """
    asked = ("/proc/", "/sys/fs/cgroup/")
    return sum(not link.startswith(asked) for link in links(server))


def sockets(server):
    return sum(link.startswith("socket:") for link in links(server))


def await_clients(server, count):
    """Wait until no connections are open but those of `count` clients that are being served.

    The harness's own probe, for one, may not be closed yet when the first client is served.
    """
    until(lambda: sockets(server) == 1 + count)  # one socket listens


def await_departures(server, count):
    """Wait until all earlier clients that have left are gone, and `count` descriptors are open.

    Before a connection is accepted it is no descriptor of the server.  Connections are accepted
    in order, so once a newcomer is served no earlier one still waits to be accepted.
    """
    with join(server) as newcomer:
        newcomer.disconnect()
    until(lambda: descriptors(server) == count)


# Processor time.


def processor_ticks(stat):
    """The time used, from a file like /proc/PID/stat."""
    return sum(map(int, stat.read_text().rsplit(") ", 1)[1].split()[11:13]))


def processor_seconds(server):
    return processor_ticks(pathlib.Path(f"/proc/{server.pid}/stat")) / os.sysconf("SC_CLK_TCK")


def thread_ticks(server):
    """The time used by each thread except the main one."""
    tasks = pathlib.Path(f"/proc/{server.pid}/task").iterdir()
    return {
        task.name: processor_ticks(task / "stat")
        for task in tasks
        if task.name != str(server.pid)
    }


# Signals.


@contextlib.contextmanager
def asleep(server):
    """The server is stopped.  What is sent meanwhile is there in one piece when it goes on."""
    os.kill(server.pid, signal.SIGSTOP)
    try:
        until(lambda: process_status(server.pid)["State"].startswith("T"))
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


class Statistics:
    """The file of --stats."""

    def __init__(self, folder):
        self._path = folder / "statistics"
        self.flags = ("--stats", self._path)

    def now(self, server):
        """The numbers of a moment after the call."""
        before = self._path.stat().st_ino if self._path.exists() else None
        os.kill(server.pid, signal.SIGUSR1)  # the file is written anew
        until(lambda: self._path.exists() and self._path.stat().st_ino != before)
        return self.last()

    def last(self):
        """The numbers that were written last."""
        return json.loads(self._path.read_text())


# Clients.


def address_of(server):
    """(family, address) of its socket."""
    port = re.match(r"nbd://[^/]*:(\d+)", server.uri)
    if port:
        return socket.AF_INET, ("127.0.0.1", int(port[1]))
    return socket.AF_UNIX, str(server.socket)


def join(server, style=Style.SIMPLE, kind=Connection, receive_buffer=0):
    """A client in the transmission phase."""
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
    """Bytes that the client can receive at once."""
    return struct.unpack("i", fcntl.ioctl(client.sock, termios.FIONREAD, bytes(4)))[0]
