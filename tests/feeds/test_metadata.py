"""When a venue's metadata is read again, at times that are made up."""

import math
from typing import Any

import attrs
import pytest

from marketprism.board.stream_row import StreamRow
from marketprism.feeds.freshness import Remedy
from marketprism.feeds.metadata import APART, FIRST, Doubt, Rereads, doubt
from marketprism.instruments import Instrument
from marketprism.records import DataType
from marketprism.streams.cursor import Cursor
from marketprism.streams.state import Phase, StreamState

PATIENCE = 300.0
BTC = Instrument("binance", "spot", "BTC-USDT", "BTCUSDT")


def doubts(*words: str) -> set[Doubt]:
    """A stream of its own for each."""
    return {((DataType.TRADE, f"{number}"), word) for number, word in enumerate(words)}


def readings(rereads: Rereads, seconds: range, says: set[Doubt], missing: set[str]) -> list[int]:
    """When it is read, looked at each second, where each reading leaves the same to be desired."""
    read = []
    for second in seconds:
        if rereads.look(says, second):
            read.append(second)
            rereads.done(missing, second, 0.0)
    return read


def test_where_nothing_is_missing_it_is_read_once() -> None:
    """Whatever comes later is found out by what streams say."""
    rereads = Rereads(PATIENCE)
    rereads.done([], 0.0, 0.0)
    assert readings(rereads, range(1, 10_000), set(), set()) == []


def test_what_is_missing_is_asked_for_soon_then_slowly() -> None:
    """After thirty seconds, then every five minutes."""
    rereads = Rereads(PATIENCE)
    rereads.done({"BTC-USDT"}, 0.0, 0.0)
    assert readings(rereads, range(1, 1000), set(), {"BTC-USDT"}) == [30, 330, 630, 930]


def test_what_is_newly_missing_is_asked_for_soon_again() -> None:
    """Each market has its first thirty seconds."""
    rereads = Rereads(PATIENCE)
    rereads.done({"BTC-USDT"}, 0.0, 0.0)
    rereads.done({"BTC-USDT"}, 30.0, 0.0)
    assert rereads.due == 30 + PATIENCE
    rereads.done({"BTC-USDT", "ETH-USDT"}, 100.0, 0.0)
    assert rereads.due == 100 + FIRST
    rereads.done(set(), 130.0, 0.0)
    assert rereads.due == math.inf


def test_an_answer_that_may_come_any_time_is_asked_for_each_thirty_seconds() -> None:
    """A request that failed for a passing reason."""
    rereads = Rereads(PATIENCE)
    for now in (0.0, 30.0, 60.0):
        rereads.done({"fundingInfo"}, now, 0.0, soon=True)
        assert rereads.due == now + FIRST
    rereads.failed(90.0, 0.0, passing=True)
    assert rereads.due == 90 + FIRST
    rereads.failed(120.0, 0.0, passing=False)
    assert rereads.due == 120 + PATIENCE


def test_long_waits_are_spread_and_never_longer_than_configured() -> None:
    """By a tenth; a patience shorter than the first wait is the wait."""
    rereads = Rereads(PATIENCE)
    rereads.done({"X"}, 0.0, 0.999)
    rereads.done({"X"}, 0.0, 0.999)
    assert PATIENCE * 0.9 <= rereads.due < PATIENCE
    hurried = Rereads(2.0)
    hurried.done({"X"}, 0.0, 0.5)
    assert hurried.due == 2.0


def test_a_group_that_falls_silent_is_one_reading() -> None:
    """At once, where the last one is long ago; those that follow wait their thirty seconds."""
    rereads = Rereads(PATIENCE)
    rereads.done([], 0.0, 0.0)
    assert readings(rereads, range(100, 400), doubts(*["reconnect"] * 40), set()) == [100]
    grown = doubts(*["reconnect"] * 41)
    assert rereads.look(grown, 400)
    rereads.done([], 400.0, 0.0)
    more = doubts(*["reconnect"] * 45)
    assert not rereads.look(more, 401)
    assert not rereads.look(more, 400 + APART - 1)
    assert rereads.look(more, 400 + APART)


def test_a_doubt_that_stays_is_looked_into_slowly() -> None:
    """The list may lag behind: it is read for as long as a stream says otherwise."""
    rereads = Rereads(PATIENCE)
    rereads.done([], 0.0, 0.0)
    assert readings(rereads, range(100, 1100), doubts("parked"), set()) == [100, 400, 700, 1000]
    assert readings(rereads, range(1100, 1400), set(), set()) == [1300]
    assert readings(rereads, range(1400, 9000), set(), set()) == []


def test_a_doubt_that_comes_back_counts_again() -> None:
    """As does a worse one of the same stream."""
    rereads = Rereads(PATIENCE)
    rereads.done([], 0.0, 0.0)
    assert rereads.look(doubts("reconnect"), 100)
    rereads.done([], 100.0, 0.0)
    assert not rereads.look(set(), 150)
    assert rereads.look(doubts("reconnect"), 160)
    rereads.done([], 160.0, 0.0)
    assert rereads.look(doubts("unhealthy"), 200)


@attrs.define
class Judged:
    """A freshness that has come to a conclusion."""

    last: Remedy

    def step(self, _stream: object) -> Remedy:
        return self.last


@pytest.mark.parametrize(
    ("phase", "step", "limit", "standing", "why"),
    [
        (Phase.LIVE, Remedy.NONE, 60.0, None, None),
        (Phase.LIVE, Remedy.RENEW, 60.0, None, "renew"),
        (Phase.LIVE, Remedy.RENEW, None, None, None),
        (Phase.LIVE, Remedy.RECONNECT, None, None, "reconnect"),
        (Phase.ACKNOWLEDGED, Remedy.UNHEALTHY, None, None, "unhealthy"),
        (Phase.PARKED, Remedy.NONE, None, None, "parked"),
        (Phase.PARKED, Remedy.NONE, None, "paused", None),
        (Phase.ACKNOWLEDGED, Remedy.NONE, 60.0, None, None),
        (Phase.ACKNOWLEDGED, Remedy.NONE, None, None, None),
        (Phase.WANTED, Remedy.NONE, 60.0, None, None),
    ],
)
def test_a_stream_that_is_refused_or_silent_is_a_reason_to_ask(
    phase: Phase, step: Remedy, limit: float | None, standing: str | None, why: str | None
) -> None:
    """What may be silent is none at its first renewal, nor what waits for its turn or its host."""
    row = StreamRow("binance_spot", BTC, DataType.ORDERBOOK, "binance_spot/0", quiet_limit=limit)
    row.standing = standing
    judged: Any = Judged(step)
    row.freshness = judged
    row.attach(StreamState(BTC, DataType.ORDERBOOK, Cursor(), phase))
    assert doubt(row) == why


def test_a_stream_without_a_connection_says_nothing() -> None:
    """Nor does one that nobody has begun."""
    row = StreamRow("binance_spot", BTC, DataType.ORDERBOOK, "binance_spot/0", quiet_limit=60.0)
    assert doubt(row) is None
