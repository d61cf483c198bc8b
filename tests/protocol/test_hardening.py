# SPDX-License-Identifier: BSD-3-Clause
"""Hardening against exploits, as it shows in the files that were built."""

import os
import platform
import re

import pytest

from harness import PLUGIN, SERVER, need, run

# Functions of builds that look for mistakes themselves, or that are not optimized.
INSTRUMENTED = re.compile(r"__(asan|ubsan|tsan|gcov)_")


@pytest.fixture(params=[SERVER, PLUGIN], ids=["server", "plugin"])
def read(request):
    """read("-l") -> the output of readelf -l for the file."""
    need("readelf")
    path = request.param
    if not os.path.exists(path):
        pytest.skip(f"no such file: {path}")  # the plugin that came with nbdkit

    def readelf(option):
        return run("readelf", "-W", option, path).stdout

    if INSTRUMENTED.search(readelf("--symbols")):
        pytest.skip("a build with a sanitizer, or for coverage")
    readelf.path = path
    return readelf


def imported(read):
    """The functions that it imports, without their versions."""
    return set(re.findall(r"\bUND (\w+)", read("--dyn-syms")))


def segment_flags(read, name):
    (flags,) = re.findall(rf"^ *{name} .* ([R ][W ][E ]) \S+ *$", read("-l"), re.MULTILINE)
    return flags


def test_code_is_position_independent(read):
    assert re.search(r"Type: +DYN ", read("-h"))
    dynamic = read("-d")
    assert "TEXTREL" not in dynamic
    if "INTERP" in read("-l"):  # a program
        assert re.search(r"\(FLAGS_1\).*\bPIE\b", dynamic)


def test_relocations_are_read_only(read):
    """Imported functions are resolved at the start, and their table cannot be written later."""
    assert segment_flags(read, "GNU_RELRO") == "R  "
    assert re.search(r"\(FLAGS_1\).*\bNOW\b", read("-d"))
    assert re.search(r"\(FLAGS\).*\bBIND_NOW\b", read("-d"))


def test_no_segment_is_writable_and_executable(read):
    assert segment_flags(read, "GNU_STACK") == "RW "
    loads = re.findall(r"^ *LOAD .* ([R ][W ][E ]) \S+ *$", read("-l"), re.MULTILINE)
    assert "R E" in loads and "RW " in loads and "RWE" not in loads


def test_stacks_are_protected(read):
    assert "__stack_chk_fail" in imported(read)


def test_lengths_are_checked(read):
    """_FORTIFY_SOURCE: there are calls that know the size of their buffer."""
    checked = {name for name in imported(read) if re.fullmatch(r"__\w+_chk", name)}
    assert "__vsnprintf_chk" in checked


X86_FEATURES = {"IBT", "SHSTK"}


def x86_features(notes):
    return set(re.findall(r"\w+", " ".join(re.findall(r"x86 feature: (.*)", notes))))


@pytest.mark.skipif(platform.machine() != "x86_64", reason="a property of x86")
def test_jumps_and_returns_can_be_checked(read):
    """CET: targets of indirect jumps are marked.

    The whole file is marked only if the C library's part of it is: Debian 12's is not, Ubuntu's
    is.
    """
    need("objdump", "gcc")
    entry = "main" if read.path == SERVER else "plugin_init"
    code = run("objdump", f"--disassemble={entry}", read.path).stdout
    assert re.search(rf"<{entry}>:\n *[0-9a-f]+:\s.*\bendbr64\b", code)
    start = run("gcc", "-print-file-name=crti.o").stdout.strip()
    if x86_features(run("readelf", "-n", start).stdout) >= X86_FEATURES:
        assert x86_features(read("-n")) >= X86_FEATURES


def test_no_build_folder_is_searched_for_libraries(read):
    assert not re.search(r"\((RPATH|RUNPATH)\)", read("-d"))
