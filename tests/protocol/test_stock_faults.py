# SPDX-License-Identifier: BSD-3-Clause
"""Faults of nbdkit's own memory plugin that this plugin must not have.

With NBDRAM_PLUGIN=memory at least one test of every fault fails, except for the ninth, which
costs speed: speed is measured in bench/.
"""

import errno
import itertools
import os
import pathlib
import re
import resource
import threading

import nbd
import pytest

from handles import (
    block_status,
    check_stored,
    compressible,
    data_bytes,
    disk_map,
    in_flight,
    is_no_memory,
    trim_each,
    write_each,
    write_until_full,
)
from harness import (
    GIB,
    KIB,
    MIB,
    TIB,
    all_allocators,
    errno_of,
    need,
    need_true_memory_figures,
    process_status,
    refusal,
    run,
    run_under_nbdkit,
    thin_allocators,
)

HOLE = nbd.STATE_HOLE | nbd.STATE_ZERO
LARGEST_COUNT = (1 << 32) - 1
PAGE = 4 * KIB


# 1. zstd crashes on block status.


def test_map_of_empty_zstd_disk():
    """Fault 1: nbdinfo --map on a fresh zstd disk kills the server."""
    need("nbdinfo")
    result = run_under_nbdkit('nbdinfo --map "$uri"', "1G", "allocator=zstd")
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["0", str(GIB), str(HOLE), "hole,zero"]


# 2. zstd frees a live page when a range that starts in its middle is zeroed.


@all_allocators
def test_zeroing_spares_the_bytes_before_it(serve, rng, allocator):
    """Fault 2: zeroing that starts in the middle of a page loses the bytes before it."""
    handle = serve("256M", f"allocator={allocator}").connect()
    boundary = 128 * MIB
    data = rng.randbytes(32 * KIB)
    handle.pwrite(data, boundary - 32 * KIB)
    handle.zero(64 * KIB, boundary - 16 * KIB)
    kept = handle.pread(16 * KIB, boundary - 32 * KIB)
    assert kept == data[: 16 * KIB]
    assert not any(handle.pread(64 * KIB, boundary - 16 * KIB))


# 3. zstd frees the old page before it has the new one.


def overwrite_with_random(handle, rng, stored):
    """Overwrite every chunk of `stored` with data that cannot be compressed.

    Keeps `stored` up to date and returns how many writes were refused.  A refused write may have
    stored some of its pages: each page is then the old or the new one.
    """
    refused = 0
    for offset in stored:
        old, new = stored[offset], rng.randbytes(len(stored[offset]))
        failure = errno_of(handle.pwrite, new, offset)
        if failure == 0:
            stored[offset] = new
            continue
        assert is_no_memory(failure), os.strerror(failure)
        refused += 1
        now = handle.pread(len(old), offset)
        for at in range(0, len(old), PAGE):
            page = slice(at, at + PAGE)
            assert now[page] in (old[page], new[page]), f"lost at {offset + at}"
        stored[offset] = now
    return refused


def store_compressible(handle, rng, count, chunk=64 * KIB):
    stored = {at: compressible(rng, chunk) for at in range(0, count, chunk)}
    for offset, data in stored.items():
        handle.pwrite(data, offset)
    return stored


def test_zstd_at_its_limit_keeps_what_it_acknowledged(serve, rng):
    """Fault 3: an overwrite that finds no memory loses what was stored."""
    server = serve("256M", "allocator=zstd", "limit=32M")
    handle = server.connect()
    stored = store_compressible(handle, rng, 64 * MIB)
    assert overwrite_with_random(handle, rng, stored) > 0
    check_stored(handle, stored)


