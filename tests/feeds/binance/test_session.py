"""Binance sessions, as one would play the exchange by hand."""

import json
from collections.abc import Sequence
from typing import Any

import attrs
import pytest
from consumer import Consumer
from depth import Chain
from forms import examples
from hand_played import HandPlayed
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import Mutation, mutations

from marketprism.clock import Timestamp
from marketprism.feeds.actions import (
    Close,
    Fetch,
    Fetched,
    FetchFailed,
    Output,
    Park,
    Reject,
    Rotate,
    Send,
)
from marketprism.feeds.binance import BinanceSpot
from marketprism.feeds.venue import Holding, Session
from marketprism.instruments import Instrument
from marketprism.records import DataType, Gap, OrderBookRecord, Trade
from marketprism.settings.exchanges import Api, OrderbookOptions, TradeOptions, VenueConfig
from marketprism.streams.cursor import Cursor
from marketprism.streams.state import Phase
from marketprism.streams.subscription import Stream, Subscription
from marketprism.wire import encode

BTC = Instrument("binance", "spot", "BTC-USDT", "BTCUSDT", "BTC", "USDT")
BOOK: Stream = (DataType.ORDERBOOK, "BTCUSDT")
TRADES: Stream = (DataType.TRADE, "BTCUSDT")
SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND

CONFIG = VenueConfig(
    "binance_spot",
    Api("http://rest.test", "ws://stream.test"),
    ("BTC-USDT",),
    (DataType.ORDERBOOK, DataType.TRADE),
)


def moment(seconds: float) -> Timestamp:
    """So many seconds into the test, on both clocks."""
    return Timestamp(START + round(seconds * SECOND), round(seconds * SECOND))


@attrs.define
class Line(HandPlayed):
    """A session, the exchange's end of its line, and the consumer of what it publishes."""

    config: VenueConfig = CONFIG
    cursors: dict[Stream, Cursor] = attrs.field(factory=dict)
    consumer: Consumer = attrs.field(factory=Consumer)
    seconds: float = 0.0
    outputs: list[Output] = attrs.field(factory=list)
    fetches: list[Fetch] = attrs.field(factory=list)
    session: Session = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.connect()

    def connect(self) -> None:
        """Dial (again): subscribe, and confirm all that is asked for."""
        venue = BinanceSpot(self.config)
        subscriptions = [Subscription(data_type, BTC) for data_type in self.config.data_types]
        (shard,) = venue.plan(subscriptions)
        for subscription in subscriptions:
            self.cursors.setdefault(subscription.stream, Cursor())
        self.fetches.clear()
        self.session = shard.open(self.cursors)
        turn = self.did(self.session.opening(self.now))
        said = [step for step in turn.actions if isinstance(step, Send)]
        said += [fetch.before for fetch in self.fetches if fetch.before is not None]
        for send in said:
            number = json.loads(send.payload)["id"]
            self.hear(json.dumps({"result": None, "id": number}).encode())

    def cut(self) -> None:
        """The connection is lost."""
        for cursor in self.cursors.values():
            cursor.lose("disconnect", "of a test")

    @property
    def now(self) -> Timestamp:
        return moment(self.seconds)

    def did(self, turn: Output) -> Output:
        self.outputs.append(turn)
        self.leave(turn)
        self.fetches += [step for step in turn.actions if isinstance(step, Fetch)]
        for record in turn.records:
            self.consumer.take(encode(record).payload)
        return turn

    def synchronise(self, chain: Chain, number: int = 0) -> None:
        """Answer until the book lives: with the exchange's book before the update `number`."""
        for _ in range(20):
            if self.session.streams[BOOK].phase is Phase.LIVE:
                return
            asked = len(self.fetches)
            self.answer(chain.snapshot(number))
            if self.session.streams[BOOK].phase is not Phase.LIVE:
                self.wait(40)
                assert len(self.fetches) > asked, "a retry is due"
        raise AssertionError("the book never lived")


def trade(number: int, **changes: object) -> bytes:
    """A raw trade's frame."""
    fields = {
        "e": "trade",
        "E": 1_700_000_000_000 + number,
        "s": "BTCUSDT",
        "t": number,
        "p": "100.50",
        "q": "0.25",
        "T": 1_700_000_000_000 + number,
        "m": True,
        "M": True,
    }
    return json.dumps(fields | changes).encode()


def only_gap(turn: Output) -> Gap:
    """The one gap among a turn's records."""
    (gap,) = (record for record in turn.records if isinstance(record, Gap))
    return gap


