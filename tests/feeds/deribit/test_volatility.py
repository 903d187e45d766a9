"""Deribit sessions, as one would play the exchange by hand."""

import json
from urllib.parse import parse_qs, urlsplit

import captures
import msgspec
import pytest
from deribit_line import (
    BTC,
    CONFIG,
    ETH,
    SECOND,
    START,
    STREAM,
    Line,
    candles,
    moment,
    said,
    seconds,
    told,
)
from forms import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import Mutation, mutations

from marketprism import decimals
from marketprism.errors import Lost, RateLimited
from marketprism.feeds.actions import Close, Fetch, Fetched, FetchFailed, Output, Park, Reject, Send
from marketprism.feeds.deribit import DeribitDerivatives
from marketprism.records import DataType, Gap, VolatilityIndex
from marketprism.streams.state import Phase
from marketprism.streams.subscription import Subscription
from marketprism.wire import encode


def query(fetch: Fetch) -> dict[str, str]:
    """What a request asks for."""
    return {key: value for key, (value,) in parse_qs(urlsplit(fetch.url).query).items()}


# The protocol.


def test_it_asks_for_heartbeats_and_subscribes() -> None:
    """In JSON-RPC, at the documented address."""
    line = Line()
    assert line.session.url == "ws://stream.test/ws/api/v2"
    heartbeat, subscribe = said(line.outputs[0])
    assert (heartbeat["method"], heartbeat["params"]) == ("public/set_heartbeat", {"interval": 30})
    assert subscribe["method"] == "public/subscribe"
    assert subscribe["params"]["channels"] == [
        "deribit_volatility_index.btc_usd",
        "deribit_volatility_index.eth_usd",
    ]
    assert heartbeat["jsonrpc"] == subscribe["jsonrpc"] == "2.0"
    assert line.session.streams[STREAM].phase is Phase.ACKNOWLEDGED


def test_the_currencies_are_known_without_asking() -> None:
    """Those that have an index; the symbol is the bare currency."""
    venue = DeribitDerivatives(CONFIG)
    assert venue.metadata == ()
    assert [(one.symbol, one.native_id) for one in venue.instruments([])] == [
        ("BTC", "btc_usd"),
        ("ETH", "eth_usd"),
    ]
    assert venue.plan([]) == []
    assert venue.polls([]) == []


def test_a_test_request_is_answered() -> None:
    """Else the exchange closes; a plain heartbeat needs no answer."""
    line = Line()
    beat = {"jsonrpc": "2.0", "method": "heartbeat", "params": {"type": "heartbeat"}}
    assert line.hear(json.dumps(beat).encode()) == Output()
    beat["params"] = {"type": "test_request"}
    (test,) = said(line.hear(json.dumps(beat).encode()))
    assert test["method"] == "public/test"
    answer = {"jsonrpc": "2.0", "id": test["id"], "result": {"version": "1.2.26"}}
    assert line.hear(json.dumps(answer).encode()) == Output()


def test_a_channel_that_is_not_confirmed_is_parked() -> None:
    """The answer lists what was granted."""
    line = Line()
    session = (
        DeribitDerivatives(CONFIG).plan([Subscription(DataType.VOLATILITY_INDEX, BTC)])[0].open({})
    )
    number = said(session.opening(line.now))[1]["id"]
    frame = json.dumps({"jsonrpc": "2.0", "id": number, "result": []}).encode()
    (park,) = session.receive([frame], line.now).actions
    assert park == Park(STREAM, "the exchange has no such channel")
    assert session.streams[STREAM].phase is Phase.PARKED


def test_a_refused_request_is_divided_and_the_guilty_parked() -> None:
    """Of several channels in a request, those to blame are found, one half after the other."""
    line = Line()
    (shard,) = DeribitDerivatives(CONFIG).plan(
        [Subscription(DataType.VOLATILITY_INDEX, one) for one in (BTC, ETH)]
    )
    session = shard.open({})
    session.opening(line.now)
    error = {"jsonrpc": "2.0", "error": {"code": 11050, "message": "bad_request"}}
    turn = session.receive([json.dumps(error | {"id": 2}).encode()], line.now)
    (first,) = said(turn)
    assert first["params"]["channels"] == ["deribit_volatility_index.btc_usd"]
    granted = {"jsonrpc": "2.0", "id": 3, "result": first["params"]["channels"]}
    turn = session.receive([json.dumps(granted).encode()], line.now)
    (second,) = said(turn)
    assert second["params"]["channels"] == ["deribit_volatility_index.eth_usd"]
    turn = session.receive([json.dumps(error | {"id": 4}).encode()], line.now)
    assert Park((DataType.VOLATILITY_INDEX, "eth_usd"), "11050: bad_request") in turn.actions


