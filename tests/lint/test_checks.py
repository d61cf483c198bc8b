# SPDX-License-Identifier: BSD-3-Clause
"""The checks of scripts/lint that are ours: each finds a planted fault, and nothing else."""

import pathlib
import subprocess

import pytest

SCRIPTS = pathlib.Path(__file__).resolve().parents[2] / "scripts"

# A house of two rooms over a third.  In the yard, gate and fence go round in a named circle.
DESIGN = """\
# Design

### Rooms, from top to bottom

```
attic  -> hall cellar
hall   -> cellar
yard   -> cellar
cellar
```

### Circles inside a room

```
yard: gate fence -- a gate is a piece of fence
```
"""

HOUSE = {
    "attic/roof.c": ["attic/roof.h", "hall/stairs.h", "cellar/wine.h"],
    "attic/roof.h": [],
    "hall/stairs.c": ["hall/stairs.h", "cellar/wine.h"],
    "hall/stairs.h": [],
    "hall/lamp.c": ["hall/stairs.h"],
    "hall/lamp.h": [],
    "yard/gate.c": ["yard/gate.h", "yard/fence.h", "cellar/wine.h"],
    "yard/gate.h": [],
    "yard/fence.c": ["yard/fence.h", "yard/gate.h"],
    "yard/fence.h": [],
    "cellar/wine.h": [],
}


@pytest.fixture
def build(tmp_path):
    """build({file: what else it includes}, design) -> the lines that scripts/includes prints"""

    def build_and_check(planted=None, design=DESIGN, removed=()):
        (tmp_path / "DESIGN.md").write_text(design)
        house = {path: list(below) for path, below in HOUSE.items() if path not in removed}
        for path, below in (planted or {}).items():
            house[path] = house.get(path, []) + below
        for path, below in house.items():
            file = tmp_path / "src" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            lines = ["#include <stdint.h>", *(f'#include "{each}"' for each in below), ""]
            file.write_text("\n".join(lines))
        return run("includes", tmp_path)

    return build_and_check


