# SPDX-License-Identifier: BSD-3-Clause
"""Reports how many faults there were."""

import victim


def pytest_terminal_summary(terminalreporter):
    faults, armed = victim.Shim.faults, victim.Shim.armed
    terminalreporter.write_line(f"{faults} calls of nbdram failed on purpose, in {armed} runs")