def test_it_subscribes_by_command_and_takes_a_book_when_its_snapshot_is_granted() -> None:
    """Trades at once; a book's subscription goes out with the request for its snapshot."""
    line = Line()
    turn = line.outputs[0]
    (send,) = (step for step in turn.actions if isinstance(step, Send))
    assert line.session.url == "ws://stream.test/ws"
    assert json.loads(send.payload)["method"] == "SUBSCRIBE"
    assert json.loads(send.payload)["params"] == ["btcusdt@trade"]
    (fetch,) = line.fetches
    assert fetch.url == "http://rest.test/api/v3/depth?symbol=BTCUSDT&limit=500"
    assert fetch.weight == 25
    assert fetch.before is not None
    assert json.loads(fetch.before.payload)["params"] == ["btcusdt@depth@100ms"]


@pytest.mark.parametrize(
    ("depth", "limit", "weight"),
    [(1, 100, 5), (100, 100, 5), (101, 500, 25), (1000, 1000, 50), (9999, 5000, 250)],
)
def test_the_depth_fetched_is_the_smallest_on_offer_that_suffices(
    depth: int, limit: int, weight: int
) -> None:
    """At least what is published, else the largest, at the documented weight."""
    line = Line(attrs.evolve(CONFIG, orderbook=OrderbookOptions(depth=depth)))
    assert line.fetches[0].url.endswith(f"limit={limit}")
    assert line.fetches[0].weight == weight


def test_a_trade_gives_its_record_exactly() -> None:
    """Every field as the exchange said it; the taker sells when the buyer made the market."""
    turn = Line().hear(trade(7))
    assert turn.records == [
        Trade(
            BTC,
            1_700_000_000_007 * 1_000_000,
            moment(0.03).wall,
            trade_id="7",
            price="100.50",
            quantity="0.25",
            side="sell",
            is_maker=True,
        )
    ]


def test_an_aggregate_trade_names_its_first_and_last() -> None:
    """`aggTrade` gives kind, first and last trade id, and its own id."""
    line = Line(attrs.evolve(CONFIG, trade=TradeOptions("aggregated")))
    frame = trade(7, e="aggTrade", a=9, f=20, l=22, m=False)
    (record,) = line.hear(frame).records
    assert isinstance(record, Trade)
    assert (record.trade_id, record.trade_kind, record.side) == ("9", "aggregated", "buy")
    assert (record.first_trade_id, record.last_trade_id) == ("20", "22")


def test_missing_trades_are_one_gap_that_names_them() -> None:
    """The ids between are the gap's, counted."""
    line = Line()
    turn = line.hear(trade(7), trade(11))
    gap = only_gap(turn)
    assert (gap.affected, gap.reason) == (DataType.TRADE, "sequence")
    assert (gap.first_missing_id, gap.last_missing_id, gap.lost) == (8, 10, 3)
    assert not line.consumer.faults


def test_a_repeated_trade_is_published_once() -> None:
    """An id that has passed is no news."""
    line = Line()
    line.hear(trade(7), trade(8), trade(7), trade(8), trade(9))
    assert line.consumer.trades == {"BTC-USDT": [7, 8, 9]}
    assert line.session.streams[TRADES].duplicates == 2
    assert not line.consumer.gaps


def test_two_losses_in_one_batch_are_two_gaps_with_ids_of_their_own() -> None:
    """Message ids are made of `started_at`; equal ones would lose a gap in the stream."""
    turn = Line().hear(trade(1), trade(3), trade(5))
    ids = {encode(record).msg_id for record in turn.records}
    assert len(ids) == len(turn.records) == 5


def test_a_trade_told_again_later_is_a_duplicate_all_the_same() -> None:
    """The same id is the same trade, whatever time it is told with."""
    line = Line()
    line.hear(trade(7), trade(7, T=1_700_000_009_999), trade(8))
    assert line.consumer.trades["BTC-USDT"] == [7, 8]
    assert not line.consumer.gaps


def test_an_odd_row_of_the_metadata_costs_itself_alone() -> None:
    """A symbol that cannot be read is none; the others are."""
    rows = [
        {"symbol": "BTCUSDT", "status": "TRADING", "baseAsset": "BTC", "quoteAsset": "USDT"},
        {"symbol": "ODD", "status": 7},
    ]
    (one,) = BinanceSpot(CONFIG).instruments([json.dumps({"symbols": rows}).encode()])
    assert one.symbol == "BTC-USDT"
    with pytest.raises(ValueError, match="exchangeInfo"):
        BinanceSpot(CONFIG).instruments([json.dumps({"symbols": rows[1:]}).encode()])


