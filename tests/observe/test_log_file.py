"""The log file keeps to its size, and holds whole lines."""

import resource
from pathlib import Path

import pytest

from marketprism.observe.log_file import RotatingFile
from marketprism.settings.settings import LogFile

LINE = b"x" * 99 + b"\n"


def names(directory: Path) -> list[str]:
    """Of the files there."""
    return sorted(file.name for file in directory.iterdir())


def test_older_lines_get_a_number_and_the_oldest_go(tmp_path: Path) -> None:
    """The newest are in the file itself; a line that is longer than a file has one of its own."""
    settings = LogFile(max_bytes=250, backups=2)
    file = RotatingFile(tmp_path / "logs/x.log", settings)
    file.write([b"%0100d" % number for number in range(9)])
    file.close()
    assert names(tmp_path / "logs") == ["x.log", "x.log.1", "x.log.2"]
    kept = [(tmp_path / "logs" / name).read_bytes() for name in ("x.log.2", "x.log.1", "x.log")]
    assert b"".join(kept) == b"".join(b"%0100d" % number for number in range(4, 9))
    file = RotatingFile(tmp_path / "logs/x.log", settings)
    file.write([b"y" * 1000, LINE])
    file.close()
    assert (tmp_path / "logs/x.log.1").read_bytes() == b"y" * 1000
    assert (tmp_path / "logs/x.log").read_bytes() == LINE


def test_without_older_ones_it_begins_anew(tmp_path: Path) -> None:
    """It keeps to its size all the same."""
    file = RotatingFile(tmp_path / "x.log", LogFile(max_bytes=250, backups=0))
    for _ in range(7):
        file.write([LINE])
    file.close()
    assert names(tmp_path) == ["x.log"]
    assert (tmp_path / "x.log").read_bytes() == LINE


def test_it_goes_on_where_it_was(tmp_path: Path) -> None:
    """A process that starts again appends, and counts what is there."""
    for _ in range(3):
        file = RotatingFile(tmp_path / "x.log", LogFile(max_bytes=250, backups=1))
        file.write([LINE])
        file.close()
    assert (tmp_path / "x.log.1").read_bytes() == LINE * 2
    assert (tmp_path / "x.log").read_bytes() == LINE


def test_no_line_is_written_by_half(tmp_path: Path) -> None:
    """Where the disk has no room for the rest of one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    file = RotatingFile(tmp_path / "x.log", LogFile(max_bytes=10_000))
    resource.setrlimit(resource.RLIMIT_FSIZE, (250, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            file.write([LINE] * 3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    file.write([b"more\n"])
    file.close()
    assert (tmp_path / "x.log").read_bytes() == LINE * 2 + b"more\n"