def run(script, *arguments, folder=None):
    """What it prints; with the status it has to have."""
    command = [SCRIPTS / script, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.stderr == ""
    assert done.returncode == (1 if done.stdout else 0)
    return done.stdout.splitlines()


def test_a_house_that_agrees_with_its_drawing(build):
    assert build() == []


def test_an_upward_arrow(build):
    assert build({"cellar/wine.h": ["hall/stairs.h"]}) == [
        'cellar/wine.h: includes "hall/stairs.h": an arrow upward, from cellar to hall'
    ]


def test_an_arrow_between_rooms_that_are_not_ordered(build):
    """The yard is listed below the hall: that alone does not make it the hall's to use."""
    assert build({"hall/lamp.c": ["yard/gate.h"]}) == [
        'hall/lamp.c: includes "yard/gate.h": DESIGN.md has no arrow from hall to yard'
    ]


def test_an_arrow_hidden_by_blanks(build, tmp_path):
    build()
    (tmp_path / "src/cellar/wine.h").write_text('  #  include\t"attic/roof.h"\n')
    assert run("includes", tmp_path) == [
        'cellar/wine.h: includes "attic/roof.h": an arrow upward, from cellar to attic'
    ]


def test_a_circle_of_two_files(build):
    assert build({"hall/stairs.c": ["hall/lamp.h"]}) == [
        "hall: a circle that DESIGN.md does not name: lamp stairs"
    ]


def test_a_circle_of_three_files(build):
    planted = {"hall/stairs.h": ["hall/rug.h"], "hall/rug.h": [], "hall/rug.c": ["hall/lamp.h"]}
    assert build(planted) == ["hall: a circle that DESIGN.md does not name: lamp rug stairs"]


def test_a_circle_that_grew(build):
    planted = {"yard/gate.h": ["yard/path.h"], "yard/path.h": [], "yard/path.c": ["yard/fence.h"]}
    assert build(planted) == [
        "yard: a circle that DESIGN.md does not name: fence gate path",
        "DESIGN.md: yard: there is no such circle: fence gate",
    ]


def test_a_named_circle_that_is_gone(build):
    assert build(removed=["yard/fence.c"]) == [
        "DESIGN.md: yard: there is no such circle: fence gate"
    ]


def test_an_arrow_in_the_drawing_only(build):
    design = DESIGN.replace("hall   -> cellar", "hall   -> yard cellar")
    assert build(design=design) == ["DESIGN.md: hall -> yard: no file does that"]


def test_a_drawing_with_an_upward_arrow(build):
    design = DESIGN.replace("\ncellar\n", "\ncellar -> attic\n")
    assert build({"cellar/wine.h": ["attic/roof.h"]}, design) == [
        "DESIGN.md: cellar -> attic: attic is not listed below cellar"
    ]


def test_a_room_that_is_not_listed(build):
    assert build({"shed/axe.c": ["cellar/wine.h"]}) == ["shed: DESIGN.md does not list this room"]


def test_a_room_that_is_not_there(build):
    design = DESIGN.replace("\ncellar\n", "\ncellar\nwell\n")
    assert build(design=design) == ["DESIGN.md: well: there is no such room"]


def test_a_file_that_is_not_there(build):
    assert build({"attic/roof.c": ["hall/piano.h"]}) == [
        'attic/roof.c: includes "hall/piano.h": no such file in src/'
    ]


def test_no_list_of_rooms(tmp_path):
    (tmp_path / "DESIGN.md").write_text("# Design\n")
    done = subprocess.run([SCRIPTS / "includes", tmp_path], capture_output=True, text=True)
    assert done.returncode == 1
    assert "Rooms, from top to bottom" in done.stderr


GOOD_COMMENTS = """\
/* One line. */
/* Several lines,
 * which end with the text. */
/* name - a title
 *
 * A text in paragraphs.
 */
int a; /* A comment
        * after code. */
"""


def test_comments(tmp_path):
    file = tmp_path / "a.c"
    file.write_text(GOOD_COMMENTS)
    assert run("comments", file) == []
    file.write_text(GOOD_COMMENTS + "/* Pushed.\n */\nint b;\n/* Two lines\n * pushed.\n */\n")
    assert run("comments", file) == [
        f"{file}:11: this */ belongs to the line above",
        f"{file}:15: this */ belongs to the line above",
    ]
    file.write_text("int a;\n/* " + "w" * 92 + " */\n/* One.\n * " + "w" * 96 + " */\n")
    assert run("comments", file) == [f"{file}:4: this line has more than 98 columns"]


def test_lengths(tmp_path):
    short, long = tmp_path / "short.c", tmp_path / "long.c"
    short.write_text("\n" * 600)
    long.write_text("\n" * 601)
    assert run("lengths", short) == []
    assert run("lengths", short, long) == [
        f"{long}: 601 lines, and a file of tests has 600 at most"
    ]


@pytest.fixture
def repository(tmp_path):
    """A git repository with one C file and one page."""
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / "src/disk").mkdir(parents=True)
    (tmp_path / "src/disk/pool.c").write_text("int pool_take(void);\n")
    (tmp_path / "page.md").write_text("`pool_take` in `src/disk/pool.c`, also `disk/pool.c`.\n")
    return tmp_path


def test_mentions(repository):
    assert run("mentions", "page.md", folder=repository) == []


def test_mentions_of_any_file(repository):
    (repository / "page.md").write_text("Add src/disk/NAME.c, src/*/p*.c, FILE.c, pool_NAME.\n")
    assert run("mentions", "page.md", folder=repository) == []


WALK = """\
| file | function | what happens |
|---|---|---|
| `src/disk/pool.c` | `pool_take` | takes a cell |
| | `{}` | and another one |
"""


def test_a_walk(repository):
    (repository / "src/disk/other.c").write_text("int other_take(void);\n")
    (repository / "page.md").write_text(WALK.format("pool_take"))
    assert run("mentions", "page.md", folder=repository) == []
    (repository / "page.md").write_text(WALK.format("other_take"))
    assert run("mentions", "page.md", folder=repository) == [
        "page.md:4: other_take: is not in src/disk/pool.c"
    ]


LOST = ["src/disk/pond.c", "NAME.h", "src/pond/", "pond.c", "paged/pool.c", "pool_fill"]


@pytest.mark.parametrize("lost", LOST)
def test_a_mention_of_nothing(repository, lost):
    (repository / "page.md").write_text(f"See pool.c,\nand `{lost}`.\n")
    assert run("mentions", "page.md", folder=repository) == [
        f"page.md:2: {lost.rstrip('/')}: there is no such thing"
    ]
