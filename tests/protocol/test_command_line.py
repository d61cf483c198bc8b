# SPDX-License-Identifier: BSD-3-Clause
"""nbdram's command line: what it accepts and refuses, and what the documentation says of it."""

import re
import subprocess

import pytest

from harness import GIB, HANG_SECONDS, KIB, MIB, REPOSITORY, SERVER, TIB, need, run

MAN_PAGE = REPOSITORY / "man" / "nbdram.1"
VERSION = r"nbdram [0-9]+\.[0-9]+\.[0-9]+\n"

# {argument in --help: a value that it accepts}
VALUES = {
    "PORT": "0",
    "N": "1",
    "SECONDS": "1",
    "MASK": "0xffff",
    "MODE": "660",
    "off|on|require": "require",
    "stderr|syslog|null": "null",
}


def nbdram(*words, **options):
    return run(SERVER, *words, check=False, stdin=subprocess.DEVNULL, **options)


def complaint(*words, **options):
    """The single line that nbdram prints when it refuses these words."""
    result = nbdram(*words, **options)
    assert result.returncode == 1, f"{words} was accepted"
    assert result.stdout == ""
    assert result.stderr.startswith("nbdram: ")
    assert result.stderr.endswith("\n")
    (line,) = result.stderr.splitlines()
    return line


def is_parsed(*words):
    """Whether the options are accepted; nothing is served."""
    result = nbdram(*words, "--version")
    return result.returncode == 0 and re.fullmatch(VERSION, result.stdout) is not None


def served_size(*words, command='nbdinfo --size "$uri"'):
    """The exit code of nbdram, and the size of the disk or what it said instead."""
    need("nbdinfo")
    result = nbdram("-U", "-", "--run", command, *words)
    return result.returncode, result.stdout.strip() or result.stderr


# The parser, --help and the manual page agree.


def help_options():
    """({"--name": its argument or None}, {"-n": its argument or None}), as --help shows them."""
    names, letters = {}, {}
    for line in nbdram("--help").stdout.splitlines():
        if not line.startswith("  -"):
            continue
        *options, _ = re.split(r"\s{2,}", line.strip())
        for option in options:
            match = re.fullmatch(r"(?:-(\w), )?--([\w-]+)(?:[ =]([A-Z]+|[\w|]+))?", option)
            assert match, option
            letter, name, argument = match.groups()
            names["--" + name] = argument
            if letter:
                letters["-" + letter] = argument
    return names, letters


def man_options():
    """[([names], [letters], has argument)] of the heads of the paragraphs under OPTIONS."""
    source = MAN_PAGE.read_text()
    section = re.search(r'^\.SH OPTIONS\n(.*?)^\.SH', source, re.M | re.S).group(1)
    heads = []
    for head in re.findall(r"^\.T[PQ]\n(.*)$", section, re.M):
        head = head.replace("\\-", "-")
        has_argument = r"\fI" in head or "=" in head
        plain = re.sub(r"\\f.", "", head)
        words = re.findall(r"(?:^|, )(--?[\w-]+)", plain)
        names = [word for word in words if word.startswith("--")]
        heads.append((names, [word for word in words if word not in names], has_argument))
    return heads


def test_help_fits_a_screen():
    lines = nbdram("--help").stdout.splitlines()
    allocators = [line for line in lines if re.match(r"  [a-z]\w*(\[,|  )", line)]
    assert len(lines) - len(allocators) <= 37
    assert max(map(len, lines)) <= 80


def test_help_shows_what_the_parser_knows():
    names, letters = help_options()
    known = nbdram("--long-options").stdout.split()
    assert set(names) <= set(known)
    assert set(letters) == set(nbdram("--short-options").stdout.split())


def test_manual_page_shows_all_that_the_parser_knows():
    heads = man_options()
    names = [name for names, _, _ in heads for name in names]
    letters = [letter for _, letters, _ in heads for letter in letters]
    assert sorted(names) == sorted(nbdram("--long-options").stdout.split())
    assert sorted(letters) == sorted(nbdram("--short-options").stdout.split())


def test_manual_page_and_help_show_the_same_options():
    names, letters = help_options()
    heads = man_options()
    assert {head[0][0] for head in heads} == set(names)
    for long_names, short, has_argument in heads:
        assert has_argument == (names[long_names[0]] is not None), long_names
        for letter in short:
            assert has_argument == (letters[letter] is not None), letter


