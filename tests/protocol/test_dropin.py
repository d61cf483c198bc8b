# SPDX-License-Identifier: BSD-3-Clause
"""What nbdkit's own memory plugin does, and this plugin must do as well."""

import errno
import os
import pathlib
import signal

import nbd
import pytest

from handles import block_status, compressible, disk_map, write_until_full
from harness import (
    GIB,
    KIB,
    MIB,
    all_allocators,
    errno_of,
    nbdkit_config,
    need,
    need_true_memory_figures,
    refusal,
    run_nbdkit,
    run_under_nbdkit,
    thin_allocators,
)

LARGEST_DISK = (1 << 63) - 1
PAGE = 4 * KIB


def served_size(*params, plugin=None):
    """The exit code of a server with these parameters, and the size of its disk."""
    result = run_under_nbdkit('nbdinfo --size "$uri"', *params, plugin=plugin)
    return result.returncode, result.stdout.strip()


# Parameters.


def test_size_is_the_magic_key():
    assert served_size("1M") == (0, str(MIB))


def test_size_can_be_named():
    assert served_size("size=1M") == (0, str(MIB))


def test_last_size_wins():
    assert served_size("size=1M", "size=2M") == (0, str(2 * MIB))


def test_last_allocator_wins(serve):
    handle = serve("1M", "allocator=malloc", "allocator=sparse").connect()
    assert disk_map(handle) == [(MIB, nbd.STATE_HOLE | nbd.STATE_ZERO)]


def test_size_is_required(tmp_path):
    message = refusal(tmp_path)
    assert "you must specify size=<SIZE> on the command line" in message


def test_unknown_key_is_refused(tmp_path):
    assert "colour" in refusal(tmp_path, "1M", "colour=red")


def test_size_zero_and_the_largest_size():
    assert served_size("0") == (0, "0")
    assert served_size(str(LARGEST_DISK)) == (0, str(LARGEST_DISK))


GOOD_SIZES = (
    "1 1b 1B 3s 3S 1k 1K 1m 1M 1g 1G 1t 1T 1p 1P 1e 1E 7E 010 +1 "
    "9223372036854775807 18014398509481983s"
).split() + [" 1"]
BAD_SIZES = (
    "1MiB 1.5M 0x10 -1 1kk 1K1 1x 7.9E 8E M 9223372036854775808 18014398509481984s"
).split() + ["", "1 ", " "]


@pytest.fixture(scope="module")
def stock_plugin():
    """nbdkit's own plugin, for comparison."""
    path = pathlib.Path(nbdkit_config()["plugindir"]) / "nbdkit-memory-plugin.so"
    if not path.exists():
        pytest.skip("nbdkit's own memory plugin is not installed")
    return str(path)


@pytest.mark.parametrize("size", GOOD_SIZES + BAD_SIZES)
def test_sizes_are_accepted_and_refused_as_by_stock(size, stock_plugin):
    answer = served_size(f"size={size}")
    assert answer == served_size(f"size={size}", plugin=stock_plugin)
    assert answer[0] == (0 if size in GOOD_SIZES else 1)


@pytest.mark.parametrize("value", "1 0 true false t f yes no y n on off TRUE Off".split())
def test_booleans_are_nbdkits(value):
    need_true_memory_figures()
    assert served_size("4k", f"allocator=malloc,mlock={value}")[0] == 0


def test_dump_plugin_has_what_that_of_stock_has():
    result = run_nbdkit(flags=("--dump-plugin",), check=True)
    lines = set(result.stdout.splitlines())
    assert {
        "name=memory",
        "max_thread_model=parallel",
        "thread_model=parallel",
        "errno_is_preserved=1",
        "magic_config_key=size",
        "has_can_multi_conn=1",
        "has_can_fua=1",
        "has_can_cache=1",
        "has_can_fast_zero=1",
        "has_flush=1",
        "has_trim=1",
        "has_zero=1",
        "has_extents=1",
        "mlock=yes",
        "zstd=yes",
    } <= lines


def test_help_names_every_parameter():
    result = run_nbdkit(flags=("--help",), check=True)
    for word in ("size=", "allocator=", "limit="):
        assert word in result.stdout


# Start-up errors.


@pytest.mark.parametrize("limit", ["", "-1", "lots", "1MiB", "8E", "1023K"])
def test_wrong_limit_is_refused(tmp_path, limit):
    refusal(tmp_path, "1M", f"limit={limit}")


def test_malloc_larger_than_the_limit_is_refused(tmp_path):
    assert "limit" in refusal(tmp_path, "2M", "allocator=malloc", "limit=1M")


def test_malloc_within_the_limit_is_served():
    assert served_size("2M", "allocator=malloc", "limit=16M") == (0, str(2 * MIB))


