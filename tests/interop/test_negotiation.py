# SPDX-License-Identifier: BSD-3-Clause
"""libnbd as a client that negotiates less than it could, or everything."""

import nbd
import pytest

from handles import check_random_changes, disk_map
from harness import KIB, MIB, TIB, all_allocators, need, new_handle, run


HUGE = (1 << 63) - 1
HOLE = nbd.STATE_HOLE | nbd.STATE_ZERO


@all_allocators
@pytest.mark.parametrize("side", ("client", "server"))
def test_without_structured_replies(front, rng, allocator, side):
    """Either the client or the server does not want them."""
    server = front("16M", f"allocator={allocator}", flags=["--no-sr"] * (side == "server"))
    handle = server.connect(structured=side == "server")
    assert not handle.get_structured_replies_negotiated()
    assert not handle.can_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
    assert not handle.can_df()
    check_random_changes(handle, rng)
    # A read of holes and data, larger than any buffer.
    data = rng.randbytes(MIB)
    handle.trim(16 * MIB, 0)
    handle.pwrite(data, 7 * MIB + 1)
    expected = bytes(7 * MIB + 1) + data + bytes(8 * MIB - 1)
    assert handle.pread(16 * MIB, 0) == expected


@all_allocators
def test_tools_without_structured_replies(front, ext4_image, tmp_path, allocator):
    """Simple replies cannot report holes, so everything is data."""
    need("nbdcopy", "nbdinfo", "qemu-img")
    size = ext4_image.stat().st_size
    uri = front(str(size), f"allocator={allocator}", flags=["--no-sr"]).uri
    assert "using simple packets" in run("nbdinfo", uri).stdout
    back = tmp_path / "back"
    run("nbdcopy", ext4_image, uri)
    run("qemu-img", "compare", "-f", "raw", "-F", "raw", ext4_image, uri)
    run("nbdcopy", uri, back)
    run("cmp", ext4_image, back)


@pytest.mark.parametrize("structured", (False, True))
@pytest.mark.parametrize("flags", (0, nbd.HANDSHAKE_FLAG_FIXED_NEWSTYLE))
def test_clients_with_fewer_handshake_flags(nbdram, rng, flags, structured):
    """Without "fixed newstyle" libnbd uses NBD_OPT_EXPORT_NAME, and nothing else."""
    server = nbdram("16M")
    handle = new_handle(structured)
    handle.set_handshake_flags(flags)
    handle.connect_uri(server.uri)
    assert handle.get_structured_replies_negotiated() == (structured and flags != 0)
    check_random_changes(handle, rng)
    handle.shutdown()


@pytest.mark.parametrize("mask", (0, 1, 2, 3))
def test_servers_with_fewer_handshake_flags(front, rng, mask):
    handle = front("16M", flags=(f"--mask-handshake={mask}",)).connect()
    assert handle.get_size() == 16 * MIB
    check_random_changes(handle, rng)


def test_options_one_by_one(front):
    """As in nbdsh: every question that libnbd can ask, and then go."""
    server = front("1G")
    handle = new_handle()
    handle.set_opt_mode(True)
    handle.connect_uri(server.uri)
    exports, contexts = [], []
    handle.opt_list(lambda name, description: exports.append(name))
    assert exports == [""]
    handle.opt_list_meta_context(contexts.append)
    assert contexts == [nbd.CONTEXT_BASE_ALLOCATION]
    handle.opt_info()
    assert handle.get_size() == 1 << 30
    assert handle.get_block_size(nbd.SIZE_MINIMUM) <= 1
    handle.opt_go()
    assert handle.can_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
    assert disk_map(handle) == [(1 << 30, HOLE)]
    handle.shutdown()


@pytest.mark.parametrize("allocator", ("sparse", "zstd"))
def test_extended_headers(nbdram, rng, allocator):
    """64-bit requests on the largest disk.  libnbd asks for them since 1.18."""
    if not hasattr(nbd.NBD, "get_extended_headers_negotiated"):
        pytest.skip("this libnbd knows no extended headers")
    server = nbdram(str(HUGE), f"allocator={allocator}")
    handle = server.connect()
    assert handle.get_extended_headers_negotiated()
    assert "using extended packets" in run("nbdinfo", server.uri).stdout
    data = rng.randbytes(64 * KIB)
    for at in (0, TIB, HUGE - len(data)):
        handle.pwrite(data, at)
        assert handle.pread(len(data), at) == data
    handle.zero(TIB, 32 * KIB)
    assert handle.pread(len(data), TIB) == bytes(32 * KIB) + data[32 * KIB :]
    handle.cache(HUGE, 0)
    handle.trim(HUGE - 64 * KIB, 0)
    extents = []
    handle.block_status_64(HUGE, 0, lambda name, at, found, error: extents.extend(found))
    assert extents[0] == (extents[0][0], HOLE)
    assert sum(length for length, _ in extents) == HUGE
    assert handle.pread(len(data), HUGE - len(data)) == data
    handle.zero(HUGE, 0, nbd.CMD_FLAG_FAST_ZERO)
    assert not any(handle.pread(len(data), HUGE - len(data)))