def test_parser_accepts_what_is_shown():
    names, letters = help_options()
    arguments = dict(letters)
    for long_names, _, _ in man_options():
        arguments.update(dict.fromkeys(long_names, names[long_names[0]]))
    for option, argument in arguments.items():
        if argument is None:
            assert is_parsed(option), option
        else:
            value = VALUES.get(argument, "x")
            assert is_parsed(option, value), option
            assert "needs a value" in complaint(option), option
            if option in names:
                assert is_parsed(f"{option}={value}"), option


def test_options_of_nbdkit_are_accepted_or_refused_with_a_reason():
    need("nbdkit")
    known = set(nbdram("--long-options").stdout.split())
    for option in run("nbdkit", "--long-options").stdout.split():
        if option not in known:
            line = complaint(f"{option}=x", "1M")
            if "takes no value" in line:
                line = complaint(option, "1M")
            assert re.fullmatch(r"nbdram: --[\w-]+ is not accepted: \S.*", line), option


def test_manual_page_has_no_mistakes():
    need("man")
    # man-db prints the warnings of groff.
    assert run("man", "--warnings", "-E", "UTF-8", "-l", MAN_PAGE).stderr == ""


# Refusals.


@pytest.mark.parametrize(
    "words, reason",
    [
        ([], "size is missing"),
        (["1G", "-e", "n" * 4097], "at most 4096 bytes"),
        (["memory"], "size is missing"),
        (["-f"], "size is missing"),
        (["1M", "size=1.5M"], "size=1.5M: "),
        (["1M", "limit=1"], "at least 1M"),
        (["1M", "alocator=zstd"], "size, limit and allocator are accepted"),
        (["1M", "allocator=zst"], "sparse"),
        (["1M", "allocator=zstd,level=0"], "level=1..19"),
        (["1M", "allocator=malloc,mlock=perhaps"], "mlock=true"),
        (["file", "disk.img"], "size=file: "),
        (["1M", "--tls=maybe"], "--tls=maybe: off, on and require are accepted"),
        (["1M", "--log=file"], "stderr, syslog, null"),
        (["1M", "-t", "257"], "0 to 256"),
        (["1M", "-t", "-1"], "0 to 256"),
        (["1M", "--timeout=soon"], "seconds"),
        (["1M", "--max-connections=-1"], "0 to "),
        (["1M", "-p", "65536"], "0 to 65535"),
        (["1M", "--vsock", "-p", "4294967296"], "0 to 4294967295"),
        (["1M", "--mask-handshake=x"], "0xffff"),
        (["1M", "-U", ""], "must not be empty"),
        (["1M", "-U"], "--unix: it needs a value: PATH"),
        (["1M", "--foreground=yes"], "takes no value"),
        (["1M", "--nonsense"], "'--nonsense': see nbdram --help"),
        (["1M", "--t"], "'--t': see nbdram --help"),
        (["1M", "-Z"], "'-Z': see nbdram --help"),
        (["1M", "-o"], "is not accepted: "),
        (["1M", "--filter=cow"], "is not accepted: "),
        (["1M", "-s", "-U", "x"], "contradict"),
        (["1M", "-s", "--run", "true"], "contradict"),
        (["1M", "-s", "-i", "::1"], "contradict"),
        (["1M", "--vsock", "-i", "::1"], "contradict"),
        (["1M", "-U", "x", "--vsock"], "contradict"),
        (["1M", "--tls-verify-peer"], "only with TLS"),
        (["1M", "--tls-verify-peer", "--tls=off", "--tls-certificates=x"], "only with TLS"),
        (["1M", "--tls-verify-peer", "--tls-psk=x"], "contradict"),
        (["1M", "-s"], "standard input is a file or a device: sockets and pipes are accepted"),
        (["1\n2\x1b[31m"], "size=1?2?[31m: "),
        (["x" * 100_000], "size=x"),
        (["--" + "x" * 100_000], "see nbdram --help"),
    ],
    ids=lambda value: " ".join(value)[:30] if isinstance(value, list) else "",
)
def test_a_mistake_is_reported_in_one_line(words, reason, tmp_path):
    assert reason in complaint(*words, cwd=tmp_path)
    assert not list(tmp_path.iterdir())


def test_single_needs_two_streams(tmp_path):
    need("sh")
    (tmp_path / "file").write_bytes(b"x")
    for command in ('"$0" -s 1M < file', '"$0" -s 1M <&1 > out'):
        result = run("sh", "-c", f"{command} | cat", SERVER, check=False, cwd=tmp_path)
        assert "sockets and pipes are accepted" in result.stderr


def test_full_standard_output_is_an_error():
    for option in ("--help", "--version", "--dump-config", "--dump-plugin"):
        with open("/dev/full", "w") as full:
            result = subprocess.run(
                [SERVER, option],
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                timeout=HANG_SECONDS,
            )
        assert result.returncode == 1
        assert result.stderr == "nbdram: standard output: No space left on device\n"


