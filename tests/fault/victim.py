# SPDX-License-Identifier: BSD-3-Clause
"""nbdram under the shim (shim.c), and clients that know what the disk must hold."""

import contextlib
import mmap
import os
import pathlib
import re
import select
import signal
import socket
import ssl
import subprocess

from client import Closed, Connection
import harness
from wire import *  # noqa: F403 - the specification's constants
from wire import Broken, Style, demand, spell

SECONDS = harness.HANG_SECONDS
SHIM = pathlib.Path(harness.SERVER).parent / "tests" / "fault-shim.so"
IS_ASAN = bool(harness.PRELOAD)
FOREVER = 1 << 62
URI = r"nbds?(?:://(?:localhost|\[::1\]):(\d+)/|\+unix:///\?socket=/\S+/s)\n"

# Unlike nbdkit and Python, nbdram must not leak; and the shim is loaded before the sanitizer.
ASAN_OPTIONS = "detect_leaks=1:verify_asan_link_order=0"

KIB, MIB = harness.KIB, harness.MIB
AREA = 384 * KIB  # clients write only below this offset
ALLOCATION = b"base:allocation"
NO_ROOM = (NBD_ENOMEM, NBD_ENOSPC, NBD_EIO)


class Shim:
    """Sets which calls fail, and reads what shim.c counts: struct control there."""

    FIRST, TIMES, EVERY, CALLS, FAILED = range(5)
    faults = armed = 0  # totals of all shims

    def __init__(self, folder, calls, how):
        self.path = folder / "page"
        self.path.write_bytes(bytes(4096))
        with open(self.path, "r+b") as file:
            self._page = mmap.mmap(file.fileno(), 0)
        self._numbers = memoryview(self._page)[:40].cast("Q")
        self.environment = {
            "LD_PRELOAD": str(SHIM),
            "FAULT_PAGE": str(self.path),
            "FAULT_CALLS": calls,
            "FAULT_HOW": str(how),
        }

    def arm(self, first, times=1, every=1):
        """Let `times` calls fail: first, first + every, ...  Counting starts again at 1."""
        self.disarm()
        for place, value in enumerate((0, times, every, 0, 0)):
            self._numbers[place] = value
        self._page[40:144] = bytes(104)
        self._numbers[self.FIRST] = first

    def disarm(self):
        if self._numbers[self.FIRST]:
            Shim.armed += 1
            Shim.faults += self.failed
        self._numbers[self.FIRST] = 0

    @property
    def calls(self):
        return self._numbers[self.CALLS]

    @property
    def failed(self):
        return self._numbers[self.FAILED]

    @property
    def last(self):
        """The last call that failed, and its caller."""
        return self._page[40:144].split(b"\0")[0].decode()


def environment(folder, shim):
    """The environment of a server under faults."""
    made = {**os.environ, **shim.environment, "TMPDIR": str(folder)}
    if IS_ASAN:
        made["ASAN_OPTIONS"] = f"{made.get('ASAN_OPTIONS', '')}:{ASAN_OPTIONS}"
    return made


