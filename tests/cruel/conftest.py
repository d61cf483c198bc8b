# SPDX-License-Identifier: BSD-3-Clause
"""Crowds need descriptors."""

import resource

import pytest

SPARE = 200  # descriptors that no crowd may use


@pytest.fixture
def crowd_most():
    """The largest crowd.  This process gets as many descriptors as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield hard - SPARE
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