def activated(pid, count, *words):
    """Start nbdram as a service manager does.  `pid` is a word for the shell."""
    script = f'LISTEN_PID={pid} LISTEN_FDS={count} exec "$0" "$@"'
    result = run("sh", "-c", script, SERVER, *words, check=False)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    return line


@pytest.mark.parametrize("place", [["-U", "x"], ["-p", "0"], ["-i", "::1"], ["--run", "true"]])
def test_activation_contradicts_another_place(place):
    assert "socket activation" in activated("$$", 1, *place, "1M")


@pytest.mark.parametrize("count", ["0", "65", "-1", "many"])
def test_activation_with_a_wrong_number_of_sockets(count):
    assert "1 to 64 sockets" in activated("$$", count, "1M")


def test_activation_of_another_process_is_ignored():
    assert "size is missing" in activated(1, 1, "-U", "x")


# Parameters, and their order.


@pytest.mark.parametrize(
    "text, size",
    [
        ("0", 0),
        ("1", 1),
        ("512b", 512),
        ("3s", 1536),
        ("3S", 1536),
        ("1k", KIB),
        ("1M", MIB),
        ("2g", 2 * GIB),
        ("1T", TIB),
        ("1p", KIB * TIB),
        ("7E", 7 * MIB * TIB),
        ("+1k", KIB),
        ("9223372036854775807", (1 << 63) - 1),
        ("18014398509481983s", (1 << 63) - 512),
    ],
)
def test_size(text, size):
    assert served_size(text) == (0, str(size))
    assert served_size(f"size={text}") == (0, str(size))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "9223372036854775808",
        "18446744073709551616",
        "8E",
        "18014398509481984s",
        "9007199254740992k",
        "1.5M",
        "1MiB",
        "MiB",
        "1MB",
        "0x1000",
        "-1",
        "1 M",
        "1M ",
        "1,000",
    ],
)
def test_sizes_that_are_refused(text):
    assert f"size={text}: " in complaint(f"size={text}")
    if not text.startswith("-"):
        assert f"size={text}: " in complaint(text)


@pytest.mark.parametrize(
    "words",
    [
        ["1G"],
        ["size=1G"],
        ["memory", "1G"],
        ["memory", "size=1G", "allocator=zstd,level=3"],
        ["./nbdkit-memory-plugin.so", "1G"],
        ["-f", "memory", "-r", "1G", "-t", "1"],
        ["allocator=malloc,mlock=false", "1G", "--no-sr"],
        ["-n", "--", "memory", "1G"],
        ["1M", "size=2M", "1G"],
        ["1G", "--exportn", "x"],
        ["--threads", "16", "-D", "nbdkit.backend.datapath=0", "--verbose", "memory", "1G"],
    ],
    ids=" ".join,
)
def test_words_may_come_in_any_order(words):
    assert served_size(*words) == (0, str(GIB))


def test_debug_flags_are_without_effect_and_the_log_says_so():
    result = nbdram("-U", "-", "--run", ":", "-v", "-D", "nbdkit.backend.datapath=0", "1M")
    assert result.returncode == 0
    assert "nbdram: --debug=nbdkit.backend.datapath=0: " in result.stderr


def test_words_may_come_in_any_order_for_posix_too():
    need("nbdinfo")
    words = ("1G", "-U", "-", "--run", 'nbdinfo --size "$uri"')
    result = run("env", "POSIXLY_CORRECT=1", SERVER, *words)
    assert result.stdout.strip() == str(GIB)


# What it reports about itself.


def dumped(option):
    return dict(line.split("=", 1) for line in nbdram(option).stdout.splitlines())


def test_version():
    for option in ("--version", "-V"):
        assert re.fullmatch(VERSION, nbdram(option).stdout)
        assert re.fullmatch(VERSION, nbdram("memory", "1G", option).stdout)


def test_dump_config():
    config = dumped("--dump-config")
    assert config["name"] == "nbdram"
    assert config["tls"] == config["zstd"] == config["exit_with_parent"] == "yes"
    assert f"nbdram {config['version']}\n" == nbdram("--version").stdout
    assert config["version"].startswith(f"{config['version_major']}.{config['version_minor']}.")


def test_dump_plugin():
    plugin = dumped("--dump-plugin")
    assert plugin["name"] == "memory"
    assert plugin["magic_config_key"] == "size"
    assert plugin["thread_model"] == plugin["max_thread_model"] == "parallel"
    assert plugin["mlock"] == plugin["zstd"] == plugin["limit"] == "yes"
    assert f"nbdram {plugin['version']}\n" == nbdram("--version").stdout
