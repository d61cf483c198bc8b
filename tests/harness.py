# SPDX-License-Identifier: BSD-3-Clause
"""Run nbdkit with the plugin under test, or nbdram, and talk to it.

Environment:

  NBDRAM_PLUGIN   the plugin: a path, or the word "memory" for nbdkit's own
                  (default: build/nbdkit-memory-plugin.so in this repository)
  NBDRAM_SERVER   the server: a path (default: build/nbdram in this repository)
  NBDRAM_PRELOAD  goes into LD_PRELOAD of nbdkit and of nothing else, for a
                  plugin built with a sanitizer
  NBDRAM_SEED     seed of all random data; printed at the start of every run

Nothing here waits for a fixed time.  nbdkit is ready when it has written its
process id into a FIFO, nbdram when a connection is accepted; a server has ended
when its pidfd says so.  HANG_SECONDS
is no measure of speed: it only turns a hang into a failure.
"""

import ctypes
import errno
import os
import pathlib
import re
import select
import shutil
import signal
import socket
import subprocess
import threading
import time

import nbd
import pytest

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30
TIB = 1 << 40

ALLOCATORS = ("sparse", "malloc", "zstd")
THIN_ALLOCATORS = ("sparse", "zstd")  # those that take memory as it is written

HANG_SECONDS = 60

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
PRELOAD = os.environ.get("NBDRAM_PRELOAD", "")


def plugin_under_test():
    name = os.environ.get("NBDRAM_PLUGIN")
    if name is None:
        return str(REPOSITORY / "build" / "nbdkit-memory-plugin.so")
    return os.path.abspath(name) if os.sep in name else name


PLUGIN = plugin_under_test()
SERVER = os.path.abspath(os.environ.get("NBDRAM_SERVER", REPOSITORY / "build" / "nbdram"))


def need(*programs):
    """Skip the test unless all these programs are installed."""
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")


def need_true_memory_figures():
    """Skip the test if a preloaded library changes what memory figures mean."""
    if PRELOAD:
        pytest.skip("NBDRAM_PRELOAD: memory figures are not the plugin's alone")


def nbdkit_environment():
    environment = dict(os.environ)
    if PRELOAD:
        environment["LD_PRELOAD"] = PRELOAD
    return environment


def nbdkit_config():
    """What nbdkit --dump-config says, as a dictionary."""
    dump = run("nbdkit", "--dump-config").stdout
    return dict(line.split("=", 1) for line in dump.splitlines())


def run(*command, check=True, **options):
    """Run a client to its end; a failure shows its output."""
    result = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        **options,
    )
    if check:
        assert result.returncode == 0, f"{command}\n{result.stdout}{result.stderr}"
    return result


def run_nbdkit(*params, flags=(), plugin=None, check=False, **options):
    """Run nbdkit to its end: for start-up errors, dumps and --run."""
    command = ("nbdkit", *flags, plugin or PLUGIN, *params)
    return run(*command, check=check, env=nbdkit_environment(), **options)


def run_under_nbdkit(client, *params, plugin=None):
    """Serve a disk on a private socket while the shell command `client` runs."""
    flags = ("-U", "-", "--run", f"unset LD_PRELOAD; {client}")
    # nbdkit takes --run anywhere on its command line, so flags may hold it.
    return run_nbdkit(*params, flags=flags, plugin=plugin)


def process_status(pid):
    """The fields of /proc/PID/status, as text."""
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def adopt_orphans():
    """Become the parent of daemons started below us, so that they can be reaped."""
    PR_SET_CHILD_SUBREAPER = 36
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "PR_SET_CHILD_SUBREAPER")


class DidNotStart(Exception):
    """nbdkit ended, or hung, before it was ready."""

    def __init__(self, exit_code, errors):
        super().__init__(f"exit code {exit_code}: {errors}")
        self.exit_code = exit_code
        self.errors = errors


def new_handle(structured=True):
    """A libnbd handle, not connected; block status can be asked on it if it is structured."""
    handle = nbd.NBD()
    handle.set_request_structured_replies(structured)
    if structured:
        handle.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
    return handle


def abandon(handles):
    """Leave.  Fails where a server is gone, which its exit status tells better."""
    for handle in handles:
        errno_of(handle.shutdown, nbd.SHUTDOWN_ABANDON_PENDING)
    handles.clear()


