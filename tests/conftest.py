# SPDX-License-Identifier: BSD-3-Clause
"""Fixtures shared by all tests."""

import contextlib
import os
import random

import pytest

import credentials
import harness

SEED = os.environ.get("NBDRAM_SEED") or str(random.SystemRandom().getrandbits(32))


def pytest_report_header():
    return [
        f"plugin: {harness.PLUGIN}",
        f"server: {harness.SERVER}",
        f"NBDRAM_SEED={SEED}",
    ]


@pytest.fixture
def rng(request):
    """Random numbers that depend on the seed and the test, not on the order of tests."""
    return random.Random(f"{SEED} {request.node.name}")


@pytest.fixture
def serve(tmp_path):
    """serve("1G", "allocator=zstd", flags=("-r",)) -> harness.Server, stopped at the end."""
    harness.adopt_orphans()
    with starter(harness.Server, tmp_path, "nbdkit") as start:
        yield start


@pytest.fixture
def nbdram(tmp_path):
    """nbdram("1G", "allocator=zstd", flags=("-r",)) -> harness.Nbdram, stopped at the end."""
    with starter(harness.Nbdram, tmp_path, "nbdram") as start:
        yield start


@pytest.fixture(scope="session")
def secrets(tmp_path_factory):
    """credentials.Secrets: the certificates and keys of servers and clients."""
    harness.need("openssl")
    return credentials.Secrets(tmp_path_factory.mktemp("tls"))


@contextlib.contextmanager
def starter(kind, folder, name):
    """start(*params, **options) -> a server of this kind.  All of them are stopped at the end."""
    servers = []

    def start(*params, **options):
        server = kind(folder / f"{name}{len(servers)}", params, **options)
        servers.append(server)
        return server

    yield start
    stop_all(servers)


def stop_all(servers):
    failures = []
    for server in reversed(servers):  # a later one may be a client of an earlier one
        try:
            server.stop()
        except BaseException as failure:  # the exception of pytest.fail() is no Exception
            failures.append(failure)
    if failures:
        raise failures[0]
