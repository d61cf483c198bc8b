# SPDX-License-Identifier: BSD-3-Clause
"""What crowds need of this process."""

import resource

import pytest

import harness
import client

SPARE = 200  # descriptors beside those of a crowd


@pytest.fixture
def crowd_most():
    """This process may have as many sockets as the system lets it: how many, in one crowd."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield hard - SPARE
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """Where so much is going on, an answer may take a while."""
    monkeypatch.setattr(client, "SECONDS", harness.HANG_SECONDS)