class Server:
    """One nbdkit on a Unix socket in `directory`, ready when the constructor returns.

    background=True lets nbdkit become a daemon, as a user starts it; its
    messages are then lost.  `prefix` is a command put before nbdkit's, `plugin`
    another one than that under test.
    """

    def __init__(
        self, directory, params, *, flags=(), background=False, prefix=(), plugin=PLUGIN
    ):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir()
        self.socket = self.directory / "s"
        self.uri = f"nbd+unix:///?socket={self.socket}"
        self.pid = None
        self._pidfd = None
        self._exit_status = None
        self._handles = []
        self._errors_path = self.directory / "stderr"
        pid_fifo = self.directory / "pid"
        os.mkfifo(pid_fifo)
        # Open for writing too: without a writer the FIFO would be at its end.
        fifo = os.open(pid_fifo, os.O_RDWR | os.O_NONBLOCK)
        command = [*prefix, "nbdkit", "-U", self.socket, "-P", pid_fifo, *flags]
        command += [] if background else ["-f", "--exit-with-parent"]
        command += [plugin, *params]
        try:
            with open(self._errors_path, "w") as errors:
                launched = subprocess.Popen(
                    [str(word) for word in command],
                    stdin=subprocess.DEVNULL,
                    stdout=errors,
                    stderr=errors,
                    env=nbdkit_environment(),
                )
            self._await_pid(launched, fifo, background)
        finally:
            os.close(fifo)
        self._watchdog = threading.Timer(HANG_SECONDS, self.signal, [signal.SIGABRT])
        self._watchdog.daemon = True
        self._watchdog.start()

    def _await_pid(self, launched, fifo, background):
        launched_fd = os.pidfd_open(launched.pid)
        try:
            ready, _, _ = select.select([fifo, launched_fd], [], [], HANG_SECONDS)
            if fifo not in ready and launched_fd in ready and background:
                # The launcher may end before the daemon has written its id.
                if launched.wait() == 0:
                    ready, _, _ = select.select([fifo], [], [], HANG_SECONDS)
            if fifo not in ready:
                launched.kill()
                raise DidNotStart(launched.wait(), self.errors())
        finally:
            os.close(launched_fd)
        self.pid = int(os.read(fifo, 64))
        self._pidfd = os.pidfd_open(self.pid)
        if self.pid != launched.pid:
            assert launched.wait(HANG_SECONDS) == 0
        launched.returncode = 0  # the server is reaped by _reap, not by Popen

    def errors(self):
        """What the server has said so far."""
        return self._errors_path.read_text(errors="replace")

    def connect(self, export="", structured=True):
        """A connected libnbd handle; block status can be asked on it."""
        handle = new_handle(structured)
        handle.set_export_name(export)
        handle.connect_unix(str(self.socket))
        self._handles.append(handle)
        return handle

    def rss(self):
        """Resident bytes of the server."""
        return self._status_bytes("VmRSS")

    def locked(self):
        """Bytes the server has locked into memory."""
        return self._status_bytes("VmLck")

    def writable(self):
        """Bytes of writable address space of the server, used or not."""
        return self._status_bytes("VmData")

    def _status_bytes(self, field):
        return int(process_status(self.pid)[field].split()[0]) * KIB

    def rss_falling_to(self, limit):
        """Watch the resident size until it is at most `limit`; the last one seen.

        Memory goes back to the system in the background, so one look is not enough.
        """
        deadline = time.monotonic() + HANG_SECONDS / 4
        rss = self.rss()
        while rss > limit and time.monotonic() < deadline:
            # Paced by the server itself: this returns at once if it dies.
            select.select([self._pidfd], [], [], 0.02)
            rss = self.rss()
        return rss

    def signal(self, number):
        if self._exit_status is None:
            signal.pidfd_send_signal(self._pidfd, number)

    def _reap(self):
        if self._exit_status is None:
            select.select([self._pidfd], [], [], HANG_SECONDS)
            _, status = os.waitpid(self.pid, 0)
            self._exit_status = os.waitstatus_to_exitcode(status)
            os.close(self._pidfd)
            self._watchdog.cancel()

    def stop(self):
        """End the server; it must have lived until now, and must end well."""
        abandon(self._handles)
        if self._exit_status is None:
            try:
                self.signal(signal.SIGTERM)
            except ProcessLookupError:
                pass
            self._reap()
        if self._exit_status < 0:
            name = signal.Signals(-self._exit_status).name
            pytest.fail(f"nbdkit was killed by {name}\n{self.errors()}", pytrace=False)
        assert self._exit_status == 0, self.errors()


