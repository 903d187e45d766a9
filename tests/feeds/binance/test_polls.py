"""What Binance USD-M has over REST only."""

import json
import math
from typing import Any

import attrs
import pytest
from usdm import BTC, CONFIG, SECOND, START, moment

from marketprism.feeds.actions import Fetched, FetchFailed, Output, Reject
from marketprism.feeds.binance import BinanceDerivatives
from marketprism.feeds.venue import Poll
from marketprism.instruments import Instrument
from marketprism.records import (
    AllAccountRatio,
    DataType,
    Gap,
    LongShortRatio,
    OpenInterest,
    TopPositionRatio,
)
from marketprism.streams.cursor import Cursor
from marketprism.streams.subscription import Stream
from marketprism.streams.subscription import Subscription as Wanted

MINUTE = 60_000
FIRST = 1_699_970_100_000
"""A multiple of five minutes, a hundred rows ago."""
POLLED = (DataType.OPEN_INTEREST, DataType.LSR_TOP_POSITION, DataType.LSR_ALL_ACCOUNT)


@attrs.define
class Polled:
    """A poll, and the exchange's answers to it."""

    data_type: DataType
    cursor: Cursor = attrs.field(factory=Cursor)
    seconds: float = 0.0
    poll: Poll = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        (self.poll,) = BinanceDerivatives(CONFIG).polls([Wanted(self.data_type, BTC)])

    @property
    def stream(self) -> Stream:
        return self.data_type, BTC.native_id

    def answered(self, body: Any) -> Output:
        self.seconds += 10
        now = moment(self.seconds)
        answer = body if isinstance(body, FetchFailed) else Fetched(_text(body), now.monotonic)
        return self.poll.read(answer, {self.stream: self.cursor}, now)


def _text(body: Any) -> bytes:
    return body if isinstance(body, bytes) else json.dumps(body).encode()


def interest(time: int, **changes: Any) -> dict[str, Any]:
    """An answer of open interest."""
    return {"symbol": "BTCUSDT", "openInterest": "83782.317", "time": time} | changes


def rows(first: int, last: int, **changes: Any) -> list[dict[str, Any]]:
    """The ratio's rows of those numbers."""
    return [
        {
            "symbol": "BTCUSDT",
            "longShortRatio": "1.3804",
            "longAccount": "0.5799",
            "shortAccount": "0.4201",
            "timestamp": FIRST + number * 5 * MINUTE,
        }
        | changes
        for number in range(first, last + 1)
    ]


