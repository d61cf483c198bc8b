# SPDX-License-Identifier: BSD-3-Clause
"""Memory that is locked: by mlock=true, by --swap, and for another user."""

import os
import re
import resource

import pytest

from daemons import NOBODY, needs_root, refused
from harness import MIB, SERVER, run


def locked_bytes(*words):
    """The bytes that such a server has locked, or None if this machine does not let it."""
    result = run(SERVER, "-U", "-", "--run", "cat /proc/$PPID/status", *words, check=False)
    if result.returncode:
        assert "lock" in result.stderr
        return None
    return int(re.search(r"^VmLck:\s*(\d+) kB", result.stdout, re.M)[1]) << 10


def test_swap_locks_what_the_loops_need_and_no_disk():
    one, four = (locked_bytes("--swap", "-t", n, "256M", "allocator=malloc") for n in "14")
    if not one or not four:
        pytest.skip("no memory can be locked")
    assert four - one >= 3 * (128 << 10)
    assert four < 128 * MIB


@needs_root
@pytest.mark.parametrize("words", [("64M", "allocator=malloc,mlock=true"), ("--swap", "1M")])
def test_other_user_has_memory_locked(open_folder, words):
    own = locked_bytes(*words)
    if own is None:
        pytest.skip("even root may not lock that much")
    others = locked_bytes("-u", NOBODY, "-g", NOBODY, *words)
    assert others is not None
    assert others >= own // 2


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