# Where nbdram can listen, as options; on a Unix socket else.
PLACES = {
    "unix": None,
    "tcp4": ("-4", "-p", "0"),
    "tcp6": ("-6", "-p", "0"),
    "vsock": ("--vsock", "-p", "0"),
}


class Nbdram:
    """One nbdram in the foreground, accepting when the constructor returns.

    nbdkit's preloaded library is not for it: a sanitizer is part of the program.
    """

    def __init__(self, directory, params, *, flags=(), place="unix"):
        directory = pathlib.Path(directory)
        directory.mkdir()
        self.socket = directory / "s"
        self.uri = f"nbd+unix:///?socket={self.socket}"
        self._handles = []
        self._errors_path = directory / "stderr"
        command = [SERVER, "-f", *(PLACES[place] or ("-U", self.socket)), *flags, *params]
        with open(self._errors_path, "w") as errors:
            self.process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
            )
        self._is_stopping = False
        self._pidfd = os.pidfd_open(self.process.pid)
        try:
            if place == "unix":
                self._await_accept()
            else:
                self.uri = self._await_uri()
        except BaseException:
            self.kill()
            raise

    def _await_accept(self):
        def accepts():
            with socket.socket(socket.AF_UNIX) as probe:
                return probe.connect_ex(str(self.socket)) == 0

        self._await(accepts)

    def _await_uri(self):
        """Where it listens: it says so once it does."""
        return self._await(lambda: re.search(r"(nbd\S*://\S+)\n", self.errors()))[1]

    def _await(self, condition):
        """What condition() is, once that is true."""
        deadline = time.monotonic() + HANG_SECONDS
        # Paced by the server itself: select returns at once if it ends.
        while not select.select([self._pidfd], [], [], 0.002)[0]:
            value = condition()
            if value:
                return value
            assert time.monotonic() < deadline, f"nbdram hangs: {self.errors()}"
        raise DidNotStart(self.process.wait(), self.errors())

    @property
    def pid(self):
        return self.process.pid

    def connect(self, structured=True):
        """A connected libnbd handle; block status can be asked on it."""
        handle = new_handle(structured)
        handle.connect_uri(self.uri)
        self._handles.append(handle)
        return handle

    def errors(self):
        """What the server has said so far, the last of it."""
        return self._errors_path.read_text(errors="replace")[-4000:]

    def is_alive(self):
        return self.process.poll() is None

    def is_running(self):
        """It has not been asked to stop."""
        return not self._is_stopping

    def terminate(self):
        """Ask it to stop; stop() waits for that."""
        if self.is_alive():
            self.process.send_signal(signal.SIGTERM)
        self._is_stopping = True

    def kill(self):
        self.process.kill()
        self.process.wait()
        os.close(self._pidfd)

    def stop(self):
        """End the server; it must have lived until now, and must end well."""
        lived = self._is_stopping or self.is_alive()
        abandon(self._handles)
        self.terminate()
        try:
            status = self.process.wait(HANG_SECONDS / 4)
        except subprocess.TimeoutExpired:
            status = "none: it hangs"
        self.kill()
        if not lived or status != 0:
            said = self.errors()
            pytest.fail(f"nbdram: lived {lived}, exit status {status}\n{said}", pytrace=False)


def refusal(directory, *params):
    """The one line with which nbdkit refuses to start, before it becomes a daemon."""
    adopt_orphans()
    try:
        server = Server(directory / "refused", params, background=True)
    except DidNotStart as failure:
        assert failure.exit_code == 1
        assert not (directory / "refused" / "s").exists()
        (line,) = failure.errors.splitlines()
        assert line.startswith("nbdkit: error: ")
        return line
    server.stop()
    pytest.fail(f"{params} was accepted")