def test_asking_too_much_ends_the_connection() -> None:
    """Deribit closes it, too; the next one waits."""
    error = {"jsonrpc": "2.0", "id": 9, "error": {"code": 10028, "message": "too_many_requests"}}
    turn = Line().hear(json.dumps(error).encode())
    (close,) = (step for step in turn.actions if isinstance(step, Close))
    assert isinstance(close.error, RateLimited)


def test_a_request_without_an_answer_ends_the_connection() -> None:
    """Nobody listens there, and nothing is told."""
    session = (
        DeribitDerivatives(CONFIG).plan([Subscription(DataType.VOLATILITY_INDEX, BTC)])[0].open({})
    )
    session.opening(moment(-60))
    session.sent(1, moment(0))
    assert session.tick(moment(14)).actions == []
    (close,) = session.tick(moment(16)).actions
    assert isinstance(close, Close)
    assert isinstance(close.error, Lost)


def test_streams_are_changed_on_the_live_connection() -> None:
    """One is left, one is joined."""
    line = Line()
    line.grant(
        line.did(line.session.change([], [Subscription(DataType.VOLATILITY_INDEX, ETH)], line.now))
    )
    turn = line.did(
        line.session.change([Subscription(DataType.VOLATILITY_INDEX, ETH)], [], line.now)
    )
    (join,) = said(line.grant(turn))
    assert join["params"]["channels"] == ["deribit_volatility_index.eth_usd"]
    turn = line.session.change([], [Subscription(DataType.VOLATILITY_INDEX, BTC)], line.now)
    (leave,) = said(turn)
    assert leave["method"] == "public/unsubscribe"
    assert line.hear(told(1), told(1, index="eth_usd")).records[0].instrument == ETH


# Values.


def test_a_value_gives_its_record_exactly() -> None:
    """In percent points, at the exchange's time."""
    line = Line()
    turn = line.hear(told(7))
    assert turn.records == [
        VolatilityIndex(
            BTC,
            START + 7 * SECOND,
            line.now.wall,
            volatility_index="47.55",
            currency="BTC",
            index_name="btc_usd",
        )
    ]
    assert encode(turn.records[0]).subject == "volatility-index-data.deribit.options.BTC"


@pytest.mark.parametrize(
    ("written", "published"),
    [
        ("47.55", "47.55"),
        ("47.0", "47.0"),
        ("47", "47"),
        ("47.123456789012345678", "47.123456789012345678"),
        ("4.755e1", "47.55"),
        ("4.755E+1", "47.55"),
        ("5e-9", "0.000000005"),
        ('"47.55"', "47.55"),
    ],
)
def test_a_value_is_published_as_it_was_written(written: str, published: str) -> None:
    """Never through a float; an exponent is written out."""
    (record,) = Line().hear(told(1, written)).records
    assert isinstance(record, VolatilityIndex)
    assert record.volatility_index == published


@pytest.mark.parametrize(
    "written",
    [
        "-1",
        "null",
        "true",
        "[]",
        "{}",
        '"NaN"',
        '""',
        '"1_0"',
        '"１"',
        "1e99",
        '"1e5000"',
        "9" * 65,
    ],
)
def test_what_is_no_number_is_rejected(written: str) -> None:
    """Whatever JSON it is."""
    (reject,) = Line().hear(told(1, written)).actions
    assert isinstance(reject, Reject)
    assert reject.reason == "bad number"


@given(st.decimals(0, 10**9, places=9, allow_nan=False).map(str))
def test_numbers_keep_their_value(text: str) -> None:
    """Written out, nothing is rounded."""
    plain = decimals.from_json(text.encode())
    assert "e" not in plain.lower()
    assert msgspec.json.decode(plain, type=float) == float(text)


