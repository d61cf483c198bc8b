# SPDX-License-Identifier: BSD-3-Clause
"""nbdram as a process: started as users start it, in the foreground or in the background."""

import contextlib
import os
import pathlib
import re
import select
import signal
import subprocess

import nbd
import pytest

from harness import HANG_SECONDS, SERVER, adopt_orphans, run, until

GREETING = b"NBDMAGIC" + b"IHAVEOPT"
NOBODY = "65534"

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become others")


def await_end(pidfd):
    ready, _, _ = select.select([pidfd], [], [], HANG_SECONDS)
    assert ready, "it does not end"


def status_of_orphan(pidfd):
    """How a process ended that was left to us (adopt_orphans): (code, status) of waitid."""
    await_end(pidfd)
    ended = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    os.close(pidfd)
    return ended.si_code, ended.si_status


class Running:
    """A server in the foreground that has written its pid file."""

    def __init__(self, *words, **options):
        os.mkfifo("ready")
        os.chmod("ready", 0o666)  # another user may write to it, too
        fifo = os.open("ready", os.O_RDWR | os.O_NONBLOCK)
        self._output = open("out", "w+")
        self._errors = open("errors", "w+")
        self.process = subprocess.Popen(
            [SERVER, "-f", "-P", "ready", *words],
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._errors,
            **options,
        )
        self.pidfd = os.pidfd_open(self.process.pid)
        try:
            ready, _, _ = select.select([fifo, self.pidfd], [], [], HANG_SECONDS)
            assert fifo in ready, self.errors()
            assert os.read(fifo, 64) == b"%d\n" % self.process.pid
        except BaseException:
            self.close()
            raise
        finally:
            os.close(fifo)
            os.unlink("ready")

    def errors(self):
        """What it has written to standard error so far."""
        self._errors.seek(0)
        return self._errors.read()

    def output(self):
        """What it has written to standard output so far."""
        self._output.seek(0)
        return self._output.read()

    def uri(self):
        """The URI that it prints."""
        first = until(lambda: "\n" in self.output() and self.output().splitlines()[0])
        return re.search(r"nbds?(\+\w+)?://\S+", first)[0]

    def end(self, number=signal.SIGTERM):
        """Its exit status after a signal."""
        self.process.send_signal(number)
        return self.process.wait(HANG_SECONDS)

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.pidfd)
        self._output.close()
        self._errors.close()


@contextlib.contextmanager
def running(*words, **options):
    server = Running(*words, **options)
    try:
        yield server
    finally:
        server.close()


@contextlib.contextmanager
def daemon(*words):
    """Start it as users do, in the background; yields (pid, what the command printed)."""
    adopt_orphans()
    result = run(SERVER, "-P", "pid", *words)
    pid = int(pathlib.Path("pid").read_text())
    try:
        yield pid, result.stdout
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)


def size_at(uri):
    """The size of the disk that is served there."""
    handle = nbd.NBD()
    handle.connect_uri(uri)
    size = handle.get_size()
    handle.shutdown()
    return size


def at_socket(path):
    return f"nbd+unix:///?socket={os.path.abspath(path)}"


def refused(*words, **options):
    """The single line that it prints when it refuses to start."""
    before = sorted(os.listdir("."))
    result = run(SERVER, *words, check=False, **options)
    assert result.returncode == 1
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("nbdram: ")
    assert sorted(os.listdir(".")) == before
    return line


def ignoring(number):
    """Options for a process that is to start with this signal ignored."""
    return {"preexec_fn": lambda: signal.signal(number, signal.SIG_IGN)}