@thin_allocators
def test_data_survives_when_the_system_has_no_memory(serve, rng, allocator):
    """Fault 3: as above, but it is the system that refuses memory."""
    need_true_memory_figures()
    # With one thread nbdkit needs no memory for stacks after the limit is set.
    server = serve("256M", f"allocator={allocator}", flags=("-t", "1"))
    handle = server.connect()
    stored = store_compressible(handle, rng, 16 * MIB)
    ceiling = server.writable() + 4 * MIB
    resource.prlimit(server.pid, resource.RLIMIT_DATA, (ceiling, ceiling))
    failures = {
        errno_of(handle.pwrite, rng.randbytes(64 * KIB), at)
        for at in range(64 * MIB, 72 * MIB, 64 * KIB)
    }
    assert any(is_no_memory(failure) for failure in failures), failures
    overwrite_with_random(handle, rng, stored)
    check_stored(handle, stored)


# 4. mlock=true locks nothing in a server that went to the background.


def need_right_to_lock():
    CAP_IPC_LOCK = 14
    capabilities = int(process_status(os.getpid())["CapEff"], 16)
    if not capabilities >> CAP_IPC_LOCK & 1:
        pytest.skip("this process may not lock enough memory")


def test_malloc_is_locked_in_the_background(serve):
    """Fault 4: memory is locked before the fork, which drops the lock."""
    need_true_memory_figures()
    need_right_to_lock()
    server = serve("64M", "allocator=malloc,mlock=true", background=True)
    server.connect()  # accepted only after nbdkit has become a daemon
    assert server.locked() >= 64 * MIB


def test_sparse_is_locked_in_the_background_as_it_grows(serve, rng):
    """Fault 4: as above, but sparse pages are locked when they are allocated."""
    need_true_memory_figures()
    need_right_to_lock()
    server = serve("1T", "allocator=sparse,mlock=true", background=True)
    handle = server.connect()
    before = server.locked()
    for at in range(32):
        handle.pwrite(rng.randbytes(MIB), at * 3 * GIB)
    assert server.locked() - before >= 32 * MIB


# 5. Extents reach past the end of the request.


def need_memory(count):
    free = next(
        int(line.split()[1]) * KIB
        for line in pathlib.Path("/proc/meminfo").read_text().splitlines()
        if line.startswith("MemAvailable:")
    )
    if free < count:
        pytest.skip(f"needs {count >> 20} MiB of free memory")


def serve_more_than_4_gib(serve, allocator):
    """A disk that is larger than any 32-bit length."""
    if allocator != "malloc":
        return serve("8G", f"allocator={allocator}")
    need_memory(6 * GIB)
    return serve("4097M", "allocator=malloc")


@all_allocators
def test_largest_block_status_of_empty_disk(serve, allocator):
    """Fault 5: an extent whose length does not fit into 32 bits aborts the server."""
    server = serve_more_than_4_gib(serve, allocator)
    handle = server.connect()
    for flags in (0, nbd.CMD_FLAG_REQ_ONE):
        answer = block_status(handle, LARGEST_COUNT, 0, flags)
        assert answer and all(length > 0 for length, _ in answer)
        assert sum(length for length, _ in answer) <= handle.get_size()
    assert len(answer) == 1 and answer[0][0] <= LARGEST_COUNT
    assert sum(length for length, _ in disk_map(handle)) == handle.get_size()


@thin_allocators
def test_block_status_that_ends_inside_an_extent(serve, rng, allocator):
    """Fault 5: as above, with data that crosses the end of the request."""
    handle = serve_more_than_4_gib(serve, allocator).connect()
    data_at = 4 * GIB - MIB
    handle.pwrite(rng.randbytes(2 * MIB), data_at)
    answer = block_status(handle, LARGEST_COUNT, 0)
    assert answer[0] == (data_at, HOLE)
    assert answer[1][1] == 0 and MIB - 1 <= answer[1][0] <= 2 * MIB
    assert disk_map(handle)[1:] == [(2 * MIB, 0), (8 * GIB - data_at - 2 * MIB, HOLE)]


