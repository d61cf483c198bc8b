# SPDX-License-Identifier: BSD-3-Clause
"""Calls of nbdram fail, one after the other.

In run N the Nth call of a family fails (shim.c), until a run has fewer than N such calls.
Whatever fails, either

  - nbdram does not start, gives the reason in its own words, and leaves nothing behind; or
  - it goes on.  The connection that the fault hits may get errors or be ended, but no wrong byte
    and no reply out of step.  Acknowledged data is there.  The next client is served as if
    nothing had happened.  No descriptor stays open.  nbdram ends well when it is asked to, and in
    the build with the address sanitizer it has lost no memory.

Which call is the Nth varies a little with the threads.  So each call fails in some run, but not
always in the same one.

NBDRAM_FAULT_RUNS: every N up to this one is run, then N grows faster (default: 12; with
NBDRAM_TEST_FULL=1 every N is run).
"""

import contextlib
import os
import re
import shutil

import pytest

import harness
from harness import MIB
from victim import Client, Disk, Shim, Style, Victim, is_an_end

RUNS_MAX = 5000  # more would mean that it never ends
# With the sanitizer a life takes ten times as long.
IS_THOROUGH = os.environ.get("NBDRAM_TEST_FULL") == "1"
DENSE = int(os.environ.get("NBDRAM_FAULT_RUNS") or (RUNS_MAX if IS_THOROUGH else 12))
SIZE = 64 * MIB
FLAT_SIZE = MIB  # of a malloc disk, which has all its memory from the start

# {the last call that failed: the names of files that may then be left, since it is needed to
# remove them}
NEEDED_TO_REMOVE = {
    "lstat64": ("s", "nbdram-"),
    "unlink": ("s", "nbdram-"),
    "rmdir": ("nbdram-",),
    "fstat64": ("pid",),
    "openat64": ("pid",),
    "read": ("pid",),
    "unlinkat": ("pid",),
}


def numbers(dense=DENSE):
    """1, 2, 3, ... and then with growing gaps."""
    n = 0
    for _ in range(RUNS_MAX):
        n += 1 if n < dense else 1 + n // 6
        yield n
    pytest.fail("faults without end")


class Trial:
    """What happens to one nbdram, and what its disk must hold."""

    def __init__(self, folder, words, rng, *, calls, how=0, allocator="sparse", tls=None):
        self.folder, self.words, self.rng, self.tls = folder, words, rng, tls
        folder.mkdir()
        self.shim = Shim(folder, calls, how)
        self.is_harmless = False  # whether no client may notice the fault
        self.program = harness.SERVER
        self.size = FLAT_SIZE if allocator == "malloc" else SIZE
        self.disk = Disk(self.size)

    @contextlib.contextmanager
    def running(self):
        """The server runs.  If the test fails, its messages are shown."""
        words = (*self.words, self.size)
        self.victim = Victim(self.folder, self.shim, *words, program=self.program)
        try:
            yield
        except Exception as error:
            said = f"{self.shim.last}, {self.shim.calls} calls\n{self.victim.said()}"
            raise AssertionError(f"{error!r}\n{said}") from error
        finally:
            self.victim.close()

    # Clients.

    def client(self, style=Style.STRUCTURED):
        return Client(self.victim, self.disk, self.rng, style=style, tls=self.tls)

    @contextlib.contextmanager
    def lenient(self, since=None):
        """The connection of a client may end here if a fault hit it."""
        failed = self.shim.failed if since is None else since
        try:
            yield
        except Exception as error:
            if not is_an_end(error) or self.is_harmless or self.shim.failed == failed:
                raise

    def visit(self, act=Client.go_through, style=Style.STRUCTURED):
        failed = self.shim.failed
        with self.lenient(), self.client(style) as client:
            act(client)
            may_refuse = self.shim.failed > failed and not self.is_harmless
            assert may_refuse or client.refused == 0, "refused for no reason"

    def visit_untouched(self):
        """No call fails any more: everything works, and all data is there."""
        self.shim.disarm()
        with self.client() as client:
            client.check_all()

    # A whole life.

    def live(self, n, while_serving, times=1):
        """A life in which the Nth call fails.  False if there are fewer calls."""
        self.shim.arm(n, times)
        with self.running():
            if self.victim.await_ready():
                while_serving(self)
                self.victim.stop()
            else:
                self.check_refusal()
            self.check_left()
        return self.shim.failed > 0

    def serve(self):
        """What a server does in an ordinary life."""
        before = self.victim.descriptors()
        self.visit()
        self.visit(style=list(Style)[self.shim.calls % 3])
        self.victim.await_descriptors(before)
        if self.shim.failed:
            self.visit_untouched()
            self.victim.await_descriptors(before)

    def check_refusal(self):
        assert self.victim.status == 1, f"status {self.victim.status}"
        lines = self.victim.said().splitlines()
        assert lines and all(re.match("nbdram: .{6}", line) for line in lines)
        assert self.shim.failed, "for no reason"

    def check_left(self):
        allowed = NEEDED_TO_REMOVE.get(self.shim.last.split(" ")[0], ())
        left = set(os.listdir(self.folder)) - {"said", "page", "stats"}
        assert all(name.startswith(allowed) for name in left), f"left behind: {left}"

    # While it serves.

    def step_through(self, act, *, times=1):
        """One server.  In each visit, `times` calls fail, from the Nth."""

        def visit(n):
            self.shim.arm(n, times)
            self.visit(act, list(Style)[n % 3])

        self.repeat(visit)

    def repeat(self, visit):
        """One server.  visit(n) with growing n, until nothing fails in it."""
        with self.running():
            assert self.victim.await_ready()
            before = self.victim.descriptors()
            self.visit()  # now it has all the memory that it needs
            rss = self.victim.rss()
            for runs, n in enumerate(numbers()):
                visit(n)
                self.visit_untouched()
                self.victim.await_descriptors(before)
                if not self.shim.failed:
                    break
            assert runs > 0, "nothing was put to the test"
            assert harness.PRELOAD or self.victim.rss() < rss + 4 * MIB
            self.victim.stop()
            self.check_left()


def live_through(folder, words, rng, while_serving=Trial.serve, *, times=1, **options):
    """A new server for each run, until nothing fails in a run."""
    for runs, n in enumerate(numbers()):
        trial = Trial(folder / str(n), ("-f", *words), rng, **options)
        if not trial.live(n, while_serving, times):
            assert runs > 0, "nothing was put to the test"
            return
        shutil.rmtree(trial.folder)