def machine_memory():
    pages, page_size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return pages * page_size


@pytest.mark.parametrize("times", [1, 2, 1 << 16])
def test_malloc_larger_than_the_machine_is_refused(tmp_path, times):
    message = refusal(tmp_path, str(machine_memory() * times), "allocator=malloc")
    assert "memory" in message


def test_malloc_of_the_largest_disk_is_refused(tmp_path):
    assert "memory" in refusal(tmp_path, str(LARGEST_DISK), "allocator=malloc")


# What the export offers.


@all_allocators
def test_export_offers_everything(serve, allocator):
    handle = serve("1M", f"allocator={allocator}").connect()
    assert handle.can_multi_conn()
    assert handle.can_fua()
    assert handle.can_cache()
    assert handle.can_fast_zero()
    assert handle.can_flush()
    assert handle.can_trim()
    assert handle.can_zero()
    assert handle.can_df()
    assert not handle.is_read_only()
    assert not handle.is_rotational()
    assert handle.can_meta_context(nbd.CONTEXT_BASE_ALLOCATION)


@all_allocators
def test_block_sizes_are_reported(serve, allocator):
    handle = serve("1M", f"allocator={allocator}").connect()
    preferred = handle.get_block_size(nbd.SIZE_PREFERRED)
    assert handle.get_block_size(nbd.SIZE_MINIMUM) == 1
    assert handle.get_block_size(nbd.SIZE_MAXIMUM) == (1 << 32) - 1
    if allocator == "zstd":
        assert preferred in (4 * KIB, 8 * KIB, 16 * KIB, 32 * KIB, 64 * KIB)
    else:
        assert preferred == 4 * KIB


@pytest.mark.parametrize(
    "export",
    ["", "disk", "a/b c", "\u00fc" * 100, "x" * 4096],
    ids=["empty", "plain", "odd", "not ASCII", "longest"],
)
def test_any_export_name_is_the_disk(serve, export):
    server = serve("1M")
    server.connect().pwrite(b"same", 0)
    assert server.connect(export).pread(4, 0) == b"same"


def test_clients_without_structured_replies_are_served(serve):
    handle = serve("1M").connect(structured=False)
    handle.pwrite(b"simple", 70000)
    assert handle.pread(8, 69999) == b"\0simple\0"


def test_read_only_server_keeps_its_disk(serve):
    server = serve("1M", flags=("-r",))
    handle = server.connect()
    assert handle.is_read_only()
    handle.set_strict_mode(0)
    for change in (
        lambda: handle.pwrite(b"x", 0),
        lambda: handle.zero(1, 0),
        lambda: handle.trim(1, 0),
    ):
        assert errno_of(change) == errno.EPERM
    assert handle.pread(1, 0) == b"\0"


# Data.


@all_allocators
def test_every_command_is_carried_out(serve, rng, allocator):
    handle = serve("1M", f"allocator={allocator}").connect()
    data = rng.randbytes(300 * KIB)
    handle.pwrite(data, 1, nbd.CMD_FLAG_FUA)
    handle.flush()
    handle.cache(500 * KIB, 0)
    assert handle.pread(300 * KIB + 2, 0) == b"\0" + data + b"\0"
    handle.zero(100, 100, nbd.CMD_FLAG_FUA)
    handle.trim(100, 1000, nbd.CMD_FLAG_FUA)
    expected = bytearray(b"\0" + data)
    expected[100:200] = bytes(100)
    expected[1000:1100] = bytes(100)
    assert handle.pread(len(expected), 0) == expected


@all_allocators
def test_fast_zero_is_done_or_not_supported(serve, rng, allocator):
    handle = serve("1M", f"allocator={allocator}").connect()
    data = rng.randbytes(MIB)
    handle.pwrite(data, 0)
    flags = nbd.CMD_FLAG_FAST_ZERO
    assert errno_of(handle.zero, MIB, 0, flags) in (0, errno.ENOTSUP)
    assert handle.pread(MIB, 0) in (bytes(MIB), data)


@all_allocators
def test_trimmed_bytes_read_as_zeroes(serve, rng, allocator):
    handle = serve("1M", f"allocator={allocator}").connect()
    model = bytearray(rng.randbytes(MIB))
    handle.pwrite(model, 0)
    for offset, count in ((0, 1), (4095, 2), (5000, 100000), (MIB - 1, 1), (200000, 65536)):
        handle.trim(count, offset)
        model[offset : offset + count] = bytes(count)
        assert handle.pread(MIB, 0) == model


