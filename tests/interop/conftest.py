# SPDX-License-Identifier: BSD-3-Clause
"""The servers under test, and a real file system to copy."""

import random
import shutil

import pytest

from harness import need, run


@pytest.fixture(params=("plugin", "nbdram"))
def front(request, nbdram, serve):
    """front("1G", "allocator=zstd", flags=("-r",)) -> a server on a Unix socket.

    It is once the plugin in a stock nbdkit, and once nbdram.
    """
    return {"plugin": serve, "nbdram": nbdram}[request.param]


@pytest.fixture(scope="session")
def ext4_image(tmp_path_factory):
    """A 128 MiB ext4 image with two thousand files.  Tests must not change it."""
    need("mke2fs", "e2fsck")
    directory = tmp_path_factory.mktemp("ext4")
    tree, image = directory / "tree", directory / "image"
    make_tree(tree, random.Random(2000))
    # All of it is written now, and directories are hashed in the same way in every run.
    seed = "11111111-1111-1111-1111-111111111111"
    options = f"root_owner=0:0,lazy_itable_init=0,hash_seed={seed}"
    run("mke2fs", "-q", "-F", "-t", "ext4", "-E", options, "-d", tree, image, "128M")
    shutil.rmtree(tree)
    run("e2fsck", "-fn", image)
    return image


def make_tree(root, rng):
    """Forty directories of fifty files.  Most are small; they hold text, noise or holes."""
    words = [rng.randbytes(rng.randint(2, 9)).hex() for _ in range(500)]
    for number in range(40):
        directory = root / f"directory-{number}"
        directory.mkdir(parents=True)
        for name in range(50):
            count = int(rng.paretovariate(0.9) * 1000) % 400_000
            path = directory / f"file-{name}"
            kind = rng.choice(("text", "noise", "sparse"))
            if kind == "text":
                path.write_text(" ".join(rng.choices(words, k=count // 12)))
            elif kind == "noise":
                path.write_bytes(rng.randbytes(count))
            else:
                with path.open("wb") as file:
                    file.seek(count)
                    file.write(b"end")
