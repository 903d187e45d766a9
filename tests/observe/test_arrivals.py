"""Whether data arrives, by the rhythms of what is collected."""

from collections.abc import Sequence
from typing import Any

import attrs
import pytest

from marketprism.board.board import Board
from marketprism.board.rows import ConnectionRow
from marketprism.board.stream_row import StreamRow
from marketprism.clock import Timestamp
from marketprism.instruments import Instrument
from marketprism.observe.arrivals import SLOW, Arrival, arrival, down, voices
from marketprism.records import DataType
from marketprism.streams.cursor import Cursor
from marketprism.streams.state import Phase, StreamState

SECOND = 1_000_000_000
START = 1_000 * SECOND
NOW = Timestamp(0, START + 100_000 * SECOND)


@attrs.define
class Rhythm:
    """A freshness that has learned this."""

    seconds: float | None

    def limit(self, _stream: object) -> float | None:
        return self.seconds

    def step(self, _stream: object) -> int:
        return 0


@attrs.frozen
class Given:
    """One stream: what it is, since when it is silent, its declared and its learned limit."""

    data_type: DataType
    silent: float
    quiet_limit: float | None = None
    learned: float | None = None
    phase: Phase | None = Phase.LIVE
    spoke: bool = True
    standing: str | None = None


def board(given: Sequence[Given]) -> Board:
    """All of them on one connection."""
    board = Board(started=START)
    for number, each in enumerate(given):
        instrument = Instrument("x", "spot", f"S{number}", f"s{number}")
        row = StreamRow("x_spot", instrument, each.data_type, "x_spot/0")
        row.quiet_limit, row.standing, row.begun = each.quiet_limit, each.standing, START
        if each.learned is not None:
            rhythm: Any = Rhythm(each.learned)
            row.freshness = rhythm
        last = NOW.monotonic - round(each.silent * SECOND)
        if each.spoke:
            row.last_record = last
        else:
            row.begun = last
        if each.phase is not None:
            row.attach(StreamState(instrument, each.data_type, Cursor(), each.phase))
        board.streams["x_spot", (each.data_type, f"s{number}")] = row
    return board


def silent(*given: Given) -> bool:
    """Whether none of them says what it must."""
    the = board(given)
    return arriving(the).silent


def arriving(the: Board) -> Arrival:
    """How it stands with all of that board."""
    return arrival(voices(the).get("x_spot", []), the, NOW)


