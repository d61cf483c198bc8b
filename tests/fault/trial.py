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
than each in one.

NBDRAM_FAULT_RUNS: up to which N there are no gaps (default: 12; with NBDRAM_TEST_FULL=1 there are
none).
"""

import contextlib
import os
import re
import shutil

import pytest

import harness
from harness import MIB
from victim import Client, Disk, Shim, Style, Victim, is_an_end

RUNS_MAX = 5000  # or it never passes
# With the sanitizer a life takes ten times as long.
IS_THOROUGH = os.environ.get("NBDRAM_TEST_FULL") == "1"
DENSE = int(os.environ.get("NBDRAM_FAULT_RUNS") or (RUNS_MAX if IS_THOROUGH else 12))
SIZE = 64 * MIB
FLAT_SIZE = MIB  # of a disk that is there from the start

# Calls without which a file cannot be removed: the last that failed, and what may then be left.
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
    """1, 2, 3, ... and then, if time is short, with growing gaps."""
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
        self.is_harmless = False  # what fails: no client may notice
        self.size = FLAT_SIZE if allocator == "malloc" else SIZE
        self.disk = Disk(self.size)

    @contextlib.contextmanager
    def running(self):
        """The server, from its start to its end; and what it said, where it matters."""
        self.victim = Victim(self.folder, self.shim, *self.words, self.size)
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
        """A client may be sent away here, if a fault met it."""
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
        """Nothing fails any more: everything works, and everything is there."""
        self.shim.disarm()
        with self.client() as client:
            client.check_all()

    # From the start to the end.

    def live(self, n, while_serving, times=1):
        """A life in which the Nth call fails; false if there are not so many."""
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
        """The ordinary thing to do in a life."""
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
        """One server; in each visit, calls fail from the Nth on."""

        def visit(n):
            self.shim.arm(n, times)
            self.visit(act, list(Style)[n % 3])

        self.repeat(visit)

    def repeat(self, visit):
        """visit(n) with growing n, until nothing fails in it; one server."""
        with self.running():
            assert self.victim.await_ready()
            before = self.victim.descriptors()
            self.visit()  # takes what memory it needs
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
    """Life after life, until nothing fails in one."""
    for runs, n in enumerate(numbers()):
        trial = Trial(folder / str(n), ("-f", *words), rng, **options)
        if not trial.live(n, while_serving, times):
            assert runs > 0, "nothing was put to the test"
            return
        shutil.rmtree(trial.folder)
