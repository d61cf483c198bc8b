# SPDX-License-Identifier: BSD-3-Clause
"""The server of a test, and what the test works with."""

import pytest

from rules import PLAIN, Bench


@pytest.fixture
def server_setup():
    """The server of the test.  on_servers() and each_row() choose another one."""
    return PLAIN


@pytest.fixture
def bench(nbdram, rng, server_setup):
    """A rules.Bench whose witness must not notice the test."""
    flags = ("-t", "1", *server_setup.flags)
    server = nbdram(str(server_setup.size), *server_setup.params, flags=flags)
    with Bench(server, server_setup, rng) as bench:
        bench.witness.step()
        yield bench
        if server.is_running():
            bench.witness.leave()
