# SPDX-License-Identifier: BSD-3-Clause
"""Clients that speak byte by byte."""

import contextlib

import pytest

from client import Connection


@pytest.fixture
def speak():
    """speak(server) -> a client.Connection after the greeting, in the clear."""
    with contextlib.ExitStack() as stack:
        yield lambda server: stack.enter_context(Connection.to(server.socket)).greet()