def test_a_value_told_twice_is_published_once() -> None:
    """Its time is its id."""
    line = Line()
    assert seconds(line.hear(told(1), told(2), told(2), told(1), told(3)).records) == [1, 2, 3]


def test_a_wrong_time_does_not_silence_the_stream() -> None:
    """One that cannot be is told once, and costs nothing. Of one that can be, some values that seem
    to be past show that it was wrong: a gap.
    """
    line = Line()
    assert seconds(line.hear(told(1), told(9_000), told(2), told(9_000)).records) == [1, 9_000, 2]
    line.hear(told(52))
    assert seconds(line.hear(told(3), told(4), told(5), told(6)).records) == ["gap", 5, 6]


# Over a reconnect.


def test_what_was_missed_is_published_before_what_comes_next() -> None:
    """Second by second, at their ends, within the two live values; so there is no gap."""
    line = Line()
    line.hear(told(10.2))
    turn = line.reconnected(15.4)
    assert turn.records == []
    (fetch,) = (step for step in turn.actions if isinstance(step, Fetch))
    assert fetch.url.startswith("http://rest.test/api/v2/public/get_volatility_index_data?")
    assert query(fetch) == {
        "currency": "BTC",
        "start_timestamp": "1700000009200",
        "end_timestamp": "1700000015400",
        "resolution": "1",
    }
    assert line.hear(told(16.4)).records == []
    turn = line.answer(candles(9, 15))
    assert seconds(turn.records) == [11, 12, 13, 14, 15, 15.4, 16.4]
    values = [record for record in turn.records if isinstance(record, VolatilityIndex)]
    assert [value.volatility_index for value in values][:2] == ["40.01", "40.011"]
    assert seconds(line.hear(told(17.4)).records) == [17.4]
    assert line.cursors[STREAM].gap is None


def test_a_value_is_never_dated_before_it_was_known() -> None:
    """A minute says what the index was at its end; its last second says the same."""
    line = Line()
    line.hear(told(30))
    line.reconnected(30 + 1_200)
    assert query(line.fetches[-1])["resolution"] == "60"
    turn = line.answer(candles(0, 1_260, step=60))
    assert seconds(turn.records) == [*range(60, 1_230, 60), 1_230]
    assert encode(turn.records[0]).msg_id.endswith(":BTC:1700000060000")


def test_the_first_connection_asks_for_no_past() -> None:
    """Nobody wanted it."""
    turn = Line().hear(told(1))
    assert seconds(turn.records) == [1]
    assert turn.actions == []


def test_a_short_absence_needs_no_filling() -> None:
    """The index comes about once a second: there is nothing between."""
    line = Line()
    line.hear(told(1))
    turn = line.reconnected(2.5)
    assert seconds(turn.records) == [2.5]
    assert turn.actions == []


def test_the_same_value_over_a_reconnect_proves_that_nothing_was_missed() -> None:
    """And is published once."""
    line = Line()
    line.hear(told(1))
    assert line.reconnected(1).records == []
    assert seconds(line.hear(told(2)).records) == [2]
    assert line.cursors[STREAM].gap is None


def test_pages_are_followed_back() -> None:
    """A continuation is where the next page, of older candles, ends."""
    line = Line()
    line.hear(told(1))
    line.reconnected(600.5)
    older = 1_700_000_000_000 + 300_000
    (fetch,) = line.answer(candles(300, 600, continuation=older)).actions
    assert isinstance(fetch, Fetch)
    assert query(fetch)["end_timestamp"] == str(older)
    turn = line.answer(candles(0, 300))
    assert seconds(turn.records) == [*range(2, 601), 600.5]


def test_pages_without_end_are_not_followed_for_ever() -> None:
    """Five; what they leave open is a gap, before what they tell."""
    line = Line()
    line.hear(told(1))
    line.reconnected(900_000.5)
    for page in range(5):
        first = 900_000 - (page + 1) * 60_000
        older = 1_700_000_000_000 + first * 1000
        turn = line.answer(candles(first, first + 60_000, 60, older))
    assert len(line.fetches) == 5
    times = seconds(turn.records)
    assert times[0] == "gap"
    assert times[1:] == [*range(600_060, 900_001, 60), 900_000.5]