def test_a_reconnect_without_loss_has_no_gap() -> None:
    """The next id proves that nothing was missed, whatever happened to the connection."""
    line = Line()
    line.hear(trade(7))
    line.cut()
    line.connect()
    line.hear(trade(8))
    assert not line.consumer.gaps
    assert line.cursors[TRADES].gap is None


def test_a_reconnect_with_loss_has_one_gap_that_names_it() -> None:
    """From the last record to the first new one, with the ids between."""
    line = Line()
    line.hear(trade(7))
    before = line.cursors[TRADES].received
    line.cut()
    line.seconds += 5
    line.connect()
    gap = only_gap(line.hear(trade(10)))
    assert (gap.reason, gap.first_missing_id, gap.last_missing_id) == ("disconnect", 8, 9)
    assert gap.started_at >= (before or 0)
    assert gap.ended_at == line.now.wall


def test_trade_ids_that_start_over_do_not_silence_the_stream() -> None:
    """A lower id at a later time is a new count: a gap of unknown size, and on it goes."""
    line = Line()
    line.hear(trade(700), trade(3, T=1_700_000_001_000), trade(4, T=1_700_000_001_000))
    assert line.consumer.trades["BTC-USDT"] == [700, 3, 4]
    (gap,) = line.consumer.gaps
    assert gap["lost"] is None


@settings(max_examples=examples(300), deadline=None)
@given(
    seed=st.integers(0, 2**32),
    heard_from=st.integers(0, 10),
    heard_to=st.integers(0, 20),
    taken_at=st.integers(0, 25),
    batches=st.lists(st.integers(1, 5), max_size=30),
)
def test_any_order_of_snapshot_and_updates_gives_the_true_book(
    seed: int, heard_from: int, heard_to: int, taken_at: int, batches: list[int]
) -> None:
    """Whenever the stream begins, the snapshot is taken and it arrives: what is published chains,
    and rebuilds the exchange's book.
    """
    chain = Chain.made(seed, 30)
    heard_to = max(heard_from, heard_to)
    line = Line()
    if heard_to > heard_from:
        line.hear(*(chain.frame(n) for n in range(heard_from, heard_to)))
    # What is asked after the stream stands cannot be older than what was sent before it.
    taken_at = max(taken_at, heard_from) if heard_to == heard_from else taken_at
    line.answer(chain.snapshot(taken_at))
    if taken_at > heard_to:
        line.hear(*(chain.frame(n) for n in range(heard_to, taken_at)))
        heard_to = taken_at
    line.synchronise(chain, heard_to)
    rest = [chain.frame(n) for n in range(heard_to, 30)]
    for size in batches:
        line.hear(*rest[:size])
        del rest[:size]
    line.hear(*rest)
    book = line.consumer.books["BTC-USDT"]
    assert line.consumer.faults == []
    assert (book.last_id, book.bids, book.asks) == attrs.astuple(chain.truths[-1])
    assert line.consumer.gaps == []


@settings(max_examples=examples(300), deadline=None)
@given(
    seed=st.integers(0, 2**32),
    lost=st.sets(st.integers(3, 27), min_size=1, max_size=4),
    repeated=st.sets(st.integers(0, 29), max_size=4),
)
def test_lost_and_repeated_updates_leave_one_gap_a_loss_and_the_true_book(
    seed: int, lost: set[int], repeated: set[int]
) -> None:
    """A loss is a gap, then a snapshot; a repetition is nothing; the end is the exchange's book."""
    chain = Chain.made(seed, 30)
    line = Line()
    line.synchronise(chain)
    losses = 0
    for number in range(30):
        if number in lost:
            continue
        frames = [chain.frame(number)] * (2 if number in repeated else 1)
        line.hear(*frames)
        if line.session.streams[BOOK].phase is not Phase.LIVE:
            losses += 1
            line.synchronise(chain, number + 1)
    book = line.consumer.books["BTC-USDT"]
    assert line.consumer.faults == []
    assert len(line.consumer.gaps) == losses
    assert (book.last_id, book.bids, book.asks) == attrs.astuple(chain.truths[-1])


def test_a_gap_of_a_book_names_the_ids_that_its_snapshot_stands_for() -> None:
    """From the last published id to the snapshot's; the snapshot carries the gap in its id."""
    chain = Chain.made(1, 10)
    line = Line()
    line.synchronise(chain)
    line.hear(chain.frame(0))
    line.hear(chain.frame(2))
    assert [step.priority.name for step in line.outputs[-1].actions if isinstance(step, Fetch)] == [
        "RESYNC"
    ]
    gap, snapshot = line.answer(chain.snapshot(3)).records
    assert isinstance(gap, Gap)
    assert isinstance(snapshot, OrderBookRecord)
    first, last = chain.truths[1].last_id + 1, chain.truths[3].last_id
    assert (gap.first_missing_id, gap.last_missing_id) == (first, last)
    assert gap.lost == last - first + 1
    assert encode(snapshot).msg_id.endswith(f"snapshot:{last}:{gap.started_at // 1_000_000}")


