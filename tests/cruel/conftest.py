# SPDX-License-Identifier: BSD-3-Clause
"""Crowds need descriptors, and patience."""

import resource

import pytest

import harness
import client

SPARE = 200  # descriptors that no crowd may use


@pytest.fixture
def crowd_most():
    """The largest crowd.  This process gets as many descriptors as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield hard - SPARE
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """An answer may take a while among so many clients."""
    monkeypatch.setattr(client, "SECONDS", harness.HANG_SECONDS)