BOOK, TRADE, RATIO = DataType.ORDERBOOK, DataType.TRADE, DataType.LSR_TOP_POSITION
FORCED, FUNDING, INTEREST = DataType.LIQUIDATION, DataType.FUNDING_RATE, DataType.OPEN_INTEREST


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        # A minute, though its rhythm is faster; longer where it is slower.
        ([Given(BOOK, 59, 60.0, 30.0)], False),
        ([Given(BOOK, 61, 60.0, 30.0)], True),
        ([Given(BOOK, 200, 60.0, 240.0)], False),
        ([Given(BOOK, 241, 60.0, 240.0)], True),
        ([Given(FUNDING, 170, 180.0)], False),
        ([Given(FUNDING, 181, 180.0)], True),
        # One that speaks speaks for all.
        ([Given(BOOK, 500, 60.0, 30.0), Given(TRADE, 3, None, 30.0)], False),
        ([Given(BOOK, 500, 60.0, 30.0), Given(INTEREST, 3, 300.0)], False),
        ([Given(BOOK, 61, 60.0, 30.0), Given(TRADE, 61, None, 30.0)], True),
        # But not for ever where it may be silent for long, nor what is told each five minutes.
        ([Given(BOOK, 500, 60.0, 30.0), Given(TRADE, 500, None, 3600.0)], False),
        ([Given(BOOK, 901, 60.0, 30.0), Given(TRADE, 901, None, 3600.0)], True),
        ([Given(BOOK, 61, 60.0, 30.0), Given(RATIO, 61, 900.0)], True),
        # Where all that comes is rare.
        ([Given(RATIO, SLOW - 1, 1800.0)], False),
        ([Given(RATIO, SLOW + 1, 1800.0)], True),
        ([Given(TRADE, 3000, None, 3600.0)], False),
        ([Given(TRADE, 3601, None, 3600.0)], True),
        # What may be silent proves nothing against what may not.
        ([Given(BOOK, 61, 60.0, 30.0), Given(FORCED, 61)], True),
        ([Given(BOOK, 61, 60.0, 30.0), Given(FORCED, 1)], True),
        # Where all may be silent it is enough that they are confirmed.
        ([Given(FORCED, 90_000)], False),
        ([Given(FORCED, 90_000, phase=Phase.ACKNOWLEDGED, spoke=False)], False),
        ([Given(TRADE, 90_000, phase=Phase.ACKNOWLEDGED, spoke=False)], False),
        ([Given(FORCED, 90_000, phase=None)], True),
        ([Given(FORCED, 90_000, phase=Phase.WANTED, spoke=False)], True),
        ([Given(FORCED, 30, phase=Phase.WANTED, spoke=False)], False),
        # What is refused is not waited for; where all is, nothing comes.
        ([Given(BOOK, 90_000, 60.0, phase=Phase.PARKED), Given(FORCED, 90_000)], False),
        ([Given(BOOK, 90_000, 60.0, phase=Phase.PARKED)], True),
        ([Given(BOOK, 30, 60.0, phase=Phase.PARKED, spoke=False)], False),
        # One that was begun a moment ago has not been silent since the start.
        ([Given(BOOK, 30, 60.0, phase=Phase.ACKNOWLEDGED, spoke=False)], False),
        # Nor is a market that does not trade.
        ([Given(BOOK, 90_000, 60.0, standing="paused")], False),
        ([Given(BOOK, 90_000, 60.0, standing="ended"), Given(BOOK, 61, 60.0, 30.0)], True),
        ([], False),
    ],
)
def test_data_arrives_where_what_must_speak_does(given: list[Given], expected: bool) -> None:
    """By each stream's own rhythm, within bounds."""
    assert silent(*given) is expected


def test_the_latest_record_is_told_and_since_when_there_was_none() -> None:
    """Of all the streams."""
    the = board([Given(BOOK, 95, 60.0, 30.0), Given(TRADE, 80, None, 30.0)])
    found = arriving(the)
    assert found.since == found.last == NOW.monotonic - 80 * SECOND
    the = board([Given(BOOK, 95, 60.0, phase=Phase.ACKNOWLEDGED, spoke=False)])
    found = arriving(the)
    assert (found.since, found.last) == (NOW.monotonic - 95 * SECOND, None)


def test_what_may_be_silent_is_given_a_minute_to_come_back() -> None:
    """From the loss of its connection, not from its last record."""
    the = board([Given(FORCED, 90_000, phase=None)])
    row = ConnectionRow("x_spot/0", "x_spot", "x", "spot", "", "waiting", "closed: 1006")
    the.connections["x_spot/0"] = row
    row.down_since = NOW.monotonic - 59 * SECOND
    assert not arriving(the).silent
    row.down_since = NOW.monotonic - 61 * SECOND
    assert arriving(the).silent


def test_a_venue_is_down_when_none_of_its_connections_stands() -> None:
    """The one that was lost last says why; one that is still being dialled is not lost."""
    the = Board(started=START)
    assert down("x", the) is None
    for number, since in enumerate((5, 9)):
        row = ConnectionRow(f"x/{number}", "x", "x", "spot", "", "waiting", f"reason {number}")
        row.down_since = START + since * SECOND
        the.connections[row.id] = row
    lost = down("x", the)
    assert lost is not None
    assert lost.reason == "reason 1"
    the.connections["x/0"].state = "connected"
    assert down("x", the) is None
    vars_of = the.connections["x/0"]
    vars_of.state, vars_of.reason = "dialling", None
    assert down("x", the) is None


@pytest.mark.parametrize("phase", [None, Phase.WANTED])
def test_where_no_stream_is_confirmed_nothing_arrives(phase: Phase | None) -> None:
    """However long each of them may be silent, nobody listens: after a minute that is said."""
    wanted = [Given(TRADE, 0, learned=600, phase=phase), Given(BOOK, 0, 60, 480, phase=phase)]
    assert not silent(*(attrs.evolve(each, silent=50) for each in wanted))
    assert silent(*(attrs.evolve(each, silent=70) for each in wanted))