def test_a_book_that_stood_still_over_a_reconnect_has_no_gap() -> None:
    """The snapshot is at the very id that was published last, so nothing is missing."""
    chain = Chain.made(1, 4)
    line = Line()
    line.synchronise(chain)
    line.hear(chain.frame(0))
    line.cut()
    line.connect()
    line.answer(chain.snapshot(1))
    line.hear(chain.frame(1))
    assert line.consumer.gaps == []
    assert line.consumer.faults == []


def test_a_book_whose_updates_join_over_a_reconnect_has_no_gap() -> None:
    """The first update of the new connection continues the last of the old one: all of them are
    published, those within the snapshot before it.
    """
    chain = Chain.made(1, 6)
    line = Line()
    line.synchronise(chain)
    line.hear(chain.frame(0))
    line.cut()
    line.connect()
    line.hear(chain.frame(1), chain.frame(2), chain.frame(3))
    line.answer(chain.snapshot(3))
    assert line.consumer.gaps == []
    assert line.consumer.faults == []
    assert line.consumer.books["BTC-USDT"].updates == 4


def test_a_snapshot_older_than_what_was_published_is_asked_for_again() -> None:
    """A book never goes back in time."""
    chain = Chain.made(1, 8)
    line = Line()
    line.synchronise(chain)
    line.hear(*(chain.frame(n) for n in range(5)))
    line.cut()
    line.connect()
    assert line.answer(chain.snapshot(2)).records == []
    line.wait(1)
    assert line.answer(chain.snapshot(5)).records != []
    assert line.consumer.faults == []


@pytest.mark.parametrize("heard", [False, True])
def test_ids_that_start_over_must_be_shown_by_the_stream(heard: bool) -> None:
    """However often a host answers with an old book: it may be a cache. With the stream's own
    word for it the book goes on, after a gap.
    """
    chain, anew = Chain.made(1, 8, first=9_000), Chain.made(1, 8)
    line = Line()
    line.synchronise(chain)
    line.hear(*(chain.frame(n) for n in range(5)))
    line.cut()
    line.connect()
    if heard:
        line.hear(anew.frame(0))
    for _ in range(4):
        line.answer(anew.snapshot(1))
        line.wait(5)
    assert (line.session.streams[BOOK].phase is Phase.LIVE) is heard
    if heard:
        line.hear(*(anew.frame(n) for n in range(1, 8)))
        assert line.consumer.books["BTC-USDT"].last_id == anew.truths[-1].last_id
        (gap,) = line.consumer.gaps
        assert (gap["first_missing_id"], gap["lost"]) == (None, None)
        return
    line.answer(chain.snapshot(5))
    line.hear(*(chain.frame(n) for n in range(5, 8)))
    assert line.consumer.gaps == []
    assert line.consumer.faults == []


def test_a_quiet_book_is_not_believed_before_its_subscription_stands() -> None:
    """A snapshot asked for earlier may lack an update that nobody was sent."""
    line = Line()
    line.session = (
        BinanceSpot(CONFIG).plan([Subscription(DataType.ORDERBOOK, BTC)])[0].open(line.cursors)
    )
    line.fetches.clear()
    line.did(line.session.opening(line.now))
    assert line.answer(Chain.made(1, 1).snapshot(0)).records == []
    assert line.session.streams[BOOK].phase is Phase.WANTED


@pytest.mark.parametrize("status", [None, 500, 429, 403])
def test_a_failed_snapshot_is_asked_for_again_later(status: int | None) -> None:
    """Not at once, and not before the host allows it."""
    line = Line()
    chain = Chain.made(1, 3)
    line.answer(FetchFailed(status, retry_after=5.0 if status == 429 else None))
    asked = len(line.fetches)
    line.wait(4.5)
    assert len(line.fetches) == asked + (status != 429)
    line.wait(1)
    line.synchronise(chain)
    assert line.consumer.gaps == []


def test_an_answer_that_comes_too_late_is_dropped() -> None:
    """Its attempt has been given up; the one under way counts."""
    chain = Chain.made(1, 6)
    line = Line()
    first = line.fetches[-1]
    line.answer(FetchFailed(None))
    line.wait(2)
    late = Fetched(chain.snapshot(0), line.now.monotonic)
    assert line.session.reply(first.tag, late, line.now) == Output()


