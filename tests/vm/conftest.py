# SPDX-License-Identifier: BSD-3-Clause
"""Guests, and the figures that they report."""

import contextlib

import pytest

import inside
import machine

figures = []


def pytest_report_header():
    return [f"guests: {machine.accelerator()}, {machine.PREPARED}"]


def pytest_terminal_summary(terminalreporter):
    for figure in figures:
        terminalreporter.line(figure)


@pytest.fixture
def boot(tmp_path, request):
    """boot("files", PORT=1234) -> machine.Guest, killed at the end if it is still there."""
    guests = []

    def start(job, **options):
        guest = machine.Guest(tmp_path / f"guest{len(guests)}", job, **options)
        guests.append(guest)
        return guest

    yield start
    for guest in guests:
        guest.kill()
        for retry in guest.retries():
            figures.append(f"{request.node.name}: NOT EXPLAINED: {retry}")


@pytest.fixture
def door():
    """An inside.Door for the connections of one guest."""
    with contextlib.closing(inside.Door()) as opened:
        yield opened


@pytest.fixture
def report(request):
    """report("resident 1 MiB") prints a line at the end of the run."""
    return lambda figure: figures.append(f"{request.node.name}: {figure}")