class Victim:
    """One nbdram in a folder of its own.  await_ready() or await_background() comes next."""

    def __init__(self, folder, shim, *words, program=harness.SERVER):
        self.folder = pathlib.Path(folder)
        self.shim = shim
        self.port = None
        self._adopted = None  # the process id of the daemon
        self._said = open(self.folder / "said", "w+")
        self.process = subprocess.Popen(
            [program, *map(str, words)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env=environment(folder, shim),
            cwd=self.folder,
        )

    def await_ready(self):
        """Wait for the URI, which it prints when it is ready.  False: it ended before."""
        printed = ""
        while "\n" not in printed:
            ready, _, _ = select.select([self.process.stdout], [], [], SECONDS)
            assert ready, "hangs at its start"
            more = os.read(self.process.stdout.fileno(), 4096).decode()
            if not more:
                break
            printed += more
        if printed:
            found = re.search(URI, printed)
            assert found, printed
            self.port = found[1] and int(found[1])
        else:
            self._wait()
        return bool(printed)

    def await_background(self):
        """Wait for the command to end, without -f.  False: there is no daemon."""
        self._wait()
        if self.status != 0:
            return False
        self._adopted = int((self.folder / "pid").read_text())
        return True

    def connect(self):
        """A client.Connection."""
        if self.port is None:
            return Connection.to(self.folder / "s")
        return Connection(socket.create_connection(("127.0.0.1", self.port), SECONDS))

    def _wait(self):
        try:
            self.status = self.process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            raise AssertionError("does not end") from None

    @property
    def pid(self):
        return self._adopted or self.process.pid

    def said(self):
        self._said.seek(0)
        return self._said.read()

    def descriptors(self):
        folder = f"/proc/{self.pid}/fd"
        names = {}
        for fd in os.listdir(folder):
            with contextlib.suppress(FileNotFoundError):
                names[int(fd)] = os.readlink(f"{folder}/{fd}")
        return names

    def await_descriptors(self, before):
        """Wait until only descriptors that were open before are open."""
        harness.until(
            lambda: self.descriptors().keys() <= before.keys(),
            hangs=lambda: f"{self.descriptors()} instead of {before}",
        )

    def rss(self):
        return harness.process_bytes(self.pid, "VmRSS")

    def stop(self):
        """End the server, which must still be alive and must end well."""
        if self._adopted:
            self._stop_adopted()
        else:
            assert self.process.poll() is None, f"died: {self.process.returncode}"
            self.process.send_signal(signal.SIGTERM)
            self._wait()
        assert self.status == 0, f"ends with {self.status}"

    def _stop_adopted(self):
        os.kill(self.pid, signal.SIGTERM)
        pidfd = os.pidfd_open(self.pid)
        ended, _, _ = select.select([pidfd], [], [], SECONDS)
        os.close(pidfd)
        assert ended, "does not end"
        self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self._adopted = None

    def close(self):
        self.process.kill()
        self.process.wait()
        if self._adopted:
            os.kill(self._adopted, signal.SIGKILL)
            os.waitpid(self._adopted, 0)
        self.process.stdout.close()
        self._said.close()
        self.shim.disarm()


class Disk:
    """What a disk must hold: acknowledged data, and perhaps data of writes that failed."""

    def __init__(self, size):
        self.size = size
        self.bytes = bytearray(AREA)
        self.perhaps = []  # (offset, bytes) that may have been written

    def may_become(self, offset, data):
        if (offset, data) not in self.perhaps:
            self.perhaps.append((offset, data))

    def becomes(self, offset, data):
        self.bytes[offset : offset + len(data)] = data
        end = offset + len(data)
        # This range has a single value now.
        self.perhaps = [
            (at, other) for at, other in self.perhaps if at < offset or at + len(other) > end
        ]

    def check(self, offset, found):
        """Check that each byte is one that is possible.  From now on it is the only one."""
        if self.bytes[offset : offset + len(found)] == found:
            return
        for at in range(0, len(found), 512):
            piece = found[at : at + 512]
            if self.bytes[offset + at : offset + at + len(piece)] != piece:
                self._check_piece(offset + at, piece)

    def _check_piece(self, offset, found):
        known = self.bytes[offset : offset + len(found)]
        allowed = [{byte} for byte in known]
        for at, data in self.perhaps:
            for i in range(max(at, offset), min(at + len(data), offset + len(found))):
                allowed[i - offset].add(data[i - at])
        for i, byte in enumerate(found):
            assert byte in allowed[i], f"wrong data at {offset + i}"
        self.bytes[offset : offset + len(found)] = found

    def is_zero(self, offset, count):
        return not any(self.bytes[offset : offset + count])


class Refused(Exception):
    """An error reply."""


class Client:
    """A connection that uses all commands, and remembers what was acknowledged."""

    def __init__(self, server, disk, rng, *, style=Style.STRUCTURED, tls=None):
        self.disk, self.rng = disk, rng
        self.connection = server.connect()
        self.refused = 0
        try:
            self._handshake(style, tls)
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.connection.close()

    def _handshake(self, style, tls):
        connection = self.connection.greet()
        if tls is not None:
            connection.accepted(NBD_OPT_STARTTLS)
            connection.sock = tls.wrap_socket(connection.sock, server_hostname="localhost")
        demand(connection.list() == [""], "one export")
        connection.negotiate(style)
        if style is not Style.SIMPLE:
            demand(connection.list_contexts() == [ALLOCATION.decode()], "contexts")
            connection.set_contexts(queries=[ALLOCATION])
        connection.info()
        connection.option(99)
        export = connection.go(requests=[3])
        demand(export.size == self.disk.size, f"a disk of {export.size} bytes")

    def call(self, command, *args, **kwargs):
        return self.answered(self.connection.call(command, *args, **kwargs))

    def answered(self, request):
        if request.error:
            self.refused += 1
            name = spell("NBD_CMD_", request.command)
            demand(request.error in NO_ROOM, f"{name}: {spell('NBD_E', request.error)}")
        return request

    def write(self, offset, data):
        self.disk.may_become(offset, data)
        if self.call(NBD_CMD_WRITE, offset, payload=data).error == 0:
            self.disk.becomes(offset, data)

    def zero(self, offset, count, flags=0):
        self.disk.may_become(offset, bytes(count))
        if self.call(NBD_CMD_WRITE_ZEROES, offset, count, flags).error == 0:
            self.disk.becomes(offset, bytes(count))

    def trim(self, offset, count):
        """Trim, which need not change anything."""
        if offset < AREA:
            self.disk.may_become(offset, bytes(count))
        self.call(NBD_CMD_TRIM, offset, count)

    def read(self, offset, count, flags=0):
        request = self.call(NBD_CMD_READ, offset, count, flags)
        if request.error == 0:
            self.disk.check(offset, request.data)

    def status(self, offset, count):
        if not self.connection.contexts:
            return
        request = self.call(NBD_CMD_BLOCK_STATUS, offset, count)
        for extent in request.allocation if request.error == 0 else ():
            hole = extent.state == NBD_STATE_HOLE | NBD_STATE_ZERO
            demand(hole or extent.state == 0, f"state {extent.state}")
            known = max(min(extent.length, AREA - offset), 0)
            if hole and not self.disk.is_zero(offset, known):
                self.disk.check(offset, bytes(known))
            offset += extent.length

    def batch(self):
        """Send several requests in one piece.  None writes what another one reads."""
        a, b = (self.rng.randbytes(3000) for _ in range(2))
        ask = self.connection.request
        requests = [
            ask(NBD_CMD_WRITE, 70_001, payload=a),
            ask(NBD_CMD_READ, 0, 5000),
            ask(NBD_CMD_FLUSH),
            ask(NBD_CMD_WRITE, 81_000, payload=b),
            ask(NBD_CMD_CACHE, 0, 4096),
            ask(NBD_CMD_READ, 5000, 60_000),
        ]
        self.disk.may_become(70_001, a)
        self.disk.may_become(81_000, b)
        self.connection.send(b"".join(request.pack() for request in requests))
        for request in requests:
            self.answered(self.connection.finish(request))
            if request.command == NBD_CMD_WRITE and request.error == 0:
                self.disk.becomes(request.offset, request.payload)
            if request.command == NBD_CMD_READ and request.error == 0:
                self.disk.check(request.offset, request.data)

    def outside(self):
        """A refused write leaves the stream in step."""
        request = self.connection.call(NBD_CMD_WRITE, self.disk.size - 10, payload=bytes(20_000))
        demand(request.error in (NBD_ENOSPC, NBD_ENOMEM), f"{request.error}: out of range")

    def steps(self, large=220_000):
        """All commands, one at a time."""
        random = self.rng.randbytes
        yield self.write(5000, random(100))
        yield self.write(8192, random(4096))
        yield self.write(98_304, random(64) * 800)  # compressible
        yield self.batch()
        yield self.write(150_003, random(large))
        yield self.outside()
        yield self.read(0, AREA)
        yield self.trim(200_000, 9000)
        yield self.zero(300_000, 9000, NBD_CMD_FLAG_NO_HOLE)
        yield self.zero(65_536, 8192)
        yield self.status(0, MIB)
        yield self.trim(AREA, self.disk.size - AREA)  # done in slices if it is long
        yield self.write(310_000, random(2000))
        yield self.read(190_000, 130_000, NBD_CMD_FLAG_DF if self.connection.contexts else 0)
        yield self.leave()

    def go_through(self):
        for _ in self.steps():
            pass

    def go_briefly(self):
        """For faults that make each byte a call."""
        self.write(5000, self.rng.randbytes(700))
        self.batch()
        self.read(4000, 3000)
        self.status(0, MIB)
        self.leave()

    def check_all(self):
        """Acknowledged data is there, and requests work."""
        self.read(0, AREA)
        self.status(0, self.disk.size)
        self.write(20_000, self.rng.randbytes(5000))
        self.read(19_000, 7000)
        self.leave()

    def leave(self):
        self.connection.send_request(NBD_CMD_DISC)
        with contextlib.suppress(ssl.SSLError, OSError):
            self.connection.expect_closed()


def is_an_end(error):
    """Whether a client that a fault has hit may see this.  Anything else is a defect."""
    if isinstance(error, (Closed, ssl.SSLError, ConnectionError)):
        return True
    return isinstance(error, Broken) and str(error) == "closed within a reply"
