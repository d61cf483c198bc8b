# SPDX-License-Identifier: BSD-3-Clause
"""Faults while nbdram serves (trial.py)."""

import errno
import pathlib
import ssl
import time

import pytest

import harness
from harness import ALLOCATORS, MIB, all_allocators, until
from trial import Trial
from victim import FOREVER, Client, Style

# No client may notice these.
HARMLESS = {"short": "short", "one": "one", "EINTR": errno.EINTR, "EAGAIN": errno.EAGAIN}
FATAL = {
    name: getattr(errno, name)
    for name in ("ECONNRESET", "EPIPE", "ENOBUFS", "ENOMEM", "ETIMEDOUT")
}

PLACES = {"unix": ("-U", "s"), "tcp": ("-4", "-p", "0"), "tls": ("-U", "s", "--tls=require")}

RETRY_SECONDS = 0.1  # between two tries to accept, where the system refuses


@pytest.fixture
def place(request, secrets):
    """(words, TLS context or None)"""
    words = ("-f", *PLACES[request.param])
    if request.param != "tls":
        return words, None
    context = ssl.create_default_context(cafile=secrets.certificates / "ca-cert.pem")
    return (*words, *secrets.flags("certificates")), context


in_all_places = pytest.mark.parametrize("place", PLACES, indirect=True)


@in_all_places
@pytest.mark.parametrize("how", (*HARMLESS, *FATAL))
def test_stream(tmp_path, rng, place, how):
    words, tls = place
    number = {**HARMLESS, **FATAL}[how]
    trial = Trial(tmp_path / "one", words, rng, calls="streams", how=number, tls=tls)
    trial.is_harmless = how in HARMLESS
    trial.step_through(Client.go_through)


@in_all_places
@pytest.mark.parametrize("style", Style)
@pytest.mark.parametrize("how", HARMLESS)
def test_stream_all_along(tmp_path, rng, place, style, how):
    """All calls move a single byte, or every other call fails."""
    words, tls = place
    trial = Trial(tmp_path / "one", words, rng, calls="streams", how=HARMLESS[how], tls=tls)
    trial.is_harmless = True
    with trial.running():
        assert trial.victim.await_ready()
        trial.shim.arm(1, FOREVER, every=1 if how in ("short", "one") else 2)
        trial.visit(Client.go_briefly, style)
        assert trial.shim.failed > 5
        trial.visit_untouched()
        trial.victim.stop()


@pytest.mark.parametrize("calls, how", [("streams", how) for how in FATAL] + [("heap", "ENOMEM")])
def test_two_clients(tmp_path, rng, calls, how):
    """Two clients take turns.  When a fault hits one, the other goes on."""
    trial = Trial(tmp_path / "one", ("-f", "-U", "s"), rng, calls=calls, how=FATAL[how])

    def visit(n):
        with trial.client(Style.SIMPLE) as a, trial.client(Style.EXTENDED) as b:
            trial.shim.arm(n)
            waiting, came_through = [a.steps(large=70_000), b.steps(large=70_000)], 0
            while waiting:
                steps = waiting.pop(0)
                # The fault may have hit it while it was the other's turn.
                with trial.lenient(since=0):
                    if next(steps, trial) is trial:
                        came_through += 1
                    else:
                        waiting.append(steps)
            assert came_through >= 2 - trial.shim.failed

    trial.repeat(visit)


@pytest.mark.parametrize("calls", ("epoll_wait", "poll"))
def test_waiting(tmp_path, rng, calls):
    trial = Trial(tmp_path / "one", ("-f", "-U", "s"), rng, calls=calls, how=errno.EINTR)
    trial.is_harmless = True
    trial.step_through(Client.go_through)


@pytest.mark.parametrize("how", ("ENOMEM", "ENOSPC"))
def test_watching(tmp_path, rng, how):
    trial = Trial(
        tmp_path / "one", ("-f", "-U", "s"), rng, calls="epoll_ctl", how=getattr(errno, how)
    )
    trial.step_through(Client.go_through)


