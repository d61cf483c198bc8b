# SPDX-License-Identifier: BSD-3-Clause
"""What was to be done against the use of mistakes, seen in the files that were made."""

import os
import platform
import re

import pytest

from harness import PLUGIN, SERVER, need, run

# Of builds that look for the mistakes themselves, or that are not optimized.
INSTRUMENTED = re.compile(r"__(asan|ubsan|tsan|gcov)_")


@pytest.fixture(params=[SERVER, PLUGIN], ids=["server", "plugin"])
def read(request):
    """read("-l") -> what readelf -l says of the file."""
    need("readelf")
    path = request.param
    if not os.path.exists(path):
        pytest.skip(f"no such file: {path}")  # the plugin that came with nbdkit

    def readelf(option):
        return run("readelf", "-W", option, path).stdout

    if INSTRUMENTED.search(readelf("--symbols")):
        pytest.skip("sanitized, or measured: made in another way")
    readelf.path = path
    return readelf


def imported(read):
    """The functions that it wants from others, without their versions."""
    return set(re.findall(r"\bUND (\w+)", read("--dyn-syms")))


def segment_flags(read, name):
    (flags,) = re.findall(rf"^ *{name} .* ([R ][W ][E ]) \S+ *$", read("-l"), re.MULTILINE)
    return flags


def test_it_can_be_anywhere(read):
    assert re.search(r"Type: +DYN ", read("-h"))
    dynamic = read("-d")
    assert "TEXTREL" not in dynamic
    if "INTERP" in read("-l"):  # a program
        assert re.search(r"\(FLAGS_1\).*\bPIE\b", dynamic)


def test_what_is_linked_is_read_only(read):
    """All functions of others are found at the start, and nobody writes to their table after."""
    assert segment_flags(read, "GNU_RELRO") == "R  "
    assert re.search(r"\(FLAGS_1\).*\bNOW\b", read("-d"))
    assert re.search(r"\(FLAGS\).*\bBIND_NOW\b", read("-d"))


def test_no_segment_is_for_writing_and_running(read):
    assert segment_flags(read, "GNU_STACK") == "RW "
    loads = re.findall(r"^ *LOAD .* ([R ][W ][E ]) \S+ *$", read("-l"), re.MULTILINE)
    assert "R E" in loads and "RW " in loads and "RWE" not in loads


def test_stacks_are_watched(read):
    assert "__stack_chk_fail" in imported(read)


def test_lengths_are_watched(read):
    """_FORTIFY_SOURCE: there are calls that are told how much room there is."""
    watched = {name for name in imported(read) if re.fullmatch(r"__\w+_chk", name)}
    assert "__vsnprintf_chk" in watched


X86_FEATURES = {"IBT", "SHSTK"}


def x86_features(notes):
    return set(re.findall(r"\w+", " ".join(re.findall(r"x86 feature: (.*)", notes))))


@pytest.mark.skipif(platform.machine() != "x86_64", reason="a property of x86")
def test_jumps_and_returns_can_be_watched(read):
    """CET: where others jump to, is marked.  The whole file is, if the C library's part of it is:
    Debian 12's is not, Ubuntu's is."""
    need("objdump", "gcc")
    entry = "main" if read.path == SERVER else "plugin_init"
    code = run("objdump", f"--disassemble={entry}", read.path).stdout
    assert re.search(rf"<{entry}>:\n *[0-9a-f]+:\s.*\bendbr64\b", code)
    start = run("gcc", "-print-file-name=crti.o").stdout.strip()
    if x86_features(run("readelf", "-n", start).stdout) >= X86_FEATURES:
        assert x86_features(read("-n")) >= X86_FEATURES


def test_no_folder_of_ours_is_searched(read):
    assert not re.search(r"\((RPATH|RUNPATH)\)", read("-d"))