def errno_of(call, *arguments):
    """The errno a libnbd call fails with, or 0."""
    try:
        call(*arguments)
    except nbd.Error as error:
        return error.errnum
    return 0


def is_no_memory(number):
    return number in (errno.ENOSPC, errno.ENOMEM)


def block_status(handle, count, offset, flags=0):
    """One block status request: its [(length, state)], exactly as answered."""
    answer = []

    def extent(context, at, entries, error):
        assert context == nbd.CONTEXT_BASE_ALLOCATION
        assert at == offset
        answer.extend(zip(entries[::2], entries[1::2]))

    handle.block_status(count, offset, extent, flags)
    return answer


def disk_map(handle):
    """The whole disk as [(length, state)], equal neighbours joined."""
    joined = []
    offset, size = 0, handle.get_size()
    while offset < size:
        count = min(size - offset, (1 << 32) - 64 * KIB)
        for length, state in block_status(handle, count, offset):
            assert length > 0
            if joined and joined[-1][1] == state:
                joined[-1] = (joined[-1][0] + length, state)
            else:
                joined.append((length, state))
            offset += length
    assert offset == size
    return joined


def data_bytes(handle):
    """How many bytes of the disk are reported as data."""
    return sum(length for length, state in disk_map(handle) if state == 0)


def in_flight(handle, requests, depth=64):
    """Keep `depth` requests in flight; each of `requests` is called with a completion."""
    failures = []

    def completed(error):
        if error.value:
            failures.append(error.value)
        return 1  # the command is done with: libnbd may forget it

    for request in requests:
        while handle.aio_in_flight() >= depth:
            handle.poll(-1)
        request(completed)
    while handle.aio_in_flight():
        handle.poll(-1)
    assert not failures


def write_each(handle, data, offsets):
    """Write the same bytes at every offset."""
    buffer = nbd.Buffer.from_bytearray(bytearray(data))
    in_flight(
        handle, (lambda done, at=at: handle.aio_pwrite(buffer, at, done) for at in offsets)
    )


def trim_each(handle, count, offsets):
    """Trim `count` bytes at every offset."""
    in_flight(
        handle, (lambda done, at=at: handle.aio_trim(count, at, done) for at in offsets)
    )


def write_until_full(handle, rng, offset, chunk=64 * KIB):
    """Write random chunks from `offset` on until the disk has no space.

    What was acknowledged, as {offset: bytes}.
    """
    stored = {}
    while offset + chunk <= handle.get_size():
        data = rng.randbytes(chunk)
        failure = errno_of(handle.pwrite, data, offset)
        if failure:
            assert failure == errno.ENOSPC, os.strerror(failure)
            return stored
        stored[offset] = data
        offset += chunk
    pytest.fail("the disk never said that it has no space")


def check_stored(handle, stored):
    """Every acknowledged write is still there."""
    for offset, data in stored.items():
        assert handle.pread(len(data), offset) == data, f"at offset {offset}"


def check_random_changes(handle, rng, changes=150, largest=60_000, unit=1):
    """Write, zero and trim at random, and compare with an array of bytes."""
    size = min(handle.get_size(), 2 * MIB) // unit * unit
    model = bytearray(handle.pread(size, 0))
    for _ in range(changes):
        at = rng.randrange(size // unit) * unit
        count = min(rng.randint(1, largest // unit) * unit, size - at)
        change = rng.choice(("write", "write", "zero", "trim", "read"))
        if change == "write":
            model[at : at + count] = rng.randbytes(count)
            handle.pwrite(model[at : at + count], at)
        elif change == "zero" and handle.can_zero():
            model[at : at + count] = bytes(count)
            handle.zero(count, at, rng.choice((0, nbd.CMD_FLAG_NO_HOLE)))
        elif change == "trim" and handle.can_trim():
            handle.trim(count, at)
            model[at : at + count] = handle.pread(count, at)  # a trim may do nothing
        else:
            assert handle.pread(count, at) == model[at : at + count]
    assert handle.pread(size, 0) == model


def squeezable(rng, count):
    """Data that any compressor makes at least four times smaller, and that is never zero."""
    return b"".join(rng.randbytes(512) * 8 for _ in range(count // (4 * KIB)))