def test_an_unknown_symbol_is_parked_and_disturbs_nobody() -> None:
    """The exchange's own word for it; trades go on. It is asked for again after half a minute, then
    slowly, and lives when the exchange knows it.
    """
    line, chain = Line(), Chain.made(1, 6)
    body = b'{"code":-1121,"msg":"Invalid symbol."}'
    (park,) = line.answer(FetchFailed(400, None, body)).actions
    assert isinstance(park, Park)
    assert line.session.streams[BOOK].phase is Phase.PARKED
    asked = len(line.fetches)
    line.wait(29)
    assert len(line.fetches) == asked
    assert line.hear(trade(1)).records
    line.wait(2)
    assert len(line.fetches) == asked + 1
    assert line.answer(FetchFailed(400, None, body)).actions == []
    line.wait(290)
    assert len(line.fetches) == asked + 1
    line.wait(15)
    assert len(line.fetches) == asked + 2
    line.answer(chain.snapshot(0))
    assert line.session.streams[BOOK].phase is Phase.LIVE


def test_an_unknown_symbol_that_speaks_is_known() -> None:
    """Its update asks for the book at once, whatever REST said."""
    line, chain = Line(), Chain.made(1, 6)
    line.answer(FetchFailed(400, None, b'{"code":-1121,"msg":"Invalid symbol."}'))
    asked = len(line.fetches)
    line.hear(chain.frame(0))
    assert len(line.fetches) == asked + 1
    line.answer(chain.snapshot(0))
    assert line.session.streams[BOOK].phase is Phase.LIVE
    assert line.consumer.faults == []


def refusal(number: int, code: int = 2, msg: str = "Invalid request") -> bytes:
    """Binance's answer to a command that it refuses."""
    return json.dumps({"error": {"code": code, "msg": msg}, "id": number}).encode()


def commands(outputs: Sequence[Output]) -> list[dict[str, Any]]:
    """What these say to the exchange."""
    actions = [step for turn in outputs for step in turn.actions]
    said = [step.before if isinstance(step, Fetch) else step for step in actions]
    return [json.loads(send.payload) for send in said if isinstance(send, Send)]


@attrs.define
class Trades(HandPlayed):
    """A session of so many streams of trades, and what it says."""

    count: int
    seconds: float = 0.0
    refused_retry: float = 300.0
    outputs: list[Output] = attrs.field(factory=list)
    fetches: list[Fetch] = attrs.field(factory=list)
    session: Session = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        names = [f"X{number}" for number in range(self.count)]
        pairs = [Instrument("binance", "spot", f"{x}-USDT", f"{x}USDT", x, "USDT") for x in names]
        subscriptions = [Subscription(DataType.TRADE, pair) for pair in pairs]
        cursors = {subscription.stream: Cursor() for subscription in subscriptions}
        self.session = BinanceSpot(CONFIG).plan(subscriptions)[0].open(cursors, self.refused_retry)
        self.did(self.session.opening(self.now))

    @property
    def now(self) -> Timestamp:
        return moment(self.seconds)

    def did(self, turn: Output) -> Output:
        self.outputs.append(turn)
        self.leave(turn)
        return turn

    @property
    def said(self) -> list[dict[str, Any]]:
        return commands(self.outputs)

    def trade(self, number: int, trade_id: int) -> Output:
        """One of the stream of that number."""
        return self.hear(trade(trade_id, s=f"X{number}USDT"))

    def phase(self, number: int) -> Phase:
        return self.session.streams[DataType.TRADE, f"X{number}USDT"].phase

    def accept(self, body: dict[str, Any]) -> Output:
        return self.hear(json.dumps({"result": None, "id": body["id"]}).encode())


def test_a_refused_command_is_divided_and_the_guilty_parked() -> None:
    """Half by half, one command after the other; the others are confirmed."""
    line = Trades(60)
    bad = "x17usdt@trade"
    answered = 0
    while answered < len(line.said):
        body = line.said[answered]
        answered += 1
        if bad in body["params"]:
            line.hear(refusal(body["id"]))
        else:
            line.accept(body)
    assert len(line.said) <= 1 + 2 * 6
    parked = [step for turn in line.outputs for step in turn.actions if isinstance(step, Park)]
    assert parked == [Park((DataType.TRADE, "X17USDT"), "2: Invalid request")]
    assert line.phase(17) is Phase.PARKED
    others = {line.phase(number) for number in range(60) if number != 17}
    assert others == {Phase.ACKNOWLEDGED}