def test_a_continuation_that_goes_nowhere_is_not_followed() -> None:
    """It must be older than what was asked for, and newer than what is known."""
    for older in (1_700_000_000_000 + 60_500, 1_700_000_000_000, 1_800_000_000_000):
        line = Line()
        line.hear(told(1))
        line.reconnected(60.5)
        assert seconds(line.answer(candles(1, 60, continuation=older)).records)[-1] == 60.5


@pytest.mark.parametrize(
    "failure", [FetchFailed(None), FetchFailed(503), b"<html>", b'{"result":1}']
)
def test_a_failed_request_is_made_again_while_values_wait(failure: bytes | FetchFailed) -> None:
    """The network has only just come back."""
    line = Line()
    line.hear(told(1))
    line.reconnected(20.5)
    assert line.answer(failure).records == []
    assert line.wait(1.5).actions == []
    line.wait(1)
    assert len(line.fetches) == 2
    assert seconds(line.answer(candles(0, 20)).records) == [*range(2, 21), 20.5]


def test_what_cannot_be_had_is_a_gap_when_patience_ends() -> None:
    """Values wait thirty seconds, then go on, after the gap."""
    line = Line()
    line.hear(told(1))
    before = line.cursors[STREAM].received
    line.reconnected(20.5)
    for _ in range(20):
        line.answer(FetchFailed(503))
        line.wait(2)
    times = seconds(line.records)
    assert times == [1, "gap", 20.5]
    gap = next(record for record in line.records if isinstance(record, Gap))
    assert (gap.reason, gap.lost, gap.started_at) == ("disconnect", None, before)
    assert gap.affected is DataType.VOLATILITY_INDEX
    assert seconds(line.hear(told(40)).records) == [40]


def test_an_answer_after_patience_ended_changes_nothing() -> None:
    """What it holds would come too late."""
    line = Line()
    line.hear(told(1))
    line.reconnected(20.5)
    line.wait(31)
    assert seconds(line.records) == [1, "gap", 20.5]
    assert line.answer(candles(0, 20)) == Output()


def test_an_answer_to_an_earlier_request_changes_nothing() -> None:
    """The one under way counts."""
    line = Line()
    line.hear(told(1))
    line.reconnected(600.5)
    older = 1_700_000_000_000 + 300_000
    line.answer(candles(300, 600, continuation=older))
    late = Fetched(candles(500, 600), line.now.monotonic)
    assert line.session.reply(line.fetches[0].tag, late, line.now) == Output()
    assert seconds(line.answer(candles(0, 300)).records) == [*range(2, 601), 600.5]


def test_minutes_do_where_seconds_are_refused() -> None:
    """Which resolutions there are has changed before."""
    line = Line()
    line.hear(told(1))
    line.reconnected(500.5)
    line.answer(FetchFailed(400, None, b'{"error":{"code":-32602}}'))
    line.wait(2)
    assert query(line.fetches[-1])["resolution"] == "60"
    assert seconds(line.answer(candles(0, 480, 60)).records) == [*range(60, 500, 60), 500.5]
    line.reconnected(5_000)
    turn = line.answer(FetchFailed(400))
    assert seconds(turn.records) == ["gap", 5_000]


@pytest.mark.parametrize(
    ("rows", "published"),
    [
        (candles(0, -1), ["gap", 600.5]),
        (candles(0, 100), [*range(2, 102), "gap", 600.5]),
        (candles(400, 600), ["gap", *range(401, 601), 600.5]),
        (candles(300, 300), ["gap", 301, "gap", 600.5]),
    ],
    ids=["all", "its end", "its beginning", "all but one"],
)
def test_what_the_answer_leaves_open_is_a_gap(rows: bytes, published: list[float | str]) -> None:
    """Wherever it is, and before the value that ends it."""
    line = Line()
    line.hear(told(1))
    line.reconnected(600.5)
    assert seconds(line.answer(rows).records) == published


def stretches(line: Line) -> list[tuple[float, float]]:
    """Of its gaps the bounds, seconds into the test."""
    return [
        ((gap.started_at - START) / SECOND, (gap.ended_at - START) / SECOND)
        for gap in line.records
        if isinstance(gap, Gap)
    ]


