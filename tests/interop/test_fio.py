# SPDX-License-Identifier: BSD-3-Clause
"""fio, which verifies a checksum in every block that it reads back."""

import pytest

from harness import ALLOCATORS, need, run


@pytest.fixture
def fio(tmp_path):
    need("fio")
    if "nbd" not in run("fio", "--enghelp").stdout.split():
        pytest.skip("this fio has no nbd engine")

    def verify(server, *options):
        run(
            "fio",
            "--name=verify",
            "--ioengine=nbd",
            f"--uri={server.uri}",
            "--thread",
            "--verify=crc32c",
            "--verify_fatal=1",
            "--verify_state_save=0",
            "--iodepth=16",
            *options,
            cwd=tmp_path,
        )

    return verify


@pytest.mark.parametrize("allocator", ALLOCATORS)
@pytest.mark.parametrize("block", ["4k", "1536", "512-64k"])
def test_four_jobs_read_back_what_they_wrote(front, fio, allocator, block):
    server = front("64M", f"allocator={allocator}")
    size = "--bsrange=512-64k" if "-" in block else f"--bs={block}"
    jobs = ("--numjobs=4", "--size=4M", "--offset_increment=16M")
    fio(server, "--rw=randwrite", size, "--bs_unaligned=1", *jobs)


@pytest.mark.parametrize("allocator", ALLOCATORS)
def test_compressible_blocks_are_read_back(front, fio, allocator):
    server = front("64M", f"allocator={allocator}")
    options = ("--buffer_compress_percentage=75", "--refill_buffers")
    jobs = ("--numjobs=4", "--size=8M", "--offset_increment=16M")
    fio(server, "--rw=randrw", "--bs=16k", "--verify_backlog=64", *options, *jobs)


@pytest.mark.parametrize("allocator", ALLOCATORS)
def test_blocks_written_after_a_trim_are_read_back(front, fio, allocator):
    server = front("64M", f"allocator={allocator}")
    # Each block is trimmed, then written; in flight together they would race.
    fio(server, "--rw=randtrimwrite", "--bs=4k", "--size=4M", "--iodepth=1")