def test_what_is_refused_is_asked_for_again_and_lives_when_it_is_granted() -> None:
    """After half a minute at most, then every `refused_retry`; the board says why meanwhile."""
    line = Trades(1)
    for _ in range(3):
        line.hear(refusal(line.said[-1]["id"]))
        state = line.session.streams[DataType.TRADE, "X0USDT"]
        assert (state.phase, state.detail) == (Phase.PARKED, "2: Invalid request")
        asked, since = len(line.said), line.seconds
        while len(line.said) == asked:
            line.wait(0.25)
        assert line.seconds - since <= (30.5 if asked == 1 else 300.5)
    parks = [step for turn in line.outputs for step in turn.actions if isinstance(step, Park)]
    assert len(parks) == 1, "said once"
    line.accept(line.said[-1])
    assert line.phase(0) is Phase.ACKNOWLEDGED
    assert line.trade(0, 1).records


@pytest.mark.parametrize("code", [0, 1, 4, -1, -1003, -1008])
def test_a_refusal_that_passes_is_asked_for_again_at_once(code: int) -> None:
    """All but three codes may pass: refused twice, then granted."""
    line = Trades(5)
    line.hear(refusal(line.said[-1]["id"], code))
    assert {line.phase(number) for number in range(5)} == {Phase.PARKED}
    line.wait(1)
    line.hear(refusal(line.said[-1]["id"], code))
    line.wait(2)
    line.accept(line.said[-1])
    line.wait(0.25)
    line.accept(line.said[-1])
    assert {line.phase(number) for number in range(5)} == {Phase.ACKNOWLEDGED}


@pytest.mark.parametrize(
    "form",
    [
        {"error": {"code": 2, "msg": "Invalid request"}},
        {"error": {"code": 2, "msg": "Invalid request"}, "id": None},
        {"code": 2, "msg": "Invalid request"},
        {"code": 2, "msg": "Invalid request", "id": None},
        {"code": 2, "msg": "Invalid request", "id": "1"},
        {"id": 1, "status": 400, "error": {"code": 2, "msg": "Invalid request", "data": {}}},
    ],
)
def test_an_error_of_any_form_divides_what_is_not_confirmed(form: dict[str, Any]) -> None:
    """Flat, without an id, with none: what does not speak is asked for again, half by half."""
    line = Trades(5)
    line.trade(0, 1)
    line.hear(json.dumps(form).encode())
    assert line.phase(0) is Phase.LIVE
    asked = []
    for _ in range(4):
        asked += line.said[-1]["params"]
        line.accept(line.said[-1])
    assert {line.phase(number) for number in range(1, 5)} == {Phase.ACKNOWLEDGED}
    assert set(asked) >= {f"x{number}usdt@trade" for number in range(1, 5)}


@pytest.mark.parametrize(
    "form",
    [
        {"result": None, "id": "1"},
        {"result": [], "id": 1},
        {"result": None, "id": 1, "status": 200},
        {"response": "ok", "id": 1, "rateLimits": [{"limit": 5}]},
        {"id": 1, "code": 200, "msg": "ok"},
    ],
)
def test_an_acknowledgement_of_any_form_confirms(form: dict[str, Any]) -> None:
    """Its id is what counts."""
    line = Trades(2)
    turn = line.hear(json.dumps(form).encode())
    assert turn.actions == []
    assert {line.phase(0), line.phase(1)} == {Phase.ACKNOWLEDGED}


def test_a_lost_acknowledgement_costs_nothing_while_data_flows() -> None:
    """What speaks is confirmed; nothing is cut, nothing asked for again."""
    line = Trades(2)
    for second in range(60):
        line.trade(0, second + 1)
        line.trade(1, second + 1)
        line.wait(1)
    assert len(line.said) == 1
    assert not [
        step for turn in line.outputs for step in turn.actions if not isinstance(step, Send)
    ]


def test_what_is_not_answered_and_silent_is_asked_for_again_and_then_ends_the_connection() -> None:
    """Ten seconds each; nobody listens there."""
    line = Trades(1)
    line.wait(9)
    assert len(line.said) == 1
    line.wait(1.5)
    assert len(line.said) == 2
    line.wait(8)
    actions = [step for turn in line.outputs for step in turn.actions]
    assert not any(isinstance(step, Close) for step in actions)
    line.wait(2.5)
    assert any(isinstance(step, Close) for turn in line.outputs for step in turn.actions)


def test_one_that_is_not_answered_does_not_end_those_that_speak() -> None:
    """Another connection takes over instead."""
    line = Trades(2)
    for second in range(24):
        line.trade(0, second + 1)
        line.wait(1)
    assert [body["params"] for body in line.said[1:]] == [["x1usdt@trade"]]
    actions = [step for turn in line.outputs for step in turn.actions]
    assert any(isinstance(step, Rotate) for step in actions)
    assert not any(isinstance(step, Close) for step in actions)