@all_allocators
@pytest.mark.parametrize("size", [1, 511, 4097, 1000001])
def test_disk_of_odd_size_has_all_its_bytes(serve, rng, allocator, size):
    handle = serve(str(size), f"allocator={allocator}").connect()
    data = rng.randbytes(size)
    handle.pwrite(data, 0)
    assert handle.pread(size, 0) == data
    assert sum(length for length, _ in disk_map(handle)) == size
    handle.zero(size, 0)
    assert not any(handle.pread(size, 0))
    assert sum(length for length, _ in disk_map(handle)) == size


@thin_allocators
def test_largest_disk_works_to_its_end(serve, rng, allocator):
    handle = serve(str(LARGEST_DISK), f"allocator={allocator}").connect()
    data = rng.randbytes(100000)
    at = LARGEST_DISK - len(data)
    handle.pwrite(data, at)
    assert handle.pread(len(data) + 10, at - 10) == bytes(10) + data
    tail = 1 << 31
    answer = block_status(handle, tail, LARGEST_DISK - tail)
    assert sum(length for length, _ in answer) == tail
    assert answer[0][1] == nbd.STATE_HOLE | nbd.STATE_ZERO and answer[-1][1] == 0
    handle.zero((1 << 32) - 1, LARGEST_DISK - (1 << 32) + 1)
    assert not any(handle.pread(len(data), at))


@thin_allocators
def test_largest_trim_and_zero_are_accepted(serve, rng, allocator):
    handle = serve("16G", f"allocator={allocator}").connect()
    count = (1 << 32) - 1
    for call in (handle.trim, handle.zero):
        handle.pwrite(rng.randbytes(8192), 4 * GIB - 4096)
        handle.cache(count, 3)
        call(count, 3)
        assert not any(handle.pread(4096 + 2, 4 * GIB - 4096))
        assert any(handle.pread(4096, 4 * GIB + 2))


def test_writing_zeroes_to_a_hole_leaves_a_hole(serve):
    handle = serve("64M").connect()
    handle.pwrite(bytes(32 * MIB), 0)
    assert disk_map(handle) == [(64 * MIB, nbd.STATE_HOLE | nbd.STATE_ZERO)]


def test_connections_see_one_disk(serve):
    server = serve("1M")
    first, second = server.connect(), server.connect()
    first.pwrite(b"written", 12345)
    assert second.pread(7, 12345) == b"written"
    first.shutdown()
    assert server.connect().pread(7, 12345) == b"written"


def test_largest_payloads_are_carried(serve, rng):
    handle = serve("64M").connect()
    data = rng.randbytes(32 * MIB)
    handle.pwrite(data, 777)
    assert handle.pread(32 * MIB, 777) == data


# In the background.


@thin_allocators
def test_background_threads_live_in_the_daemon(serve, rng, allocator):
    """Threads that are started before nbdkit forks do not exist in the daemon."""
    need_true_memory_figures()
    server = serve("1G", f"allocator={allocator}", background=True)
    handle = server.connect()
    baseline = server.rss()
    # In small requests: nbdkit's buffers grow to the size of the largest one.
    for at in range(0, 64 * MIB, 32 * KIB):
        handle.pwrite(rng.randbytes(32 * KIB), at)
    assert server.rss() - baseline >= 64 * MIB
    handle.trim(64 * MIB, 0)
    limit = baseline + 16 * MIB
    assert server.rss_falling_to(limit) <= limit


def test_zstd_daemon_stores_more_than_its_limit(serve, rng):
    """Pages are compressed in the daemon, which makes room."""
    server = serve("1G", "allocator=zstd", "limit=64M", background=True)
    handle = server.connect()
    chunk = compressible(rng, MIB)
    for at in range(128):
        handle.pwrite(chunk, at * MIB)
    for at in range(128):
        assert handle.pread(MIB, at * MIB) == chunk


def test_daemon_answers_no_space(serve, rng):
    server = serve("1G", "limit=16M", background=True)
    handle = server.connect()
    assert write_until_full(handle, rng, 0)


@all_allocators
def test_stop_with_open_connections(serve, rng, allocator):
    """nbdkit does not close connections that are open when it stops."""
    server = serve("1G", f"allocator={allocator}")
    handles = [server.connect() for _ in range(4)]
    for handle in handles:
        handle.pwrite(rng.randbytes(100), 0)
    server.signal(signal.SIGTERM)
    server.stop()


# nbdinfo, with which people look at an export.


@pytest.mark.parametrize(
    "ability", "cache df fast-zero flush fua multi-conn trim zero connect".split()
)
def test_nbdinfo_can(ability):
    need("nbdinfo")
    result = run_under_nbdkit(f'nbdinfo --can {ability} "$uri"', "1M")
    assert result.returncode == 0, result.stderr