@all_allocators
def test_req_one_answers_one_extent_inside_the_request(serve, rng, allocator):
    """Faults 5 and 7: REQ_ONE gets one descriptor, and never more than the request's range."""
    handle = serve("64M", f"allocator={allocator}").connect()
    for at in range(0, 4 * MIB, 128 * KIB):
        handle.pwrite(rng.randbytes(64 * KIB), at)
    requests = [(1, 0), (1, 1), (513, 4095), (64 * KIB, 0), (64 * MIB, 0)]
    requests += [(8 * MIB, 100 * KIB), (3, 4 * MIB - 1), (60 * MIB, 4 * MIB)]
    for count, offset in requests:
        answer = block_status(handle, count, offset, nbd.CMD_FLAG_REQ_ONE)
        assert len(answer) == 1, (count, offset)
        assert 0 < answer[0][0] <= count, (count, offset)


# 6. allocator= accepts any prefix, and ignores what it does not understand.


@pytest.mark.parametrize(
    "allocator, accepted",
    [
        ("", "sparse malloc zstd"),
        ("s", "sparse malloc zstd"),
        ("mal", "sparse malloc zstd"),
        ("zst", "sparse malloc zstd"),
        ("sparser", "sparse malloc zstd"),
        ("SPARSE", "sparse malloc zstd"),
        ("ramdisk", "sparse malloc zstd"),
        (",mlock=true", "sparse malloc zstd"),
        ("malloc,", "mlock"),
        ("malloc,,mlock=true", "mlock"),
        ("malloc,mlock=true,", "mlock"),
        ("malloc,mlock=maybe", "true false"),
        ("malloc,mloc=true", "mlock"),
        ("malloc,level=3", "mlock"),
        ("sparse,colour=red", "mlock"),
        ("zstd,colour=red", "level"),
        ("zstd,level=99", "level"),
        ("zstd,level=high", "level"),
        ("zstd,level=", "level"),
    ],
    ids=lambda word: f"<{word}>",
)
def test_wrong_allocator_is_refused(tmp_path, allocator, accepted):
    """Fault 6: a word that is not an allocator is accepted."""
    line = refusal(tmp_path, "1M", f"allocator={allocator}")
    # The user's own words do not count as an explanation.
    explanation = line.replace(f"'{allocator}'", "")
    for word in accepted.split():
        assert re.search(rf"\b{word}\b", explanation), line


def test_the_message_for_a_wrong_level_names_the_range(tmp_path):
    """Fault 6: the message has to say what is accepted."""
    line = refusal(tmp_path, "1M", "allocator=zstd,level=99")
    numbers = [int(word) for word in re.findall(r"-?\d+", line)]
    assert len([number for number in numbers if number < 99]) >= 2, line


# 7. NO_HOLE is ignored.


@thin_allocators
def test_zeroes_without_a_hole_have_memory(serve, allocator):
    """Fault 7: a range zeroed with NO_HOLE is reported as a hole."""
    handle = serve("64M", f"allocator={allocator}").connect()
    handle.zero(4 * MIB, 1 * MIB, nbd.CMD_FLAG_NO_HOLE)
    assert not any(handle.pread(4 * MIB, 1 * MIB))
    lengths = [
        (length, state & nbd.STATE_HOLE) for length, state in disk_map(handle)
    ]
    assert lengths == [(MIB, 1), (4 * MIB, 0), (59 * MIB, 1)]


@thin_allocators
def test_zeroing_data_without_a_hole_keeps_its_memory(serve, rng, allocator):
    """Fault 7: zeroing data with NO_HOLE frees it."""
    handle = serve("64M", f"allocator={allocator}").connect()
    handle.pwrite(rng.randbytes(4 * MIB), 0)
    handle.zero(3 * MIB + 1000, 500, nbd.CMD_FLAG_NO_HOLE)
    assert not any(handle.pread(3 * MIB + 1000, 500))
    assert disk_map(handle)[0][0] == 4 * MIB
    assert disk_map(handle)[0][1] & nbd.STATE_HOLE == 0