def test_time_in_our_own_queue_is_no_silence_of_the_exchange() -> None:
    """A book's command waits for its snapshot's turn; its answer is due when it was sent."""
    cursors = {BOOK: Cursor()}
    session = BinanceSpot(CONFIG).plan([Subscription(DataType.ORDERBOOK, BTC)])[0].open(cursors)
    (fetch,) = session.opening(moment(0)).actions
    assert isinstance(fetch, Fetch)
    assert all(session.tick(moment(at)).actions == [] for at in range(1, 600, 5))
    assert fetch.before is not None
    assert fetch.before.number is not None
    session.sent(fetch.before.number, moment(600))
    assert session.tick(moment(609)).actions == []
    assert session.tick(moment(611)).actions != []


def test_many_renewals_are_two_commands() -> None:
    """A group that falls silent at once floods no queue, and cuts nobody."""
    line = Trades(40)
    line.accept(line.said[-1])
    for number in range(40):
        line.trade(number, 1)
    for number in range(20):
        line.did(line.session.renew((DataType.TRADE, f"X{number}USDT"), line.now))
    line.wait(1)
    leave, ask = line.said[1:]
    assert (leave["method"], ask["method"]) == ("UNSUBSCRIBE", "SUBSCRIBE")
    assert leave["params"] == ask["params"] == [f"x{number}usdt@trade" for number in range(20)]


def test_an_announced_shutdown_asks_for_another_connection() -> None:
    """What came with it is good, and this one goes on until it ends."""
    turn = Line().hear(trade(1), b'{"e":"serverShutdown","E":1700000000000}')
    assert len(turn.records) == 1
    (step,) = turn.actions
    assert isinstance(step, Rotate)


def test_snapshots_come_at_their_interval_while_the_book_moves() -> None:
    """Not while its id stands still: that snapshot is in the stream already."""
    chain = Chain.made(1, 10)
    line = Line()
    line.synchronise(chain)
    book = line.consumer.books["BTC-USDT"]
    line.wait(21)
    assert book.snapshots == 1
    line.hear(chain.frame(0))
    line.wait(11)
    assert book.snapshots == 2
    assert (book.bids, book.asks) == (chain.truths[1].bids, chain.truths[1].asks)


def test_snapshot_mode_publishes_snapshots_only() -> None:
    """The local book is kept all the same."""
    options = OrderbookOptions(mode="snapshot", depth=2, snapshot_interval=1)
    line = Line(attrs.evolve(CONFIG, orderbook=options))
    chain = Chain.made(1, 10)
    line.synchronise(chain)
    line.hear(*(chain.frame(n) for n in range(10)))
    line.wait(1.25)
    book, truth = line.consumer.books["BTC-USDT"], chain.truths[-1]
    assert book.updates == 0
    assert book.last_id == truth.last_id
    assert len(book.bids) == min(2, len(truth.bids))
    assert book.best()[0][0] == max(truth.bids, key=float)


def test_renewing_a_book_resubscribes_and_resynchronises_it_alone() -> None:
    """A gap of reason stale, a snapshot; trades are not touched."""
    chain = Chain.made(1, 10)
    line = Line()
    line.synchronise(chain)
    line.hear(trade(1), chain.frame(0))
    line.did(line.session.renew(BOOK, line.now))
    line.wait(1)
    leave, _ = commands(line.outputs[-4:])
    assert leave["method"] == "UNSUBSCRIBE"
    before = line.fetches[-1].before
    assert before is not None
    number = json.loads(before.payload)["id"]
    line.hear(json.dumps({"result": None, "id": number}).encode(), trade(2))
    gap = only_gap(line.answer(chain.snapshot(3)))
    assert gap.reason == "stale"
    assert line.consumer.faults == []
    assert line.consumer.trades["BTC-USDT"] == [1, 2]


def test_a_lost_snapshot_is_told_once_more_though_the_book_stands_still() -> None:
    """The channel had no room for it; else the next update would be withheld with it."""
    chain = Chain.made(1, 10)
    line = Line()
    line.synchronise(chain)
    (record,) = line.session.send_snapshot(BOOK, 0, line.now).records
    assert isinstance(record, OrderBookRecord)
    assert (record.heals_gap, record.last_update_id) == (0, chain.truths[0].last_id)


def test_a_lost_stretch_can_be_restated_from_the_local_book() -> None:
    """After the channel overflowed: the book as it is, healing that gap."""
    chain = Chain.made(1, 10)
    line = Line()
    line.synchronise(chain)
    line.hear(chain.frame(0))
    (record,) = line.session.send_snapshot(BOOK, 5_000_000, line.now).records
    assert isinstance(record, OrderBookRecord)
    assert record.heals_gap == 5_000_000
    assert record.last_update_id == chain.truths[1].last_id