def without(*missing: int, close: str | None = None, first: int = 0, last: int = 100) -> bytes:
    """Candles of each second but those that end with these; or those with another `close`."""
    answer = json.loads(candles(first, last))
    rows = answer["result"]["data"]
    for row in rows:
        if row[0] // 1000 + 1 - START // SECOND in missing:
            row[4] = None if close is None else row[4]
    kept = [row for row in rows if row[4] is not None]
    answer["result"]["data"] = kept if close is None else rows
    text = json.dumps(answer)
    for second in missing:
        text = text.replace(f"{40 + (second - 1) / 1000}]", f"{close}]")
    return text.encode()


def test_a_hole_with_one_candle_in_it_is_not_filled() -> None:
    """A hundred seconds, of which one value was left: two gaps say so, from value to value."""
    line = Line()
    line.seconds = 1.5
    line.hear(told(1))
    line.seconds = 101.6
    line.reconnected(101)
    line.answer(candles(40, 40))
    assert seconds(line.records) == [1, "gap", 41, "gap", 101]
    # The first one begins where the connection was last alive.
    assert stretches(line) == [(1.51, 41), (41, 101)]
    gaps = [record for record in line.records if isinstance(record, Gap)]
    assert [(gap.reason, gap.lost, gap.timestamp) for gap in gaps] == [
        ("disconnect", None, gap.ended_at) for gap in gaps
    ]
    assert len({encode(gap).msg_id for gap in gaps}) == 2
    assert all(gap.collected_at == line.now.wall for gap in gaps)
    assert line.cursors[STREAM].gap is None


@pytest.mark.parametrize("close", ["null", '"NaN"', "-1", "{}"])
def test_a_candle_without_a_close_is_one_that_is_not_there(close: str) -> None:
    """The others of its answer are; so each stretch without is a gap with its bounds."""
    line = Line()
    line.hear(told(1))
    line.seconds = 110
    line.reconnected(101)
    turn = line.answer(without(30, 31, 70, close=close))
    missing = {30: "gap", 70: "gap"}
    expected: list[float | str] = [missing.get(n, n) for n in range(2, 101) if n != 31]
    assert seconds(turn.records) == [*expected, 101]
    assert stretches(line) == [(29, 32), (69, 71)]
    rejects = [step for step in turn.actions if isinstance(step, Reject)]
    assert len(rejects) == (0 if close == "null" else 3)
    assert len(line.fetches) == 1


def test_one_candle_that_is_missing_is_a_gap() -> None:
    """Its neighbours are two steps apart."""
    line = Line()
    line.hear(told(1))
    line.seconds = 110
    line.reconnected(101)
    line.answer(without(50))
    assert stretches(line) == [(49, 51)]


@pytest.mark.parametrize(
    ("after", "before", "first"), [(1.007, 101.007, 3), (1.5, 101.999, 3), (1, 101, 2)]
)
def test_live_values_may_lie_anywhere_between_two_candles(
    after: float, before: float, first: int
) -> None:
    """The index comes about once a second: what is less than two apart misses nothing, also where
    the exchange has not made its latest candle yet.
    """
    line = Line()
    line.hear(told(after))
    line.reconnected(before)
    turn = line.answer(candles(first - 1, 99))
    assert seconds(turn.records) == [*range(first, 101), before]
    assert stretches(line) == []


def test_of_minutes_each_has_to_be_there() -> None:
    """They are what was asked for."""
    line = Line()
    line.hear(told(30))
    line.seconds = 7_300
    line.reconnected(7_230)
    rows = json.loads(candles(0, 7_200, step=60))
    del rows["result"]["data"][19:59]
    turn = line.answer(json.dumps(rows).encode())
    assert seconds(turn.records) == [*range(60, 1_200, 60), "gap", *range(3_600, 7_230, 60), 7_230]
    assert stretches(line) == [(1_140, 3_600)]


@pytest.mark.parametrize("older", [300, 600.5, 601, 0])
def test_a_continuation_that_does_not_move_leaves_a_gap(older: float) -> None:
    """Or points elsewhere: the asking ends, and what it did not reach is told."""
    line = Line()
    line.hear(told(1))
    line.seconds = 700
    line.reconnected(600.5)
    point = 1_700_000_000_000 + round(older * 1000)
    turn = line.answer(candles(400, 600, continuation=1_700_000_000_000 + 400_000))
    assert turn.records == []
    turn = line.answer(candles(399, 400, continuation=point if older != 300 else point + 100_000))
    assert seconds(turn.records) == ["gap", *range(400, 601), 600.5]
    assert len(line.fetches) == 2