@thin_allocators
def test_zeroes_without_a_hole_can_be_written_on_a_full_disk(serve, rng, allocator):
    """Fault 7: a later write into a NO_HOLE range finds no space."""
    handle = serve("1G", f"allocator={allocator}", "limit=32M").connect()
    promised = 4 * MIB
    handle.zero(promised, 0, nbd.CMD_FLAG_NO_HOLE)
    stored = write_until_full(handle, rng, promised)
    for at in range(0, promised, 64 * KIB):
        stored[at] = rng.randbytes(64 * KIB)
        handle.pwrite(stored[at], at)
    check_stored(handle, stored)


@thin_allocators
def test_zeroes_without_a_hole_beyond_the_limit_are_refused(serve, rng, allocator):
    """Fault 7: memory that does not exist must not be promised."""
    handle = serve("8G", f"allocator={allocator}", "limit=32M").connect()
    stored = {4 * GIB: rng.randbytes(4 * MIB)}
    handle.pwrite(stored[4 * GIB], 4 * GIB)
    refusal = errno_of(handle.zero, GIB, 0, nbd.CMD_FLAG_NO_HOLE)
    assert refusal == errno.ENOSPC
    check_stored(handle, stored)
    handle.trim(GIB, 0)
    handle.zero(8 * MIB, 0, nbd.CMD_FLAG_NO_HOLE)


@thin_allocators
def test_nothing_is_taken_for_zeroes_that_do_not_fit(nbdram, allocator):
    """Fault 7, in the server: it zeroes in slices, and begins none of them."""
    handle = nbdram("8G", f"allocator={allocator}", "limit=32M").connect()
    assert errno_of(handle.zero, GIB, 0, nbd.CMD_FLAG_NO_HOLE) == errno.ENOSPC
    assert data_bytes(handle) == 0


@thin_allocators
def test_half_a_page_zeroed_without_a_hole_keeps_the_other_half(serve, rng, allocator):
    """Fault 7: zeroing part of what is stored touches nothing else."""
    handle = serve("1M", f"allocator={allocator}").connect()
    model = bytearray(rng.randbytes(256 * KIB))
    handle.pwrite(model, 0)
    for _ in range(200):
        offset = rng.randrange(len(model))
        count = rng.randint(1, min(20000, len(model) - offset))
        flags = rng.choice((0, nbd.CMD_FLAG_NO_HOLE))
        handle.zero(count, offset, flags)
        model[offset : offset + count] = bytes(count)
        offset = rng.randrange(len(model) - 64)
        model[offset : offset + 64] = rng.randbytes(64)
        handle.pwrite(model[offset : offset + 64], offset)
        assert handle.pread(len(model), 0) == model


# 8. A small write takes eight times its size, and trimming frees no memory.