BAD: list[tuple[bytes, str]] = [
    (b'{"e":"trade"', "not JSON"),
    (b"\xff\xfe\x00", "not JSON"),
    (b"[" * 5000, "not an event"),
    (b'{"e":"trade","x":' + b"[" * 100_000, "not JSON"),
    (b"[1,2]", "not an event"),
    (b'{"e":"kline","s":"BTCUSDT"}', "unknown event"),
    (b'{"e":"trade","s":"BTCUSDT"}', "unfit event"),
    (trade(1, s="ETHUSDT"), "unknown symbol"),
    (trade(1, T=10**15), "unfit event"),
    (trade(1, T=4_102_444_800_001), "unfit event"),
    (trade(1, t=2**63), "unfit event"),
    *[
        (trade(1, p=price), "bad number")
        for price in (
            "-1.0",
            "",
            "NaN",
            "Infinity",
            "1_000",
            "１２",
            "1e555",
            "00",
            "007.50",
            "1,5",
            " 1",
            ".5",
            "1.",
        )
    ],
]


@pytest.mark.parametrize(("frame", "reason"), BAD, ids=lambda value: str(value)[:40])
def test_a_bad_frame_is_rejected_beside_its_good_neighbours(frame: bytes, reason: str) -> None:
    """Counted under a reason; nothing else is disturbed."""
    turn = Line().hear(trade(1), frame, trade(2))
    assert [type(record) for record in turn.records] == [Trade, Trade]
    (reject,) = turn.actions
    assert isinstance(reject, Reject)
    assert reject.reason == reason


def test_bad_levels_are_rejected_whole() -> None:
    """An update with one bad number changes nothing, and is missed."""
    chain = Chain.made(1, 3)
    line = Line()
    line.synchronise(chain)
    for level in (
        ["-1", "2"],
        ["1", "x"],
        ["1,5", "2"],
        ["1", "1e999"],
        ["01", "2"],
        ["1", None],
        ["1"],
    ):
        update = json.dumps({**chain.updates[0], "b": [["1.5", "2"], level]}).encode()
        (reject,) = line.hear(update).actions
        assert isinstance(reject, Reject)
    assert line.session.streams[BOOK].phase is Phase.LIVE
    line.hear(chain.frame(0))
    assert line.consumer.faults == []


@settings(max_examples=examples(500), deadline=None)
@given(mutate=st.lists(mutations(), min_size=1, max_size=8), seed=st.integers(0, 1000))
def test_a_mutated_frame_gives_nothing_worse_than_a_reject(
    mutate: list[Mutation], seed: int
) -> None:
    """No exception, whatever it is turned into; and every record can be told on the wire."""
    chain = Chain.made(seed, 4)
    line = Line()
    line.synchronise(chain)
    for number, change in enumerate(mutate):
        line.hear(change(chain.frame(number % 4)), change(trade(number)))
    line.answer(mutate[0](chain.snapshot(4)))
    assert all(
        isinstance(step, Fetch | Reject) for turn in line.outputs[1:] for step in turn.actions
    )


@given(st.integers(0, 99), st.integers(0, 40), st.integers(0, 40), st.booleans())
def test_a_book_that_forgoes_its_buffer_asks_anew_and_is_right(
    seed: int, heard: int, after: int, first: bool
) -> None:
    """What waited is dropped, the answer under way with it; once that was not said for a while
    a new snapshot joins what came since, and what was missed lies in a gap.
    """
    chain = Chain.made(seed, 100)
    line = Line()
    start = 0
    if not first:
        line.synchronise(chain)
        line.hear(chain.frame(0))
        line.cut()
        line.connect()
        start = 5
    line.hear(*(chain.frame(n) for n in range(start, start + heard)))
    line.session.drop_buffers(line.now)
    assert line.session.holding() == Holding()
    middle = start + heard
    if heard:
        late = line.answer(chain.snapshot(start))
        assert late.records == [], "its updates are gone"
    for number in range(middle, middle + after):
        line.hear(chain.frame(number))
    if after:
        assert line.session.holding().updates == after
    if heard:
        asked = len(line.fetches)
        line.wait(5)
        assert len(line.fetches) == asked + 1
    line.synchronise(chain, middle + after)
    held = line.session.holding()
    assert (held.books, held.updates) == (1, 0)
    book = line.consumer.books["BTC-USDT"]
    assert held.levels == len(book.bids) + len(book.asks)
    assert line.consumer.faults == []
    assert book.last_id == chain.truths[middle + after].last_id
