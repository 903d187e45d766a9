"""The exchanges' recordings, where they are: they are data, and never part of the project."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

ROOT = Path(
    os.environ.get("MARKETPRISM_CAPTURES")
    or Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
)


class Envelope(msgspec.Struct):
    """The combined form of a Binance stream."""

    stream: str
    data: msgspec.Raw


class Line(NamedTuple):
    """One line of a capture."""

    kind: str
    url: str
    raw: bytes


def path(name: str) -> Path:
    """The recording of that name; skips the test where there is none."""
    found = ROOT / name
    if not found.exists():
        pytest.skip(f"no recording {name} in {ROOT}: set MARKETPRISM_CAPTURES")
    return found


def lines(name: str) -> Iterator[Any]:
    """A JSON value a line."""
    with path(name).open(encoding="utf-8") as file:
        yield from (json.loads(line) for line in file if line.strip())


def capture(name: str) -> Iterator[Line]:
    """What was sent and received, as it stood on the wire."""
    for line in lines(name):
        yield Line(line["kind"], line.get("url", ""), line.get("raw", "").encode())


def whole(name: str) -> Any:
    """A JSON file."""
    return json.loads(path(name).read_text(encoding="utf-8"))


def trades_of(path: Path, native: str) -> list[int]:
    """The trade ids of one instrument in a recording, in order."""
    numbers = []
    for line in map(json.loads, path.read_text().splitlines()):
        message = json.loads(line["raw"]) if line["kind"] == "recv" else {}
        data = message.get("data", {})
        if isinstance(data, dict) and data.get("e") == "aggTrade" and data["s"] == native:
            numbers.append(data["a"])
        if message.get("arg") == {"channel": "trades", "instId": native}:
            numbers += [int(each["tradeId"]) for each in message.get("data", [])]
    return numbers