@pytest.mark.parametrize("times", (1, 5, 1000))
@pytest.mark.parametrize("allocator", ALLOCATORS)
def test_heap(tmp_path, rng, allocator, times):
    """Several calls in a row fail, from the Nth."""
    words = ("-f", "-U", "s", f"allocator={allocator}")
    if allocator != "malloc":
        words += ("limit=2M",)  # zstd begins to compress at once
    trial = Trial(tmp_path / "one", words, rng, calls="heap", allocator=allocator)
    trial.step_through(Client.go_through, times=times)


PARKING = {"heap": "ENOMEM", "streams": "ECONNRESET", "epoll_ctl": "ENOMEM"}


@pytest.mark.parametrize("times", (1, 5))
@pytest.mark.parametrize("calls", PARKING)
def test_parked_requests(tmp_path, rng, calls, times):
    """Half of the requests that may have to wait do, and are parked."""
    how = getattr(errno, PARKING[calls])
    trial = Trial(tmp_path / "one", ("-f", "-U", "s"), rng, calls=calls, how=how)
    trial.program = pathlib.Path(harness.SERVER).parent / "tests" / "nbdram-often-waiting"
    trial.step_through(Client.go_through, times=times)


# Files.


@all_allocators
@pytest.mark.parametrize("place", ("unix", "tls"), indirect=True)
def test_no_request_opens_a_file(tmp_path, rng, place, allocator):
    """Without a limit the budget asks the machine, but in a thread of its own: unit/asking.c."""
    words, tls = place
    words += (f"allocator={allocator}", f"limit={16 * MIB}")
    calls = "open64,openat64,fopen64,open,openat,fopen"
    trial = Trial(tmp_path / "one", words, rng, calls=calls, allocator=allocator, tls=tls)
    with trial.running():
        assert trial.victim.await_ready()
        assert trial.shim.calls > 0, "the shim sees no call"
        trial.visit()
        trial.shim.arm(FOREVER)  # counts, and lets none fail
        for style in Style:
            trial.visit(style=style)
        assert trial.shim.calls == 0, f"{trial.shim.calls} files were opened"
        trial.victim.stop()


# Accepting.

PASSING = ("ECONNABORTED", "EINTR", "EPROTO")
LASTING = ("EMFILE", "ENFILE", "ENOBUFS", "ENOMEM")


@in_all_places
@pytest.mark.parametrize("times", (1, 3))
@pytest.mark.parametrize("how", (*PASSING, *LASTING))
def test_accept(tmp_path, rng, place, how, times):
    """The client has to wait, and notices nothing else."""
    words, tls = place
    trial = Trial(
        tmp_path / "one", words, rng, calls="accept4", how=getattr(errno, how), tls=tls
    )
    trial.is_harmless = True
    trial.step_through(Client.go_briefly, times=times)


@pytest.mark.parametrize("how", LASTING)
def test_accept_does_not_spin(tmp_path, rng, how):
    """While no descriptor is free, the server waits between its tries, and logs them once."""
    trial = Trial(
        tmp_path / "one", ("-f", "-U", "s"), rng, calls="accept4", how=getattr(errno, how)
    )
    with trial.running():
        assert trial.victim.await_ready()
        with trial.client() as resident:
            start = time.monotonic()
            trial.shim.arm(1, FOREVER)
            with trial.victim.connect() as waiting:
                until(lambda: trial.shim.failed >= 4, hangs=lambda: "no more tries")
                resident.go_through()
                # A slow machine only makes the tries fewer.  Each client that connects or leaves
                # is a reason to try, too.
                tries, seconds = trial.shim.calls, time.monotonic() - start
                assert tries <= seconds / RETRY_SECONDS + 3, f"{tries} tries in {seconds} s"
                trial.shim.disarm()
                waiting.greet()
        trial.visit_untouched()
        trial.victim.stop()
        assert trial.victim.said().count("accepting a connection") == 1