@given(st.sets(st.integers(2, 60), max_size=50), st.integers(0, 999), st.integers(0, 999))
def test_each_stretch_without_candles_is_a_gap_with_its_bounds(
    rows: set[int], after: int, before: int
) -> None:
    """Whichever there are: between two values that are two seconds apart or more, and no others,
    stands one, from the one to the other. The first one begins where the connection was last alive.
    """
    line = Line()
    line.seconds = 1
    line.hear(told(1 + after / 1000))
    alive = line.now.wall
    line.seconds = 70
    line.reconnected(61 + before / 1000)
    answer = json.loads(candles(0, 61))
    answer["result"]["data"] = [answer["result"]["data"][number - 1] for number in sorted(rows)]
    line.answer(json.dumps(answer).encode())
    expected: list[int | tuple[int, int]] = [1_000 + after]
    for time in (*(number * 1_000 for number in sorted(rows)), 61_000 + before):
        earlier = expected[-1]
        assert isinstance(earlier, int)
        if time - earlier >= 2_000:
            started = (alive - START) // 1_000_000 if len(expected) == 1 else earlier
            expected.append((started, time))
        expected.append(time)
    found = [
        ((record.started_at - START) // 1_000_000, (record.ended_at - START) // 1_000_000)
        if isinstance(record, Gap)
        else ((record.timestamp or 0) - START) // 1_000_000
        for record in line.records
    ]
    assert found == expected


def test_too_many_values_do_not_wait() -> None:
    """What is held is bounded."""
    line = Line()
    line.hear(told(1))
    line.reconnected(20.5)
    for number in range(1_000):
        line.hear(told(21 + number / 1000))
    assert seconds(line.records)[:3] == [1, "gap", 20.5]
    assert len(line.records) == 1_003


def test_values_that_wait_when_the_connection_is_lost_again_are_asked_for_anew() -> None:
    """They were never published, so the hole begins where it began."""
    line = Line()
    line.hear(told(1))
    line.reconnected(20.5)
    line.hear(told(21.5))
    line.reconnected(40.5)
    assert query(line.fetches[-1])["start_timestamp"] == "1700000000000"
    assert seconds(line.answer(candles(0, 40)).records) == [*range(2, 41), 40.5]


def test_a_renewed_stream_is_filled_like_a_lost_one() -> None:
    """It was suspect: what came meanwhile is asked for; the other one is not touched."""
    line = Line()
    line.hear(told(1), told(1, index="eth_usd"))
    line.did(line.session.renew(STREAM, line.now))
    turn = line.grant(line.wait(0.25))
    assert [body["method"] for body in said(turn)] == ["public/unsubscribe", "public/subscribe"]
    turn = line.hear(told(9.5), told(9.5, index="eth_usd"))
    assert [record.instrument for record in turn.records] == [ETH]
    assert seconds(line.answer(candles(0, 9)).records) == [*range(2, 10), 9.5]
    assert line.session.send_snapshot(STREAM, 1, line.now) == Output()


# Bad frames.


BAD: list[tuple[bytes, str]] = [
    (b'{"jsonrpc"', "not JSON"),
    (b"\xff\xfe\x00", "not JSON"),
    (b"[" * 100_000, "unfit message"),
    (b"[1,2]", "unfit message"),
    (b"{}", "unknown message"),
    (b'{"method":"elsewhere"}', "unknown message"),
    (b'{"method":"subscription"}', "unfit message"),
    (b'{"method":"heartbeat","params":{}}', "unfit message"),
    (b'{"id":99,"result":"ok"}', "unknown answer"),
    (b'{"error":{"code":-32600}}', "request refused"),
    (told(1, index="sol_usd"), "unknown channel"),
    (told(1).replace(b'index.btc_usd"', b'index.eth_usd"'), "unknown channel"),
    (told(10**12), "unfit message"),
    (told(-(10**10)), "unfit message"),
]


@pytest.mark.parametrize(("frame", "reason"), BAD, ids=lambda value: str(value)[:40])
def test_a_bad_frame_is_rejected_beside_its_good_neighbours(frame: bytes, reason: str) -> None:
    """Counted under a reason; nothing else is disturbed."""
    turn = Line().hear(told(1), frame, told(2))
    assert seconds(turn.records) == [1, 2]
    (reject,) = turn.actions
    assert isinstance(reject, Reject)
    assert reject.reason == reason


@settings(max_examples=examples(500), deadline=None)
@given(mutate=st.lists(mutations(), min_size=1, max_size=8))
def test_a_mutated_frame_gives_nothing_worse_than_a_reject(mutate: list[Mutation]) -> None:
    """No exception, whatever it is turned into; values keep their order."""
    line = Line()
    beat = b'{"jsonrpc":"2.0","method":"heartbeat","params":{"type":"test_request"}}'
    line.hear(told(1))
    for number, change in enumerate(mutate):
        line.hear(change(told(number + 2)), change(beat))
    line.reconnected(60.5)
    if line.fetches:
        line.answer(mutate[0](candles(0, 60)))
    line.wait(31)
    actions = [step for turn in line.outputs for step in turn.actions]
    assert all(isinstance(step, Fetch | Reject | Send) for step in actions if not _overdue(step))


def _overdue(step: object) -> bool:
    """Nobody answers the tests that mutated heartbeats asked for."""
    return isinstance(step, Close) and "public/test" in str(step.error)


def test_a_candle_that_cannot_be_read_costs_itself() -> None:
    """A time that is none, a row too short: its neighbours fill what they can; the stretch without
    is a gap. A null close is no row, and no reject; a row may grow.
    """
    line = Line()
    line.hear(told(0))
    line.reconnected(10)
    page = json.loads(candles(0, 8))
    rows = page["result"]["data"]
    rows[2][4] = None
    rows[3][0] = 253_402_300_799_999
    rows[4] = rows[4][:4]
    rows[5] += [1, {"a": None}]
    rows[6][1:4] = None, {}, "x"
    turn = line.answer(json.dumps(page).encode())
    assert [type(step) for step in turn.actions] == [Reject] * 2
    assert seconds(turn.records) == [1, 2, "gap", 6, 7, 8, 9, 10]


# The documentation's own examples.


def test_the_documented_notification_is_read() -> None:
    """As nautilus has copied it."""
    (line,) = (
        line
        for line in captures.lines("deribit/singles_nautilus.jsonl")
        if line["name"] == "ws_volatility_index.json"
    )
    (record,) = Line().hear(json.dumps(line["body"]).encode()).records
    assert isinstance(record, VolatilityIndex)
    assert record.volatility_index == "129.36"
    assert record.timestamp == 1_619_777_946_007 * 1_000_000


def test_the_documented_candles_fill_a_hole() -> None:
    """Their closes, digit for digit, at their ends."""
    (line,) = captures.lines("deribit/dvol_documented.jsonl")
    first = line["body"]["result"]["data"][0][0] / 1000 - START / SECOND
    played = Line()
    played.hear(told(first))
    played.reconnected(first + 2_000)
    turn = played.answer(json.dumps(line["body"]).encode())
    values = [record for record in turn.records if isinstance(record, VolatilityIndex)]
    assert [value.volatility_index for value in values][:3] == [
        "0.212860821",
        "0.212987527",
        "0.212992597",
    ]
    assert seconds(turn.records) == [
        *(first + minute for minute in (60, 120, 180)),
        "gap",
        first + 2_000,
    ]


def test_recorded_messages_of_other_channels_are_no_values() -> None:
    """Real ones, of 2021 to 2026: rejected, one and all, and nothing else."""
    line = Line()
    for other in captures.lines("deribit/ws_2026-08_ccxt.jsonl"):
        assert line.hear(json.dumps(other["raw"]).encode()).records == []
    for other in captures.lines("deribit/crypto_msg_parser.jsonl"):
        assert line.hear(other["raw"].encode()).records == []
    for message in captures.capture("deribit/capture_2021-07-22_book_ticker_options.jsonl"):
        if message.kind == "recv":
            assert line.hear(message.raw).records == []
    assert all(isinstance(step, Reject) for turn in line.outputs[3:] for step in turn.actions)
