# SPDX-License-Identifier: BSD-3-Clause
"""The tables of rows themselves."""

import importlib
import pathlib

import rules


def test_no_row_is_lost():
    """Two rows of one name in a table could not be told apart in a report."""
    for path in pathlib.Path(__file__).parent.glob("test_*.py"):
        importlib.import_module(path.stem)
    for table in rules.TABLES:
        names = [row.name for row in table]
        assert names and len(set(names)) == len(names)
    assert sum(map(len, rules.TABLES)) > 500
