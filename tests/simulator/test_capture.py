"""Captures: read as recorded, and made from a seeded market."""

from pathlib import Path

import msgspec
import pytest

from marketprism.simulator import record
from marketprism.simulator.binance import BinanceSpot
from marketprism.simulator.book import Book
from marketprism.simulator.capture import read, read_file
from marketprism.simulator.events import Message, Snapshot, Update
from marketprism.simulator.market import Market


def test_recorded_messages_keep_their_text(spot_capture: Path) -> None:
    """Taken out of its envelope and put back, each recorded message is the same byte for byte."""
    skin = BinanceSpot()
    lines = [line for line in read_file(spot_capture) if line.kind == "recv"]
    assert len(lines) > 200
    for line in lines:
        message = skin.recorded(line.raw)
        assert message is not None
        assert skin.envelope(message.stream, message.text) == line.raw


def test_a_bare_recorded_message_belongs_to_the_same_stream(spot_capture: Path) -> None:
    """Recorded from /ws, without an envelope, a message is read alike."""
    skin = BinanceSpot()
    for line in read_file(spot_capture):
        if line.kind == "recv":
            message = skin.recorded(line.raw)
            assert message is not None
            if "kline" not in message.stream:
                assert skin.recorded(message.text) == message


def test_a_recorded_market_is_the_same_each_time() -> None:
    """One seed, one capture."""
    lines = record(Market(5), 3)
    assert lines == record(Market(5), 3)
    assert lines != record(Market(6), 3)


def test_a_recorded_market_has_the_form_of_a_capture() -> None:
    """A connect line first, lines in order of time, one book a symbol, updates joining it."""
    skin = BinanceSpot()
    lines = read(record(Market(5), 4, snapshot_after=1.01))
    assert lines[0].kind == "connect"
    assert "btcusdt@depth@100ms" in lines[0].url
    assert [line.at for line in lines] == sorted(line.at for line in lines)
    snapshots = [skin.recorded_snapshot(line.url, line.raw) for line in lines if line.url][1:]
    assert [each.symbol for each in snapshots if each] == ["BTCUSDT", "ETHUSDT"]
    messages = [skin.recorded(line.raw) for line in lines if line.kind == "recv"]
    assert {each.stream.partition("@")[2] for each in messages if each} == {
        "trade", "aggTrade", "depth@100ms",
    }  # fmt: skip
    for snapshot in snapshots:
        assert isinstance(snapshot, Snapshot)
        book = Book(snapshot, updates(messages, snapshot.symbol))
        assert book.whole
        assert book.last_id > snapshot.last_id


def test_a_line_that_is_not_json_is_an_error() -> None:
    """A damaged capture is not read in part."""
    with pytest.raises(msgspec.DecodeError):
        read(['{"ts":"1.0","kind":"recv"', ""])


def updates(messages: list[Message | None], symbol: str) -> list[Update]:
    """The book updates of a symbol."""
    return [each.update for each in messages if each and each.symbol == symbol and each.update]
