# SPDX-License-Identifier: BSD-3-Clause
"""The folder in which a test and its server run."""

import os
import tempfile

import pytest


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    """Each test is in an empty folder, and private sockets are made below it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def open_folder(monkeypatch):
    """Other users may enter the current folder and the one for temporary files."""
    os.chmod(".", 0o755)
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chmod(folder, 0o1777)
        monkeypatch.setenv("TMPDIR", folder)
        yield folder