def scattered_pages(rng, pages, size):
    return [page * PAGE for page in rng.sample(range(size // PAGE), pages)]


def test_scattered_writes_take_what_they_store(serve, rng):
    """Fault 8: memory is taken in units of 32 KiB, and kept forever."""
    need_true_memory_figures()
    server = serve("16T")
    handle = server.connect()
    baseline = server.rss()
    offsets = scattered_pages(rng, 10_000, 16 * TIB)
    write_each(handle, rng.randbytes(PAGE), offsets)
    stored = len(offsets) * PAGE
    assert server.rss() - baseline <= 1.25 * stored + 8 * MIB
    handle.pread(PAGE, offsets[0])
    trim_each(handle, PAGE, offsets)
    limit = baseline + 8 * MIB
    assert server.rss_falling_to(limit) <= limit


@pytest.mark.parametrize("size, pages", [("16T", 10_000), ("200M", 51_200)])
def test_trimming_random_pages_gives_their_memory_back(serve, rng, size, pages):
    """Fault 8: as above, where no large range becomes free as a whole."""
    need_true_memory_figures()
    server = serve(size)
    handle = server.connect()
    baseline = server.rss()
    offsets = scattered_pages(rng, pages, handle.get_size())
    data = rng.randbytes(PAGE)
    write_each(handle, data, offsets)
    rng.shuffle(offsets)
    kept = pages // 10
    trim_each(handle, PAGE, offsets[kept:])
    limit = baseline + kept * PAGE * 1.15 + 16 * MIB
    assert server.rss_falling_to(limit) <= limit
    assert all(handle.pread(PAGE, at) == data for at in offsets[:kept])


def test_zstd_gives_trimmed_memory_back(serve, rng):
    """Fault 8: for compressed pages, too."""
    need_true_memory_figures()
    server = serve("16T", "allocator=zstd")
    handle = server.connect()
    baseline = server.rss()
    chunks = [rng.randrange(16 * TIB // (64 * KIB)) * 64 * KIB for _ in range(1500)]
    write_each(handle, compressible(rng, 64 * KIB), chunks)
    for at in chunks:
        handle.trim(64 * KIB, at)
    limit = baseline + 16 * MIB
    assert server.rss_falling_to(limit) <= limit


# 9. Every request waits for every other one.

CONNECTIONS = 8


def exercise_own_blocks(server, rng, which, block, failures):
    """Write, zero and trim the blocks of connection number `which`, and check them."""
    try:
        handle = server.connect()
        blocks = range(which, 4 * MIB // block, CONNECTIONS)
        model = {index * block: bytes(block) for index in blocks}
        for round_number in range(3):
            for at in model:
                action = rng.choice(("write", "write", "write", "zero", "keep", "trim"))
                if action == "write":
                    model[at] = rng.choice((rng.randbytes(block), b"ab" * (block // 2)))
                    handle.pwrite(model[at], at)
                elif action == "zero":
                    model[at] = bytes(block)
                    handle.zero(block, at, rng.choice((0, nbd.CMD_FLAG_NO_HOLE)))
                elif action == "trim":
                    model[at] = bytes(block)
                    handle.trim(block, at)
            for at, data in model.items():
                assert handle.pread(block, at) == data, f"connection {which} at {at}"
    except BaseException as failure:
        failures.append(failure)


@all_allocators
@pytest.mark.parametrize("block", [1 * KIB, 4 * KIB, 20 * KIB])
def test_parallel_connections_keep_to_their_own_blocks(serve, rng, allocator, block):
    """Fault 9: without one lock for all, neighbours in a page must not lose writes."""
    server = serve("4M", f"allocator={allocator}")
    failures = []
    threads = [
        threading.Thread(
            target=exercise_own_blocks,
            args=(server, type(rng)(rng.random()), which, block, failures),
        )
        for which in range(CONNECTIONS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


@thin_allocators
def test_nbdcopy_over_eight_connections(serve, rng, tmp_path, allocator):
    """Fault 9: as above, with a widely used client."""
    need("nbdcopy")
    server = serve("40M", f"allocator={allocator}")
    source, target = tmp_path / "source", tmp_path / "target"
    noise, text, nothing = rng.randbytes(MIB), compressible(rng, MIB), bytes(MIB)
    source.write_bytes(
        b"".join(rng.choice((noise, text, nothing)) for _ in range(40))
    )
    parallel = ("--connections=8", "--threads=8", "--requests=16")
    run("nbdcopy", *parallel, source, server.uri)
    run("nbdcopy", *parallel, server.uri, target)
    assert source.read_bytes() == target.read_bytes()


# 10. Growth ends only when the kernel kills the server.


@thin_allocators
def test_full_disk_says_no_space_and_goes_on(serve, rng, allocator):
    """Fault 10: only the kernel's OOM killer limits growth."""
    server = serve("1G", f"allocator={allocator}", "limit=32M")
    handle = server.connect()
    stored = write_until_full(handle, rng, 0)
    check_stored(handle, stored)
    held = len(stored) * 64 * KIB
    assert 16 * MIB <= held <= 32 * MIB
    handle.trim(held, 0)
    for at in itertools.islice(stored, len(stored) // 2):
        handle.pwrite(stored[at], 512 * MIB + at)
    for at in itertools.islice(stored, len(stored) // 2):
        assert handle.pread(64 * KIB, 512 * MIB + at) == stored[at]


@thin_allocators
def test_limit_bounds_the_process(serve, rng, allocator):
    """Fault 10: the limit bounds real memory, not a counter."""
    need_true_memory_figures()
    server = serve("16T", f"allocator={allocator}", "limit=64M")
    handle = server.connect()
    baseline = server.rss()
    offsets = scattered_pages(rng, 64 * MIB // PAGE, 16 * TIB)
    failures = {errno_of(handle.pwrite, rng.randbytes(PAGE), at) for at in offsets}
    assert failures == {0, errno.ENOSPC}
    assert server.rss() - baseline <= 64 * MIB + 16 * MIB


@thin_allocators
def test_full_disk_takes_writes_to_what_it_holds(serve, rng, allocator):
    """Fault 10: writes to what is not a hole never run out of space."""
    handle = serve("1G", f"allocator={allocator}", "limit=32M").connect()
    stored = write_until_full(handle, rng, 0)
    for at in stored:
        stored[at] = rng.randbytes(64 * KIB)
        handle.pwrite(stored[at], at)
    check_stored(handle, stored)


@thin_allocators
def test_parallel_writers_fill_the_disk(serve, rng, allocator):
    """Fault 10: when the disk runs full, no write in flight that is acknowledged is lost."""
    handle = serve("1G", f"allocator={allocator}", "limit=32M").connect()
    stored, refused = {}, []

    def write(at, data):
        def completed(error):
            if error.value:
                refused.append(error.value)
            else:
                stored[at] = data
            return 1

        handle.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(data)), at, completed)

    in_flight(
        handle,
        (
            lambda _, at=at: write(at, rng.randbytes(64 * KIB))
            for at in range(0, 48 * MIB, 64 * KIB)
        ),
    )
    assert set(refused) == {errno.ENOSPC}
    check_stored(handle, stored)


class ControlGroup:
    """A memory control group below our own, for one server."""

    def __init__(self, name, limit):
        own = dict(
            line.split(":", 2)[1:]
            for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines()
        )
        if "memory" in own:
            parent = pathlib.Path("/sys/fs/cgroup/memory" + own["memory"])
            knob = "memory.limit_in_bytes"
        else:
            parent = pathlib.Path("/sys/fs/cgroup" + own.get("", "/"))
            knob = "memory.max"
        self.path = parent / name
        try:
            self.path.mkdir()
        except OSError as error:
            pytest.skip(f"cannot make a control group: {error}")
        try:
            (self.path / knob).write_text(str(limit))
        except OSError as error:
            self.remove()
            pytest.skip(f"cannot limit a control group's memory: {error}")

    def enter_and_run(self):
        """A command prefix that runs the rest inside the group."""
        script = 'echo $$ > "$0/cgroup.procs" && exec "$@"'
        return ("sh", "-c", script, self.path)

    def remove(self):
        self.path.rmdir()


@thin_allocators
def test_control_group_runs_full_and_the_server_lives(serve, rng, request, allocator):
    """Fault 10: without limit=, the control group's limit is found and obeyed."""
    need_true_memory_figures()
    group = ControlGroup(f"nbdram-test-{os.getpid()}", 256 * MIB)
    request.addfinalizer(group.remove)
    server = serve("8G", f"allocator={allocator}", prefix=group.enter_and_run())
    request.addfinalizer(server.stop)
    handle = server.connect()
    stored = write_until_full(handle, rng, 0, chunk=MIB)
    assert len(stored) * MIB >= 64 * MIB
    check_stored(handle, stored)
    handle.trim(len(stored) * MIB, 0)
    for at in range(16):
        handle.pwrite(stored[at * MIB], at * MIB)
