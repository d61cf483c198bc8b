# SPDX-License-Identifier: BSD-3-Clause
"""Memory that is locked: by mlock=true, by --swap, and for another user."""

import os
import pathlib
import re
import resource

import pytest

from daemons import NOBODY, needs_root, refused
from harness import MIB, SERVER, process_bytes, process_status, run
from observe import join
from wire import NBD_CMD_READ


def locked_bytes(*words):
    """The bytes that such a server has locked, or None if this machine does not let it."""
    result = run(SERVER, "-U", "-", "--run", "cat /proc/$PPID/status", *words, check=False)
    if result.returncode:
        assert "lock" in result.stderr
        return None
    return int(re.search(r"^VmLck:\s*(\d+) kB", result.stdout, re.M)[1]) << 10


def unlocked_bytes(pid):
    """Bytes of anonymous memory in use that may be swapped out."""
    total = anonymous = 0
    for line in pathlib.Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if line.startswith("Anonymous:"):
            anonymous = int(line.split()[1]) << 10
        elif line.startswith("VmFlags:") and "lo" not in line.split():
            total += anonymous
    return total


@pytest.fixture
def swap(nbdram):
    """swap("64M") -> a server with --swap, if this machine lets it lock memory."""
    if not locked_bytes("--swap", "1M", "allocator=malloc"):
        pytest.skip("no memory can be locked")
    return lambda *words: nbdram(*words, flags=("--swap", "-t", "2"))


@pytest.mark.parametrize(
    "allocator", ["malloc", "malloc,mlock=true", "sparse", "sparse,mlock=true", "zstd"]
)
def test_swap_locks_the_program_and_the_disk(swap, allocator, rng):
    """Also what it gets while it serves: for connections, replies that wait, compression."""
    server = swap("64M", f"allocator={allocator}")
    clients = [join(server) for _ in range(8)]
    for number, client in enumerate(clients):
        client.write(number * 4 * MIB, rng.randbytes(4 * MIB))
    requests = [client.send_request(NBD_CMD_READ, 0, 4 * MIB) for client in clients * 4]
    for client in clients:
        client.wait_for_reply()
    assert unlocked_bytes(server.pid) == 0
    for client, request in zip(clients * 4, requests):
        assert client.finish(request).error == 0
    assert unlocked_bytes(server.pid) == 0
    if allocator.startswith("malloc"):
        assert process_bytes(server.pid, "VmRSS") >= 64 * MIB


def test_swap_does_not_make_the_disk_resident(swap):
    server = swap(str(2**63 - 1))
    assert process_bytes(server.pid, "VmRSS") < 128 * MIB
    client = server.connect()
    client.pwrite(b"end", 2**63 - 4)
    assert client.pread(3, 2**63 - 4) == b"end"


@pytest.mark.parametrize("allocator, warns", [("malloc", False), ("sparse", True), ("zstd", True)])
def test_swap_warns_of_disks_that_need_memory(swap, allocator, warns):
    server = swap("16M", f"allocator={allocator}")
    server.stop()
    assert ("allocator=malloc takes all of it" in server.errors()) == warns


def test_swap_gives_loops_priority(swap):
    """With real-time priority the kernel gives a reply memory that it refuses to others."""
    server = swap("1M", "allocator=malloc")
    server.connect()
    threads = [int(path.name) for path in pathlib.Path(f"/proc/{server.pid}/task").iterdir()]
    policies = [os.sched_getscheduler(thread) for thread in threads]
    loops_and_main = 3
    if "CAP_SYS_NICE" not in server.errors():
        assert policies.count(os.SCHED_RR) == loops_and_main
        assert policies.count(os.SCHED_OTHER) == len(threads) - loops_and_main > 0
    else:
        assert policies.count(os.SCHED_RR) == 0


def test_swap_leaves_the_command_what_it_was_started_with(swap):
    """The score for the OOM killer, and the limit on locked memory."""
    score = "cat /proc/self/oom_score_adj; ulimit -l"
    command = f"{score}; cat /proc/$PPID/oom_score_adj"
    start = f"echo 700 > /proc/self/oom_score_adj; {score}; exec \"$@\""
    words = (SERVER, "--swap", "-U", "-", "1M", "allocator=malloc", "--run", command)
    before, limit, again, same, server = run("sh", "-c", start, "sh", *words).stdout.split()
    assert before == again == "700" and limit == same
    assert int(server) < 700


def may_raise_limits():
    """Whether this root may do all that root may do (CAP_SYS_RESOURCE)."""
    return int(process_status("self")["CapEff"], 16) >> 24 & 1


@needs_root
def test_other_user_has_memory_locked(open_folder):
    words = ("64M", "allocator=malloc,mlock=true")
    own = locked_bytes(*words)
    if own is None:
        pytest.skip("even root may not lock that much")
    others = locked_bytes("-u", NOBODY, "-g", NOBODY, *words)
    assert others is not None
    assert others >= own // 2


@needs_root
def test_swap_as_another_user(swap, open_folder):
    """That user must be allowed to lock what the server gets later."""
    words = ("-u", NOBODY, "-g", NOBODY, "--swap", "1M", "allocator=malloc")
    others = locked_bytes(*words)
    unlimited = resource.getrlimit(resource.RLIMIT_MEMLOCK)[1] == resource.RLIM_INFINITY
    assert (others is not None) == (unlimited or bool(may_raise_limits()))


@needs_root
def test_limit_on_locked_memory_is_named(open_folder):
    def limit():
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (MIB, MIB))

    os.chmod(".", 0o777)
    try:
        line = refused(
            *("-U", "s", "64M", "allocator=malloc,mlock=true"),
            user=int(NOBODY),
            group=int(NOBODY),
            extra_groups=[],
            preexec_fn=limit,
        )
    except PermissionError:
        pytest.skip("other users cannot run this build")
    assert "RLIMIT_MEMLOCK" in line
