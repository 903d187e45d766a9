"""The demo, as somebody tries it for the first time."""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import trio
from patience import PATIENCE

from marketprism.board.board import Board
from marketprism.cli.demo import _moved, _port, _rate, _received, _totals, _wrapped
from marketprism.records import DataType


async def demo(place: Path) -> tuple[str, dict[str, float], int]:
    """Its words until records came and were stored and it was stopped, the seconds each took,
    and its exit code.
    """
    seconds: dict[str, float] = {}
    began = trio.current_time()
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "marketprism", "demo"],
        cwd=place,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "LOG_LEVEL": "WARNING"},
    )
    assert process.stdout is not None
    said = ""
    try:
        with trio.fail_after(PATIENCE):
            while "stored" not in seconds:
                more = await process.stdout.receive_some()
                assert more, said
                said += more.decode()
                for name, pattern in (("records", r"trade [1-9]"), ("stored", r"stored [1-9]")):
                    if re.search(pattern, said):
                        seconds.setdefault(name, trio.current_time() - began)
            process.send_signal(signal.SIGINT)
            stopping = trio.current_time()
            async for more in process.stdout:
                said += more.decode()
            code = await process.wait()
            seconds["stopped"] = trio.current_time() - stopping
    finally:
        process.kill()
    return said, seconds, code


async def test_it_shows_records_and_stops_in_order(tmp_path: Path) -> None:
    """Records, where to look, a summary; exit 0. It promises 4 s to the first ones and 2 s to the
    end: they are printed, and held to where a busy machine cannot be the reason.
    """
    said, seconds, code = await demo(tmp_path)
    print({name: round(value, 2) for name, value in seconds.items()})
    assert code == 0, said
    assert re.search(r"health: +http://127\.0\.0\.1:\d+/health", said)
    assert re.search(r"^NATS: +nats://127\.0\.0\.1:\d+", said, re.MULTILINE)
    assert re.search(r"orderbook [\d,]+/s", said)
    assert "Traceback" not in said
    last = said.strip().splitlines()[-1]
    total = re.fullmatch(
        r"stopped; received ([\d,]+) records, stored ([\d,]+) messages, (\d+) of them gaps", last
    )
    assert total is not None, last
    received, stored, gaps = (int(number.replace(",", "")) for number in total.groups())
    assert received + gaps == stored > 0
    assert seconds["records"] < 30
    assert seconds["stopped"] < 15
    assert left(tmp_path) == []


def left(place: Path) -> list[str]:
    """What is in a folder."""
    return os.listdir(place)


def test_a_port_in_use_is_left_to_who_has_it() -> None:
    """A demo yields to what runs already."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert _port("127.0.0.1", port) == 0
    assert _port("127.0.0.1", port) == port


def test_the_line_counts_by_data_type_over_all_venues() -> None:
    """In the contract's order; what did not come is left out."""
    board = Board()
    board.received.update(
        {("okx", "spot", "trade"): 2, ("binance", "spot", "trade"): 3, ("x", "y", "orderbook"): 1}
    )
    assert list(_received(board).items()) == [("orderbook", 1), ("trade", 5)]


def test_all_data_types_fit_a_terminal_of_80_columns() -> None:
    """In as many lines as that takes; a part is never broken in two."""
    parts = ["stored 1,234,567", "gaps 0", *(f"{each} 1,234/s" for each in DataType)]
    lines = _wrapped(parts, 79)
    assert max(map(len, lines)) <= 79
    assert 1 < len(lines) < 5
    assert [part for line in lines for part in line.split("  ")] == parts
    assert _wrapped(["x" * 100], 79) == ["x" * 79]


@pytest.mark.parametrize(
    ("rate", "text"), [(0, "0"), (0.04, "0.0"), (0.4, "0.4"), (1.6, "2"), (1234.5, "1,234")]
)
def test_what_comes_seldom_is_not_shown_as_nothing(rate: float, text: str) -> None:
    """With a decimal below one a second."""
    assert _rate(rate) == text


def test_a_port_that_had_to_be_another_is_said() -> None:
    """Which was wanted; nothing where it is that one, or where any would do."""
    assert _moved(4222, 4222) == ""
    assert _moved(40001, 0) == ""
    assert _moved(40001, 4222) == "  (4222 is taken)"


@pytest.mark.parametrize(("count", "text"), [(0, "0"), (1234567, "1,234,567")])
def test_the_summary_is_readable(count: int, text: str) -> None:
    """Thousands apart."""
    board = Board()
    board.received["a", "b", "trade"] = count
    assert _totals(board) == f"received {text} records, stored 0 messages, 0 of them gaps"