def numbers(turn: Output) -> list[int | str]:
    """Which rows its ratios are of; `gap` for a gap."""
    return [
        "gap" if isinstance(record, Gap) else ((record.timestamp or 0) // 10**6 - FIRST) // 300_000
        for record in turn.records
    ]


def test_open_interest_gives_its_record_exactly() -> None:
    """In the base asset, at the exchange's own time."""
    polled = Polled(DataType.OPEN_INTEREST)
    assert polled.poll.request.url == "http://rest.test/fapi/v1/openInterest?symbol=BTCUSDT"
    assert polled.poll.request.weight == 1
    assert polled.answered(interest(FIRST)).records == [
        OpenInterest(BTC, FIRST * 1_000_000, moment(10).wall, "83782.317")
    ]


def test_open_interest_is_published_when_its_time_moves() -> None:
    """The same answer again is no news, an older one neither."""
    polled = Polled(DataType.OPEN_INTEREST)
    told = [len(polled.answered(interest(FIRST + ms)).records) for ms in (0, 0, -1, 1)]
    assert told == [1, 0, 0, 1]


@pytest.mark.parametrize(
    "bad",
    [
        FetchFailed(None),
        FetchFailed(503),
        b"<html>",
        interest(FIRST, openInterest="NaN"),
        interest(FIRST, symbol="ETHUSDT"),
        interest(-1),
    ],
    ids=str,
)
def test_a_failed_poll_of_open_interest_is_a_gap_until_the_next(bad: Any) -> None:
    """Nobody saw what was open meanwhile; one that cannot be read is rejected."""
    polled = Polled(DataType.OPEN_INTEREST)
    polled.answered(interest(FIRST))
    turn = polled.answered(bad)
    assert turn.records == []
    assert [type(step) for step in turn.actions] == [Reject] * (not isinstance(bad, FetchFailed))
    gap, record = polled.answered(interest(FIRST + 1)).records
    assert isinstance(gap, Gap)
    assert (gap.started_at, gap.ended_at) == (moment(10).wall, moment(30).wall)
    assert gap.connection == "binance_derivatives/open_interest"
    assert isinstance(record, OpenInterest)


@pytest.mark.parametrize(
    ("data_type", "path", "kind"),
    [
        (DataType.LSR_TOP_POSITION, "topLongShortPositionRatio", TopPositionRatio),
        (DataType.LSR_ALL_ACCOUNT, "globalLongShortAccountRatio", AllAccountRatio),
    ],
)
def test_a_ratio_gives_its_record_exactly(
    data_type: DataType, path: str, kind: type[LongShortRatio]
) -> None:
    """The newest row at first: nobody asked for the past."""
    polled = Polled(data_type)
    assert polled.poll.request.url == (
        f"http://rest.test/futures/data/{path}?symbol=BTCUSDT&period=5m&limit=500"
    )
    turn = polled.answered(rows(0, 3))
    at = (FIRST + 15 * MINUTE) * 1_000_000
    assert turn.records == [kind(BTC, at, moment(10).wall, "1.3804", "0.5799", "0.4201", "5m")]
    assert polled.poll.request.url.endswith("limit=30")
    assert polled.poll.request.weight == 0


def test_a_row_is_published_once_whether_its_time_is_a_number_or_a_string() -> None:
    """It is a number on the wire, a string in the documentation."""
    polled = Polled(DataType.LSR_ALL_ACCOUNT)
    assert numbers(polled.answered(rows(0, 1))) == [1]
    assert numbers(polled.answered(rows(0, 1))) == []
    assert numbers(polled.answered(rows(2, 2, timestamp=str(FIRST + 10 * MINUTE)))) == [2]
    assert numbers(polled.answered(rows(2, 2))) == []


def test_rows_that_were_missed_are_published_oldest_first() -> None:
    """After an outage of ours more of them are asked for; a filled hole is no gap."""
    polled = Polled(DataType.LSR_ALL_ACCOUNT)
    polled.answered(rows(0, 1))
    assert polled.answered(FetchFailed(None)) == Output()
    assert polled.poll.request.url.endswith("limit=500")
    polled.cursor.lose("restart", "of a test")
    assert numbers(polled.answered(rows(0, 9)[::-1])) == [2, 3, 4, 5, 6, 7, 8, 9]
    assert polled.cursor.gap is None
    assert numbers(polled.answered(rows(5, 10))) == [10]


@pytest.mark.parametrize("first", [3, 60])
def test_a_hole_that_few_rows_leave_open_is_asked_for_with_many(first: int) -> None:
    """The process may have slept without any request failing."""
    polled = Polled(DataType.LSR_ALL_ACCOUNT)
    polled.answered(rows(0, 1))
    assert polled.answered(rows(first, 89)) == Output()
    assert polled.poll.request.url.endswith("limit=500")
    assert numbers(polled.answered(rows(0, 90))) == list(range(2, 91))


def test_a_hole_that_no_row_fills_is_a_gap() -> None:
    """Before the row that follows it, wherever it is."""
    polled = Polled(DataType.LSR_ALL_ACCOUNT)
    polled.answered(rows(0, 1))
    polled.answered(FetchFailed(503))
    turn = polled.answered(rows(5, 6) + rows(9, 9))
    assert numbers(turn) == ["gap", 5, 6, "gap", 9]
    gap = turn.records[0]
    assert isinstance(gap, Gap)
    assert (gap.lost, gap.first_missing_id) == (None, None)


def test_each_stretch_without_rows_is_a_gap_with_its_bounds() -> None:
    """From when the poll was last answered, or from the row before it, to the row that ends it;
    not to when it was learnt.
    """
    polled = Polled(DataType.LSR_ALL_ACCOUNT, seconds=FIRST / 1000 - START / SECOND + 310)
    polled.answered(rows(0, 1))
    seen = polled.cursor.received
    polled.seconds += 4_000
    polled.answered(FetchFailed(503))
    turn = polled.answered(rows(3, 5) + rows(8, 9) + rows(11, 11))
    assert numbers(turn) == ["gap", 3, 4, 5, "gap", 8, 9, "gap", 11]
    gaps = [record for record in turn.records if isinstance(record, Gap)]
    row = [(FIRST + number * 5 * MINUTE) * 1_000_000 for number in range(12)]
    assert [(gap.started_at, gap.ended_at) for gap in gaps] == [
        (seen, row[3]),
        (row[5], row[8]),
        (row[9], row[11]),
    ]
    assert all(gap.collected_at == moment(polled.seconds).wall for gap in gaps)


@pytest.mark.parametrize(
    "bad",
    [
        b"[",
        b'{"code":-1}',
        rows(2, 2, longShortRatio="-1", longAccount="NaN", shortAccount=None),
        rows(2, 2, timestamp="1_0"),
        rows(2, 2, timestamp="１２"),
        rows(2, 2, timestamp=10**15),
        rows(2, 2, timestamp=4_102_444_800_001),
        rows(2, 2, symbol="ETHUSDT"),
    ],
    ids=str,
)
def test_rows_that_cannot_be_read_are_rejected_and_asked_for_again(bad: Any) -> None:
    """Nothing is lost by it."""
    polled = Polled(DataType.LSR_TOP_POSITION)
    polled.answered(rows(0, 1))
    (reject,) = polled.answered(bad).actions
    assert isinstance(reject, Reject)
    assert reject.reason in ("unreadable answer", "unfit event", "bad number")
    assert "limit=500" in polled.poll.request.url
    assert numbers(polled.answered(rows(0, 3))) == [2, 3]


def test_a_row_that_cannot_be_read_costs_itself() -> None:
    """Its neighbours are published; where it is missing is told. One that is known already is not
    looked at again.
    """
    polled = Polled(DataType.LSR_TOP_POSITION)
    polled.answered(rows(0, 1))
    answer = rows(0, 1, longShortRatio={}, longAccount="x", shortAccount=None)
    turn = polled.answered(answer + rows(2, 2) + rows(3, 3, timestamp=None) + rows(4, 4))
    assert numbers(turn) == [2, "gap", 4]
    assert [type(step) for step in turn.actions] == [Reject]


@pytest.mark.parametrize("data_type", POLLED)
def test_an_answer_that_failed_ends_nothing(data_type: DataType) -> None:
    """A symbol that is unknown today may be listed tomorrow."""
    body = b'{"code":-1121,"msg":"Invalid symbol."}'
    assert Polled(data_type).answered(FetchFailed(400, None, body)) == Output()
    assert Polled(data_type).answered(FetchFailed(400, None, b"<html>")) == Output()


def polls_of(count: int) -> list[Poll]:
    """The polls of so many instruments."""
    subscriptions = [
        Wanted(kind, Instrument("binance", "perpetual", f"币{n}-USDT", f"币{n}USDT"))
        for n in range(count)
        for kind in (*POLLED, DataType.TRADE)
    ]
    limits = attrs.evolve(CONFIG.limits, rest_weight=2400, rest_share=0.75)
    return BinanceDerivatives(attrs.evolve(CONFIG, limits=limits)).polls(subscriptions)


@pytest.mark.parametrize(
    ("count", "interest", "ratio"), [(2, 10, 300), (375, 32, 300), (500, 42, 600)]
)
def test_polls_stay_within_what_binance_allows(count: int, interest: int, ratio: int) -> None:
    """Open interest within 40 % of the weight that is used, ratios within three quarters of 1000
    requests in five minutes; both spread over their periods.
    """
    polls = polls_of(count)
    assert len(polls) == 3 * count
    weighty = [poll for poll in polls if poll.request.weight]
    light = [poll for poll in polls if not poll.request.weight]
    assert {poll.period for poll in weighty} == {interest}
    assert {poll.period for poll in light} == {ratio}
    for poll in polls:
        assert 0 <= poll.offset < poll.period
    asked = sorted(poll.offset + n * ratio for poll in light for n in range(4))
    window = max(sum(start <= at < start + 300 for at in asked) for start in asked)
    assert window <= 750
    # Nor do those that find nothing new, and ask again, ask for more.
    again = light[0].again
    assert again >= 20
    outputs = [n * again for n in range(math.ceil(ratio / again))]
    assert len(light) * len(outputs) <= 750 * ratio / 300
    assert "%E5%B8%81" in polls[0].request.url
