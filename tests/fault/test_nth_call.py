# SPDX-License-Identifier: BSD-3-Clause
"""Calls of nbdram fail, one after the other.

In run N the Nth call of a family fails (shim.c), until a run passes in which fewer than N were
made.  Whatever fails,

  - nbdram does not start, says why in its own words, and leaves nothing behind; or
  - it goes on: the connection that is hit may be refused something or ended, but gets no wrong byte
    and no reply out of step; what was acknowledged is there; the next client is served as if nothing
    had been; no descriptor stays open; it ends well when it is asked to (and in the build with the
    address sanitizer, no memory is lost).

Which call is the Nth depends a little on the threads, so all of them come up over the runs rather
than each in one.  NBDRAM_FAULT_RUNS: how many N there are without gaps; then come strides.
"""

import contextlib
import errno
import os
import re
import shutil
import ssl

import pytest

import harness
from harness import ALLOCATORS, MIB
from victim import FOREVER, Client, Disk, Shim, Style, Victim, is_an_end, until

IS_CI = os.environ.get("CI") == "true"
RUNS = int(os.environ.get("NBDRAM_FAULT_RUNS", 100_000 if IS_CI else 12))
RUNS_MAX = 5000  # or it never passes
SIZE = 64 * MIB
FLAT_SIZE = MIB  # of a disk that is there from the start

# Calls without which a file cannot be removed: the last that failed, and what may then be left.
NEEDED_TO_REMOVE = {
    "lstat64": "s",
    "unlink": "s",
    "fstat64": "pid",
    "openat64": "pid",
    "read": "pid",
    "unlinkat": "pid",
}


def numbers():
    """1, 2, 3, ... RUNS, and then with growing gaps."""
    n = 0
    for _ in range(RUNS_MAX):
        n += 1 if n < RUNS else 1 + n // 8
        yield n
    pytest.fail("faults without end")


class Trial:
    """What happens to one nbdram, and what its disk must hold."""

    def __init__(self, folder, words, rng, *, calls, how=0, allocator="sparse", tls=None):
        self.folder, self.words, self.tls = folder, words, tls
        folder.mkdir()
        self.shim = Shim(folder, calls, how)
        self.size = FLAT_SIZE if allocator == "malloc" else SIZE
        self.disk = Disk(self.size)
        self.rng = rng

    def client(self, style=Style.STRUCTURED):
        return Client(self.victim, self.disk, self.rng, style=style, tls=self.tls)

    @contextlib.contextmanager
    def lenient(self):
        """A client may be refused something here, or be sent away, if a fault met it."""
        failed = self.shim.failed
        try:
            yield
        except Exception as error:
            if not is_an_end(error) or self.shim.failed == failed:
                raise

    def visit(self, act=Client.go_through, style=Style.STRUCTURED):
        with self.lenient(), self.client(style) as client:
            act(client)

    def visit_untouched(self):
        """Nothing fails any more: everything works, and everything is there."""
        self.shim.disarm()
        with self.client() as client:
            client.check_all()

    @contextlib.contextmanager
    def running(self):
        """The server, from its start to its end; and what it said, where it matters."""
        self.victim = Victim(self.folder, self.shim, "-f", *self.words, self.size)
        try:
            yield
        except Exception as error:
            said = f"{self.shim.last}, {self.shim.calls} calls\n{self.victim.said()}"
            raise AssertionError(f"{error!r}\n{said}") from error
        finally:
            self.victim.close()

    def live(self, n):
        """A whole life: true if something failed in it."""
        self.shim.arm(n)
        with self.running():
            if self.victim.await_ready():
                self._serve(n)
                self.victim.stop()
            else:
                self._check_refusal()
            self._check_left()
        return self.shim.failed > 0

    def _serve(self, n):
        before = self.victim.descriptors()
        self.visit()
        self.visit(style=Style.EXTENDED if n % 2 else Style.SIMPLE)
        self.victim.await_descriptors(before)
        if self.shim.failed:
            self.visit_untouched()
            self.victim.await_descriptors(before)

    def _check_refusal(self):
        assert self.victim.status == 1, f"status {self.victim.status}"
        lines = self.victim.said().splitlines()
        assert lines and all(re.match("nbdram: .{6}", line) for line in lines)
        assert self.shim.failed, "for no reason"

    def _check_left(self):
        left = set(os.listdir(self.folder)) - {"said", "page", "stats"}
        left.discard(NEEDED_TO_REMOVE.get(self.shim.last.split(" ")[0]))
        assert not left, f"left behind: {left}"

    def step_through(self, act, *, times=1, every=1):
        """One server; the Nth call of each visit fails."""
        with self.running():
            assert self.victim.await_ready()
            before = self.victim.descriptors()
            self.visit(act)  # takes what memory it needs
            rss = self.victim.rss()
            for runs, n in enumerate(numbers()):
                self.shim.arm(n, times, every)
                self.visit(act, list(Style)[n % 3])
                self.visit_untouched()
                self.victim.await_descriptors(before)
                if not self.shim.failed:
                    break
            assert runs > 0, "nothing was put to the test"
            assert harness.PRELOAD or self.victim.rss() < rss + 4 * MIB
            self.victim.stop()
            self._check_left()


def live_through(folder, words, rng, **options):
    """Life after life, until nothing fails in one."""
    for runs, n in enumerate(numbers()):
        trial = Trial(folder / str(n), words, rng, **options)
        if not trial.live(n):
            assert runs > 0, "nothing was put to the test"
            return
        shutil.rmtree(trial.folder)


# From the program's start to its end.

EVERYTHING = ("-U", "s", "-P", "pid", "--stats", "stats")


@pytest.mark.parametrize("allocator", ALLOCATORS)
@pytest.mark.parametrize("calls", ("heap", "pages", "threads"))
def test_life_without_memory(tmp_path, rng, calls, allocator):
    words = (*EVERYTHING, f"allocator={allocator}")
    live_through(tmp_path, words, rng, calls=calls, allocator=allocator)


@pytest.mark.parametrize("calls", ("descriptors", "files", "sockets", "watching", "process"))
def test_life(tmp_path, rng, calls):
    live_through(tmp_path, EVERYTHING, rng, calls=calls)


@pytest.mark.parametrize("calls", ("descriptors", "sockets", "heap"))
def test_life_at_a_port(tmp_path, rng, calls):
    live_through(tmp_path, ("-p", "0", "--keepalive"), rng, calls=calls)


# While it serves.

STREAM_FAULTS = {
    "short": "short",
    "one": "one",
    **{
        name: getattr(errno, name)
        for name in ("EINTR", "EAGAIN", "ECONNRESET", "EPIPE", "ENOBUFS", "ENOMEM")
    },
}
PLACES = {"unix": ("-U", "s"), "tcp": ("-4", "-p", "0"), "tls": ("-U", "s", "--tls=require")}


@pytest.fixture
def place(request, secrets):
    """(words, TLS context or None)"""
    words = PLACES[request.param]
    if request.param != "tls":
        return words, None
    context = ssl.create_default_context(cafile=secrets.certificates / "ca-cert.pem")
    return (*words, *secrets.flags("certificates")), context


all_places = pytest.mark.parametrize("place", PLACES, indirect=True)


@all_places
@pytest.mark.parametrize("how", STREAM_FAULTS)
def test_streams(tmp_path, rng, place, how):
    words, tls = place
    trial = Trial(
        tmp_path / "one", words, rng, calls="streams", how=STREAM_FAULTS[how], tls=tls
    )
    trial.step_through(Client.go_through)
