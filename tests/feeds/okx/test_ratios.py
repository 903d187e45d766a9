"""OKX's long/short ratios."""

import json
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from okx_line import INVERSE, SECOND, START, SWAP, SWAP_CONFIG, moment

from marketprism.feeds.actions import Fetched, FetchFailed, Output, Priority, Reject
from marketprism.feeds.okx import OkxDerivatives, OkxSpot
from marketprism.feeds.okx.ratios import shares
from marketprism.feeds.venue import Poll
from marketprism.records import AllAccountRatio, DataType, Gap, TopPositionRatio
from marketprism.streams.cursor import Cursor
from marketprism.streams.subscription import Stream, Subscription

TOP: Stream = (DataType.LSR_TOP_POSITION, "BTC-USDT-SWAP")
FIVE_MINUTES = 300 * SECOND
FIRST = START - 100 * FIVE_MINUTES
"""The time of the row of number 0."""


def poll(data_type: DataType = DataType.LSR_TOP_POSITION) -> Poll:
    """The poll of one ratio."""
    (one,) = OkxDerivatives(SWAP_CONFIG).polls([Subscription(data_type, SWAP)])
    return one


def rows(*numbers: int, ratio: str = "1.25") -> Fetched:
    """An answer with these five-minute rows, newest first."""
    data = [[str((FIRST + n * FIVE_MINUTES) // 1_000_000), ratio] for n in sorted(numbers)]
    return Fetched(json.dumps({"code": "0", "data": data[::-1], "msg": ""}).encode(), 0)


def test_each_ratio_of_each_instrument_is_polled_at_a_moment_of_its_own() -> None:
    """Every five minutes; spot has none."""
    subscriptions = [
        Subscription(data_type, one)
        for one in (SWAP, INVERSE)
        for data_type in (DataType.TRADE, *[d for d in DataType if d.startswith("lsr")])
    ]
    polls = OkxDerivatives(SWAP_CONFIG).polls(subscriptions)
    assert len(polls) == 4
    assert {one.period for one in polls} == {300.0}
    assert [one.offset for one in polls] == [5.0, 5.5, 6.0, 6.5]
    assert polls[0].subscription.stream == TOP
    assert polls[0].request.priority is Priority.POLL
    assert [one.request.url for one in polls[:2]] == [
        "http://rest.test/api/v5/rubik/stat/contracts/"
        f"{path}?instId=BTC-USDT-SWAP&period=5m&limit=24"
        for path in (
            "long-short-position-ratio-contract-top-trader",
            "long-short-account-ratio-contract",
        )
    ]
    assert OkxSpot(SWAP_CONFIG).polls([]) == []


def test_a_row_gives_its_record_exactly() -> None:
    """One number is told: long ÷ short; the shares follow."""
    now, cursors = moment(1), {TOP: Cursor()}
    (record,) = poll().read(rows(0, 1), cursors, now).records
    assert record == TopPositionRatio(
        SWAP, FIRST + FIVE_MINUTES, now.wall, "1.25", "0.5556", "0.4444", "5m"
    )
    account: Stream = (DataType.LSR_ALL_ACCOUNT, "BTC-USDT-SWAP")
    (record,) = poll(DataType.LSR_ALL_ACCOUNT).read(rows(1), {account: Cursor()}, now).records
    assert isinstance(record, AllAccountRatio)


def test_only_rows_past_the_cursor_are_published_oldest_first() -> None:
    """What was missed is filled, without a gap where the rows chain."""
    cursor = Cursor()
    cursors, one = {TOP: cursor}, poll()
    one.read(rows(0, 1), cursors, moment(1))
    assert one.read(rows(0, 1), cursors, moment(2)) == Output()
    cursor.lose("disconnect", "of a test")
    turn = one.read(rows(0, 1, 2, 3), cursors, moment(3))
    assert [record.timestamp for record in turn.records] == [
        FIRST + 2 * FIVE_MINUTES,
        FIRST + 3 * FIVE_MINUTES,
    ]
    assert cursor.gap is None


def test_rows_that_are_missing_are_a_gap() -> None:
    """An outage longer than an answer reaches back."""
    cursor = Cursor()
    cursors, one = {TOP: cursor}, poll()
    one.read(rows(0), cursors, moment(1))
    gap, *records = one.read(rows(5, 6), cursors, moment(2)).records
    assert isinstance(gap, Gap)
    assert (gap.affected, gap.reason, gap.lost) == (TOP[0], "sequence", None)
    assert len(records) == 2


def test_rows_that_have_grown_are_read() -> None:
    """At their end; the first two columns are what they were."""
    body = json.dumps({"code": "0", "data": [["1780000200000", "1.5", "7", None, {}]]}).encode()
    turn = poll().read(Fetched(body, 0), {TOP: Cursor()}, moment(1))
    (record,) = turn.records
    assert isinstance(record, TopPositionRatio)
    assert (record.timestamp, record.long_short_ratio) == (1_780_000_200 * SECOND, "1.5")
    assert turn.actions == []


def test_each_stretch_without_rows_is_a_gap_with_its_bounds() -> None:
    """From when the poll was last answered, or from the row before it, to the row that ends it;
    not to when it was learnt.
    """
    cursor = Cursor()
    cursors, one = {TOP: cursor}, poll()
    first = (FIRST - START) / SECOND
    one.read(rows(0), cursors, moment(first + 20))
    turn = one.read(rows(0, 3, 4, 7, 8, 10), cursors, moment(first + 3_020))
    gaps = [record for record in turn.records if isinstance(record, Gap)]
    minutes = [(gap.started_at - FIRST, gap.ended_at - FIRST) for gap in gaps]
    assert minutes == [
        (20 * SECOND, 3 * FIVE_MINUTES),
        (4 * FIVE_MINUTES, 7 * FIVE_MINUTES),
        (8 * FIVE_MINUTES, 10 * FIVE_MINUTES),
    ]
    times = [record.timestamp for record in turn.records if not isinstance(record, Gap)]
    assert times == [FIRST + number * FIVE_MINUTES for number in (3, 4, 7, 8, 10)]
    assert [isinstance(record, Gap) for record in turn.records] == [
        *(True, False, False) * 2,
        *(True, False),
    ]


def test_a_bad_row_is_rejected_beside_its_neighbours() -> None:
    """Numbers only, as text."""
    body = json.dumps(
        {"code": "0", "data": [["1", "x"], ["y", "1"], 7, ["300000", "0.5"], ["0"]]}
    ).encode()
    turn = poll().read(Fetched(body, 0), {TOP: Cursor()}, moment(1))
    assert len(turn.records) == 1
    assert [type(step) for step in turn.actions] == [Reject] * 4


@pytest.mark.parametrize(
    ("answer", "kinds"),
    [
        (FetchFailed(None), []),
        (FetchFailed(400, None, b'{"code":"51001","msg":"no"}'), []),
        (FetchFailed(200, None, b'{"code":"51001","msg":"no"}'), []),
        (Fetched(b'{"code":"51001","data":[]}', 0), [Reject]),
        (Fetched(b'{"code":"50011","data":[]}', 0), [Reject]),
        (Fetched(b"[" * 9999, 0), [Reject]),
        (Fetched(b'{"code":"0","data":[]}', 0), []),
    ],
)
def test_an_answer_without_rows_publishes_nothing(
    answer: Fetched | FetchFailed, kinds: list[type]
) -> None:
    """And ends nothing: an instrument that is unknown today may be listed tomorrow."""
    turn = poll().read(answer, {TOP: Cursor()}, moment(1))
    assert turn.records == []
    assert [type(step) for step in turn.actions] == kinds


@given(
    st.decimals(0, 10**12, allow_nan=False, allow_infinity=False, places=8).map(
        lambda value: format(abs(value), "f")
    )
)
def test_shares_are_rounded_half_even_and_make_one(ratio: str) -> None:
    """Four digits of r ÷ (1 + r), exactly."""
    long, short = shares(ratio)
    with localcontext(prec=100):
        share = Fraction(ratio) / (1 + Fraction(ratio))
        scaled = round(share * 10_000)  # of a Fraction: half-even
        assert Decimal(long) == (Decimal(scaled) / 10_000).quantize(
            Decimal("0.0001"), rounding=ROUND_HALF_EVEN
        )
    assert Decimal(long) + Decimal(short) == 1
    assert len(long) == len(short) == 6
