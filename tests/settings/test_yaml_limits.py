"""A path that leads to no configuration, or to too much of one, is refused in a line, at once."""

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from marketprism.errors import ConfigError
from marketprism.settings.yaml_files import read
from marketprism.settings.yaml_limits import (
    DEEPEST,
    MOST_BYTES,
    MOST_CHARACTERS,
    MOST_ITEMS,
    MOST_VALUES,
)


def problem(path: Path) -> str:
    """The one line that is said of a file."""
    with pytest.raises(ConfigError) as error:
        read(path)
    (line,) = error.value.problems
    assert "\n" not in line
    assert len(line) < 300
    return line.removeprefix(f"{path}: ")


def said(tmp_path: Path, text: str) -> str:
    """The one line that is said of a text."""
    path = tmp_path / "x.yaml"
    path.write_text(text)
    return problem(path)


def test_what_is_no_regular_file_is_not_waited_for(tmp_path: Path) -> None:
    """A pipe that nobody writes, one that is held open, a device without end, a directory."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    expected = "cannot be read: it is not a regular file"
    assert problem(pipe) == expected
    held = os.open(pipe, os.O_RDWR)
    assert problem(pipe) == expected
    os.close(held)
    assert problem(Path("/dev/zero")) == expected
    assert problem(tmp_path) == expected


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    """Half a million symbols are eight megabytes; a file without an end has any number of them."""
    symbols = "".join(f"      - A{number}-USDT\n" for number in range(500_000))
    words = "cannot be read: it is larger than 512 KiB, and no configuration"
    assert said(tmp_path, f"exchanges:\n  binance_spot:\n    symbols:\n{symbols}") == words
    sparse = tmp_path / "sparse"
    with sparse.open("wb") as file:
        file.truncate(2**40)
    assert problem(sparse) == words


def laughs(reference: str) -> str:
    """Each section is ten times the one before."""
    names = "abcdefghij"
    lines = ["a: &a {x: 1}"]
    for before, name in pairwise(names):
        ten = ", ".join([f"*{before}"] * 10)
        lines.append(f"{name}: &{name} {reference.format(ten)}")
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"a: [{'b, ' * (MOST_ITEMS + 1)}]", f"line 1: more than {MOST_ITEMS:,} items in one list"),
        ("a: " + "b" * (MOST_CHARACTERS + 1), "line 1: more than 4,096 characters in one value"),
        ("a: !" + "b" * (MOST_CHARACTERS + 1), "line 1: more than 4,096 characters in one value"),
        ("a: 1" + ":59" * 100_000 + ".5", "line 1: more than 4,096 characters in one value"),
        ("a: " + "[" * (DEEPEST + 1), f"line 1: more than {DEEPEST} sections within one another"),
        ("a: " + "[" * (MOST_BYTES - 3), f"line 1: more than {DEEPEST} sections within one"),
        ("- " * (MOST_BYTES // 2), f"line 1: more than {DEEPEST} sections within one another"),
        ("".join(f"k{number}: 1\n" for number in range(MOST_VALUES)), "line 10000: more than 20,"),
        (laughs("[{}]"), "line 5: more than 20,000 values"),
        (laughs("{{<<: [{}]}}"), "line 5: more than 20,000 values"),
        ("a: 1" + ":59" * 500 + ".5", "cannot be read: "),
    ],
    ids=lambda value: str(value)[:12],
)
def test_what_would_keep_the_start_waiting_is_refused_where_it_begins(
    text: str, expected: str, tmp_path: Path
) -> None:
    """Lists, values, depth, and aliases that stand for more than they look."""
    assert said(tmp_path, text).startswith(expected)


def test_what_a_configuration_may_be_is_read(tmp_path: Path) -> None:
    """A long list, a section that is referred to again and again, a file behind a link."""
    path, link = tmp_path / "x.yaml", tmp_path / "link"
    symbols = [f"A{number}-USDT" for number in range(MOST_ITEMS)]
    shared = "\n".join(f"s{number}: {{<<: *shared, b: {number}}}" for number in range(100))
    path.write_text(f"symbols: [{', '.join(symbols)}]\nshared: &shared {{a: 1}}\n{shared}")
    link.symlink_to(path)
    found = read(link)
    assert found["symbols"] == symbols
    assert found["s99"] == {"a": 1, "b": 99}


@pytest.mark.parametrize("path", ["pipe", "/dev/zero", "/dev/stdin"])
def test_a_command_ends_with_a_line(path: str, tmp_path: Path) -> None:
    """Whichever it is; it does not wait for what never comes."""
    os.mkfifo(tmp_path / "pipe")
    reading, writing = os.pipe()
    try:
        ended = subprocess.run(
            [sys.executable, "-m", "marketprism", "--config", path, "run"],
            cwd=tmp_path,
            stdin=reading,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    finally:
        os.close(reading)
        os.close(writing)
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line.endswith("cannot be read: it is not a regular file")
