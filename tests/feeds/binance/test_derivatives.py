"""Binance USD-M sessions, as one would play the exchange by hand."""

import json
from typing import Any

import attrs
import pytest
from forms import examples
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mutations import Mutation, mutations
from usdm import (
    BTC,
    CONFIG,
    START,
    FuturesChain,
    Line,
    force_order,
    mark_price,
    moment,
    order,
    said,
    trade,
)

from marketprism.bounds import LATEST
from marketprism.feeds import capability
from marketprism.feeds.actions import Fetch, Output, Park, Reject, Rotate, Send
from marketprism.feeds.binance import BinanceDerivatives
from marketprism.feeds.binance.funding import FundingHours
from marketprism.feeds.binance.rest_messages import read_funding_info
from marketprism.instruments import Instrument
from marketprism.records import (
    DataType,
    FundingRate,
    Gap,
    Liquidation,
    OrderBookRecord,
    Record,
    Trade,
)
from marketprism.resume import cursors as restart
from marketprism.settings.exchanges import Limits, OrderbookOptions
from marketprism.streams.cursor import Cursor
from marketprism.streams.state import Phase
from marketprism.streams.subscription import Stream, Subscription
from marketprism.wire import encode

BOOK: Stream = (DataType.ORDERBOOK, "BTCUSDT")
TRADES: Stream = (DataType.TRADE, "BTCUSDT")
FUNDING: Stream = (DataType.FUNDING_RATE, "BTCUSDT")
LIQUIDATIONS: Stream = (DataType.LIQUIDATION, "BTCUSDT")
HOUR = 3_600 * 1_000_000_000
PAID_AT = 1_700_006_400_000 * 1_000_000


def only_gap(turn: Output) -> Gap:
    """The one gap among a turn's records."""
    (gap,) = (record for record in turn.records if isinstance(record, Gap))
    return gap


def kinds(turn: Output) -> list[type[Record]]:
    """What its records are."""
    return [type(record) for record in turn.records]


# What goes where.


def test_books_and_all_else_go_over_routes_of_their_own() -> None:
    """The route is a part of the address; the wrong one would confirm, and be silent."""
    public, market = Line("public"), Line("market")
    assert public.shard.id == "binance_derivatives/public/0"
    assert public.session.url == "ws://stream.test/public/ws"
    (fetch,) = public.fetches
    assert fetch.url == "http://rest.test/fapi/v1/depth?symbol=BTCUSDT&limit=500"
    assert fetch.before is not None
    assert json.loads(fetch.before.payload)["params"] == ["btcusdt@depth@100ms"]
    assert market.shard.id == "binance_derivatives/market/0"
    assert market.session.url == "ws://stream.test/market/ws"
    (send,) = (step for step in market.outputs[0].actions if isinstance(step, Send))
    assert json.loads(send.payload)["params"] == [
        "btcusdt@aggTrade",
        "btcusdt@markPrice@1s",
        "btcusdt@forceOrder",
    ]


@pytest.mark.parametrize(
    ("depth", "limit", "weight"),
    [(1, 50, 2), (51, 100, 5), (400, 500, 10), (501, 1000, 20), (5000, 1000, 20)],
)
def test_the_depth_fetched_is_the_smallest_on_offer_that_suffices(
    depth: int, limit: int, weight: int
) -> None:
    """At least what is published, else the largest, at the documented weight."""
    line = Line("public", attrs.evolve(CONFIG, orderbook=OrderbookOptions(depth=depth)))
    assert line.fetches[0].url.endswith(f"limit={limit}")
    assert line.fetches[0].weight == weight


def perpetual(number: int) -> Instrument:
    """One of many."""
    return Instrument("binance", "perpetual", f"C{number}-USDT", f"C{number}USDT")


def test_an_instrument_s_streams_of_a_route_share_a_connection() -> None:
    """As many as fit; what is polled is on none."""
    limits = Limits(streams_per_connection=7)
    venue = BinanceDerivatives(attrs.evolve(CONFIG, limits=limits))
    subscriptions = [Subscription(kind, perpetual(n)) for n in range(5) for kind in venue.offers]
    shards = venue.plan(subscriptions)
    assert [(shard.id, len(shard.subscriptions)) for shard in shards] == [
        ("binance_derivatives/public/0", 5),
        ("binance_derivatives/market/0", 6),
        ("binance_derivatives/market/1", 6),
        ("binance_derivatives/market/2", 3),
    ]
    for shard in shards[1:]:
        counts = {subscription.instrument: 0 for subscription in shard.subscriptions}
        for subscription in shard.subscriptions:
            counts[subscription.instrument] += 1
        assert set(counts.values()) == {3}


def test_a_new_plan_leaves_what_stands_where_it_is() -> None:
    """What is gone makes room, which what is new takes; nothing moves."""
    limits = Limits(streams_per_connection=6)
    venue = BinanceDerivatives(attrs.evolve(CONFIG, limits=limits))
    subscriptions = [Subscription(kind, perpetual(n)) for n in range(4) for kind in venue.offers]
    before = venue.plan(subscriptions)
    more = [
        subscription for subscription in subscriptions if subscription.instrument != perpetual(1)
    ]
    more += [Subscription(kind, perpetual(9)) for kind in venue.offers]
    after = {shard.id: shard for shard in venue.plan(more[::-1], before)}
    for shard in before:
        stayed = [subscription for subscription in shard.subscriptions if subscription in more]
        assert list(after[shard.id].subscriptions[: len(stayed)]) == stayed
    assert sum(len(shard.subscriptions) for shard in after.values()) == 4 * 4
    assert list(after) == [shard.id for shard in before]


# Trades.


def test_an_aggregate_trade_gives_its_record_exactly() -> None:
    """Every field as the exchange said it; the taker sells when the buyer made the market."""
    turn = Line().hear(trade(7))
    assert turn.records == [
        Trade(
            BTC,
            1_700_000_000_007 * 1_000_000,
            moment(0.02).wall,
            trade_id="7",
            price="100.50",
            quantity="0.25",
            side="sell",
            trade_kind="aggregated",
            first_trade_id="14",
            last_trade_id="15",
            is_maker=True,
        )
    ]


def aggregates(turn: Output) -> list[str]:
    """Which were published: number, first and last trade; `gap` for a gap."""
    return [encode(record).msg_id.rpartition("aggregated:")[2] for record in turn.records]


def test_two_aggregates_of_one_number_are_told_apart_by_their_trades() -> None:
    """A later last trade is news; one that is not later was told before. Nothing is missing."""
    line = Line()
    heard = [(27554, 668, 668), (27555, 669, 669), (27555, 670, 670), (27555, 669, 669)]
    heard += [(27555, 670, 670), (27556, 671, 675)]
    turn = line.hear(*(trade(a, f=first, l=last) for a, first, last in heard))
    assert aggregates(turn) == ["27554:668-668", "27555:669-669", "27555:670-670", "27556:671-675"]
    assert line.session.streams[TRADES].duplicates == 2
    assert not line.consumer.faults


def test_the_message_id_of_an_aggregate_names_its_trades_whatever_else_it_says() -> None:
    """Also where its number is its only trade's, and nothing tells who the maker was."""
    assert aggregates(Line().hear(trade(1, f=1, l=1, m=None))) == ["1:1-1"]


def test_trades_that_are_in_no_aggregate_are_not_missing() -> None:
    """An insurance fund's are left out: aggregates that follow by one follow."""
    turn = Line().hear(trade(7, f=10, l=11), trade(8, f=90, l=95))
    assert aggregates(turn) == ["7:10-11", "8:90-95"]


def test_a_restart_between_two_aggregates_of_one_number_loses_neither() -> None:
    """Whatever the message id was that the version before gave the first."""
    (first,) = Line().hear(trade(27555, f=669, l=669)).records
    stored = encode(first)
    assert stored.msg_id == "trade:binance:perpetual:BTC-USDT:aggregated:27555:669-669"
    subscription = Subscription(DataType.TRADE, BTC)
    for msg_id in (stored.msg_id, "trade:binance:perpetual:BTC-USDT:aggregated:27555"):
        record = restart.read(
            stored.payload, subscription, moment(1).wall, capability(subscription)
        )
        line = Line(
            cursors={TRADES: restart.cursor(record, msg_id, None, capability(subscription))}
        )
        turn = line.hear(trade(27555, f=669, l=669), trade(27555, f=670, l=670), trade(27556))
        assert aggregates(turn) == ["27555:670-670", "27556:55112-55113"]


def test_missing_trades_are_one_gap_that_names_them() -> None:
    """Aggregates are counted by ones, so the ids between are the gap's, counted."""
    gap = only_gap(Line().hear(trade(7), trade(11)))
    assert (gap.affected, gap.reason, gap.connection) == (
        DataType.TRADE,
        "sequence",
        "binance_derivatives/market/0",
    )
    assert (gap.first_missing_id, gap.last_missing_id, gap.lost) == (8, 10, 3)


def test_a_reconnect_between_two_trades_in_a_row_has_no_gap() -> None:
    """The next id proves it."""
    line = Line()
    line.hear(trade(7))
    line.cut()
    line.connect()
    line.hear(trade(8))
    assert not [gap for gap in line.consumer.gaps if gap["affected"] == "trade"]


def test_a_single_trade_is_never_taken_for_an_aggregate() -> None:
    """`trade` events count on their own, and are no market trades when an insurance fund trades:
    they are not subscribed, and would be refused.
    """
    frame = trade(9, e="trade", t=9, X="INSURANCE_FUND")
    line = Line()
    (reject,) = line.hear(trade(1), frame, trade(2)).actions
    assert isinstance(reject, Reject)
    assert reject.reason == "unknown event"
    assert line.consumer.trades == {"BTC-USDT": [1, 2]}


def test_events_of_the_other_futures_market_are_ignored() -> None:
    """COIN-M shares the streams since 2026: `st` says whose an event is; absent, it is ours."""
    line = Line()
    frames = [
        trade(1, st=2),
        mark_price(1, st=2),
        said(**force_order(order(), st=2)),
        said(**force_order(order(st=2))),
    ]
    assert line.hear(*frames) == Output()
    both = {"e": "depthUpdate", "s": "BTCUSD_PERP", "E": 1, "U": 1, "u": 2, "b": [], "a": []}
    assert Line("public").hear(said(**both, st=2)) == Output()
    old = json.loads(trade(1))
    del old["st"]
    assert kinds(line.hear(said(**old))) == [Trade]


# Funding.


def test_a_mark_price_gives_the_funding_exactly() -> None:
    """The rate, when it is paid and when the next is; what Binance does not say is null."""
    turn = Line().hear(mark_price(5))
    assert turn.records == [
        FundingRate(
            BTC,
            START + 5_000_000_000,
            moment(0.02).wall,
            current_funding_rate="-0.00010000",
            estimated_funding_rate=None,
            funding_time=PAID_AT,
            next_funding_time=PAID_AT + 8 * HOUR,
            funding_interval="8h",
            mark_price="100.10000000",
            index_price="100.20000000",
        )
    ]


def test_the_interval_is_the_symbol_s_own() -> None:
    """`fundingInfo` names those that deviate from eight hours; a row may lack it."""
    info = b'{"symbols":[]}'
    funding = b'[{"symbol":"X"},{"symbol":"BTCUSDT","fundingIntervalHours":4},{}]'
    line = Line(metadata=[info, funding])
    (record,) = line.hear(mark_price(1)).records
    assert isinstance(record, FundingRate)
    assert record.funding_interval == "4h"
    assert record.next_funding_time == PAID_AT + 4 * HOUR


def test_the_interval_is_null_until_it_is_known() -> None:
    """Without `fundingInfo` of all, of a row without hours of that symbol; then as it says."""
    info = b'{"symbols":[]}'
    line = Line(metadata=[info, b""])
    (record,) = line.hear(mark_price(1)).records
    assert isinstance(record, FundingRate)
    assert (record.funding_interval, record.next_funding_time) == (None, None)
    assert record.funding_time == PAID_AT
    rows = b'[{"symbol":"BTCUSDT"},{"symbol":"ETHUSDT","fundingIntervalHours":"x"},7,{"symbol":1}]'
    hours = FundingHours()
    assert hours.of("XRPUSDT") is None
    hours.learn(read_funding_info(rows))
    assert [hours.of(each) for each in ("BTCUSDT", "ETHUSDT", "XRPUSDT")] == [None, None, 8]
    hours.learn(read_funding_info(b'[{"symbol":"BTCUSDT","fundingIntervalHours":1}]'))
    assert [hours.of(each) for each in ("BTCUSDT", "ETHUSDT")] == [1, 8]


def test_what_cannot_be_read_of_the_intervals_leaves_what_is_known() -> None:
    """And says so, until it could be once."""
    venue, info = BinanceDerivatives(CONFIG), b'{"symbols":[]}'
    assert list(venue.unknown) == ["how often its perpetuals are funded"]
    for odd in (b"", b"<html>", b'{"code":-1}'):
        venue.instruments([info, odd])
        assert venue.unknown
    venue.instruments([info, b"[]"])
    assert not venue.unknown
    venue.instruments([info, b""])
    assert not venue.unknown


def test_funding_is_published_when_it_changes_and_once_in_thirty_seconds() -> None:
    """Of event time, in slots that are the same for every collector."""
    line = Line(seconds=77)
    heard = [line.hear(mark_price(second)) for second in range(10, 75)]
    told = [10 + n for n, turn in enumerate(heard) if turn.records]
    assert told == [10, 10 + 30 - (START // 10**9 + 10) % 30, 40 + 30 - (START // 10**9 + 10) % 30]
    assert line.hear(mark_price(75)).records == []
    assert kinds(line.hear(mark_price(76, r="-0.00010001"))) == [FundingRate]
    assert kinds(line.hear(mark_price(77, r="-0.00010001", T=1_700_035_200_000))) == [FundingRate]


def test_a_mark_price_that_says_nothing_new_still_says_that_nothing_was_missed() -> None:
    """The stream is fresh, and a gap would begin there."""
    line = Line()
    line.hear(mark_price(10))
    line.seconds = 5
    line.hear(mark_price(11))
    assert line.cursors[FUNDING].received == line.now.wall
    assert line.session.streams[FUNDING].last_record == line.now.monotonic


@pytest.mark.parametrize("paid_at", [253_402_300_799_999, LATEST + 1, -1, None, "never"])
def test_a_funding_time_that_is_none_costs_the_times_alone(paid_at: Any) -> None:
    """31 December 9999 is a usual "no date"."""
    (record,) = Line().hear(mark_price(1, T=paid_at)).records
    assert isinstance(record, FundingRate)
    assert (record.funding_time, record.next_funding_time) == (None, None)
    assert record.current_funding_rate
    assert record.funding_interval == "8h"
    fields = json.loads(encode(record).payload)
    assert (fields["funding_time"], fields["next_funding_time"]) == (None, None)


def test_the_time_after_the_last_that_is_believed_is_null() -> None:
    """It is bounded after arithmetic, too."""
    (record,) = Line().hear(mark_price(1, T=LATEST - 8 * 3_600_000)).records
    assert isinstance(record, FundingRate)
    assert record.next_funding_time == LATEST * 1_000_000
    (record,) = Line().hear(mark_price(1, T=LATEST)).records
    assert isinstance(record, FundingRate)
    assert (record.funding_time, record.next_funding_time) == (LATEST * 1_000_000, None)


def test_what_has_no_funding_gives_no_record() -> None:
    """Dated futures send an empty rate, or no time."""
    assert Line().hear(mark_price(1, r=""), mark_price(1, r="0.00000000", T=0)) == Output()


def test_funding_after_a_reconnect_ends_its_gap() -> None:
    """Nothing proves that the time out of contact was empty."""
    line = Line()
    line.hear(mark_price(10))
    line.cut()
    line.seconds = 9
    line.connect()
    gap, record = line.hear(mark_price(11)).records
    assert isinstance(gap, Gap)
    assert (gap.reason, gap.lost, gap.ended_at) == ("disconnect", None, line.now.wall)
    assert isinstance(record, FundingRate)


# Liquidations.


def test_a_liquidation_gives_its_record_exactly() -> None:
    """The order's own price and its average; its id is made of what it says."""
    turn = Line().hear(said(**force_order(order())))
    assert turn.records == [
        Liquidation(
            BTC,
            1_700_000_000_123 * 1_000_000,
            moment(0.02).wall,
            liquidation_id="1700000000123:sell::99.10:0.014:1",
            side="sell",
            status="FILLED",
            price="99.10",
            average_price="99.25",
            quantity="0.014",
            filled_quantity="0.013",
            notional_value=None,
            sampled=True,
        )
    ]


def test_a_push_of_the_whole_market_gives_ours_alone() -> None:
    """Of a list, what is of the other market or not wanted is ignored, what is bad is rejected
    alone, and equals are told apart.
    """
    events: list[Any] = [
        force_order(order(s="BTCUSD_PERP", ps="BTCUSD"), st=2),
        force_order(order(s="XYZUSDT")),
        force_order(order(), st=1),
        force_order(order(T="soon")),
        7,
        [force_order(order())],
        force_order(order(S="BUY")),
        force_order(order()),
    ]
    turn = Line().hear(json.dumps(events).encode())
    assert [encode(record).msg_id.rpartition("T:")[2] for record in turn.records] == [
        "1700000000123:sell::99.10:0.014:1",
        "1700000000123:buy::99.10:0.014:1",
        "1700000000123:sell::99.10:0.014:2",
    ]
    reasons = [step.reason for step in turn.actions if isinstance(step, Reject)]
    assert reasons == ["unfit event", "not an event", "not an event"]


def test_a_gap_of_liquidations_ends_when_the_exchange_listens_again() -> None:
    """They may be silent for hours: from the confirmed subscription on, silence means none."""
    line = Line()
    line.seconds = 5
    line.cut()
    line.seconds = 9
    gap = only_gap(line.connect())
    assert (gap.affected, gap.reason, gap.lost) == (DataType.LIQUIDATION, "disconnect", None)
    assert (gap.started_at, gap.ended_at) == (moment(0.01).wall, line.now.wall)
    assert kinds(line.hear(said(**force_order(order())))) == [Liquidation]
    assert not line.consumer.faults


def test_renewing_a_stream_touches_no_other() -> None:
    """Left and subscribed again; its gap is of reason stale."""
    line = Line()
    line.hear(trade(1), mark_price(10))
    line.did(line.session.renew(FUNDING, line.now))
    line.wait(1)
    actions = [step for turn in line.outputs[-4:] for step in turn.actions]
    methods = [json.loads(step.payload) for step in actions if isinstance(step, Send)]
    assert [body["method"] for body in methods] == ["UNSUBSCRIBE", "SUBSCRIBE"]
    assert all(body["params"] == ["btcusdt@markPrice@1s"] for body in methods)
    turn = line.hear(trade(2), mark_price(11))
    assert kinds(turn) == [Trade, Gap, FundingRate]
    assert only_gap(turn).reason == "stale"


def test_streams_are_changed_on_the_live_connection() -> None:
    """Of every kind; what was left is not known any more."""
    line = Line()
    eth = Instrument("binance", "perpetual", "ETH-USDT", "ETHUSDT", "ETH", "USDT")
    types = (DataType.TRADE, DataType.FUNDING_RATE, DataType.LIQUIDATION)
    turn = line.session.change(
        [Subscription(kind, eth) for kind in types],
        [Subscription(kind, BTC) for kind in types],
        line.now,
    )
    leave, join = (json.loads(step.payload) for step in turn.actions if isinstance(step, Send))
    assert leave["params"] == ["btcusdt@aggTrade", "btcusdt@markPrice@1s", "btcusdt@forceOrder"]
    assert join["params"] == ["ethusdt@aggTrade", "ethusdt@markPrice@1s", "ethusdt@forceOrder"]
    turn = line.hear(trade(1), trade(1, s="ETHUSDT"), mark_price(1, s="ETHUSDT"))
    assert kinds(turn) == [Trade, FundingRate]
    assert [step.reason for step in turn.actions if isinstance(step, Reject)] == ["unknown symbol"]


def test_what_comes_to_a_live_connection_goes_on_from_its_cursor() -> None:
    """Its ids tell what was missed."""
    line = Line()
    eth = Instrument("binance", "perpetual", "ETH-USDT", "ETHUSDT", "ETH", "USDT")
    subscription, cursor = Subscription(DataType.TRADE, eth), Cursor(last_id=3, received=5)
    cursor.lose("metadata", "of a test")
    line.did(line.session.change([subscription], [], line.now, {subscription.stream: cursor}))
    gap, record = line.hear(trade(6, s="ETHUSDT")).records
    assert isinstance(gap, Gap)
    assert (gap.reason, gap.first_missing_id, gap.last_missing_id) == ("metadata", 4, 5)
    assert isinstance(record, Trade)
    assert cursor.last_id == 6


# Books.


@settings(max_examples=examples(300), deadline=None)
@given(
    seed=st.integers(0, 2**32),
    heard_from=st.integers(0, 10),
    heard_to=st.integers(0, 20),
    taken_at=st.integers(0, 25),
    into=st.integers(0, 4),
    batches=st.lists(st.integers(1, 5), max_size=30),
)
def test_any_order_of_snapshot_and_updates_gives_the_true_book(
    seed: int, heard_from: int, heard_to: int, taken_at: int, into: int, batches: list[int]
) -> None:
    """Whenever the stream begins, the snapshot is taken — between updates or within one — and it
    arrives: what is published chains, and rebuilds the exchange's book.
    """
    chain = FuturesChain.made(seed, 30)
    heard_to = max(heard_from, heard_to)
    line = Line("public")
    if heard_to > heard_from:
        line.hear(*(chain.frame(n) for n in range(heard_from, heard_to)))
    # What is asked after the stream stands cannot be older than what was sent before it.
    taken_at = max(taken_at, heard_from) if heard_to == heard_from else taken_at
    line.answer(chain.snapshot(taken_at, into))
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


@example(seed=4194303, lost={3, 4, 22, 24}, repeated=set(), into=1, cut_at=25)
@example(seed=0, lost={3, 23}, repeated=set(), into=1, cut_at=25)
@settings(max_examples=examples(300), deadline=None)
@given(
    seed=st.integers(0, 2**32),
    lost=st.sets(st.integers(3, 27), min_size=1, max_size=4),
    repeated=st.sets(st.integers(0, 29), max_size=4),
    into=st.integers(0, 3),
    cut_at=st.integers(0, 29),
)
def test_losses_repetitions_and_cuts_leave_a_gap_a_loss_and_the_true_book(
    seed: int, lost: set[int], repeated: set[int], into: int, cut_at: int
) -> None:
    """A loss is a gap, then a snapshot; a repetition is nothing; the end is the exchange's book."""
    chain = FuturesChain.made(seed, 30)
    line = Line("public")
    line.synchronise(chain)
    losses = 0
    for number in range(30):
        if number == cut_at and line.live:
            losses += (line.consumer.books["BTC-USDT"].last_id or 0) < chain.truths[number].last_id
            line.cut()
            line.connect()
            line.hear(chain.frame(number))
            line.synchronise(chain, number + 1)
        if number in lost:
            continue
        frames = [chain.frame(number)] * (2 if number in repeated else 1)
        line.hear(*frames)
        if not line.live:
            losses += 1
            line.synchronise(chain, number + 1, into)
    book = line.consumer.books["BTC-USDT"]
    assert line.consumer.faults == []
    assert len(line.consumer.gaps) == losses
    assert all(gap["lost"] is None for gap in line.consumer.gaps)
    assert (book.last_id, book.bids, book.asks) == attrs.astuple(chain.truths[-1])


def test_a_gap_of_a_book_names_its_bounds_and_no_count() -> None:
    """Ids skip, so two of them do not say how many lie between."""
    chain = FuturesChain.made(1, 10)
    line = Line("public")
    line.synchronise(chain)
    line.hear(chain.frame(0))
    line.hear(chain.frame(2))
    gap, snapshot = line.answer(chain.snapshot(3)).records
    assert isinstance(gap, Gap)
    assert isinstance(snapshot, OrderBookRecord)
    first, last = chain.truths[1].last_id + 1, chain.truths[3].last_id
    assert (gap.first_missing_id, gap.last_missing_id, gap.lost) == (first, last, None)
    assert encode(snapshot).msg_id.endswith(f"snapshot:{last}:{gap.started_at // 1_000_000}")


def test_a_snapshot_from_within_an_update_is_published_with_all_of_it() -> None:
    """So that the next update, which names that one, continues what was published."""
    chain = FuturesChain.made(3, 4)
    chain.updates[1].update(U=chain.updates[1]["u"] - 3)
    line = Line("public")
    line.hear(chain.frame(0), chain.frame(1), chain.frame(2))
    snapshot, update = line.answer(chain.snapshot(1, 1)).records
    assert isinstance(snapshot, OrderBookRecord)
    assert isinstance(update, OrderBookRecord)
    assert snapshot.last_update_id == chain.updates[1]["u"] == update.prev_update_id
    assert snapshot.timestamp == chain.updates[1]["T"] * 1_000_000
    assert (dict(snapshot.bids), dict(snapshot.asks)) == (  # type: ignore[arg-type]  # pairs
        chain.truths[2].bids,
        chain.truths[2].asks,
    )


def test_an_update_that_holds_the_published_snapshot_continues_it() -> None:
    """It names what went before the snapshot; published, it names the snapshot."""
    chain = FuturesChain.made(3, 4)
    chain.updates[0].update(U=chain.updates[0]["u"] - 3)
    line = Line("public")
    (snapshot,) = line.answer(chain.snapshot(0, 2)).records
    assert isinstance(snapshot, OrderBookRecord)
    first, second = line.hear(chain.frame(0), chain.frame(1)).records
    assert isinstance(first, OrderBookRecord)
    assert isinstance(second, OrderBookRecord)
    assert chain.updates[0]["U"] < snapshot.last_update_id < chain.updates[0]["u"]
    assert first.prev_update_id == snapshot.last_update_id
    assert second.prev_update_id == chain.updates[0]["u"]
    assert line.consumer.faults == []


def test_an_update_that_overlaps_the_one_before_does_not_continue_it() -> None:
    """Only a snapshot may lie within an update; after that each names the one before."""
    chain = FuturesChain.made(1, 6)
    line = Line("public")
    line.synchronise(chain)
    line.hear(chain.frame(0))
    overlapping = said(**{**chain.updates[1], "U": chain.updates[0]["u"], "pu": 1})
    turn = line.hear(overlapping)
    assert turn.records == []
    assert [step.priority.name for step in turn.actions if isinstance(step, Fetch)] == ["RESYNC"]


def test_times_are_those_of_the_change() -> None:
    """`T`, when the book changed, not `E`, when it was told; a snapshot's own `T`."""
    chain = FuturesChain.made(1, 3)
    line = Line("public")
    (snapshot,) = line.answer(chain.snapshot(0)).records
    assert snapshot.timestamp == json.loads(chain.snapshot(0))["T"] * 1_000_000
    (update,) = line.hear(chain.frame(0)).records
    assert update.timestamp == chain.updates[0]["T"] * 1_000_000
    untimed = {**chain.updates[1], "T": None}
    (update,) = line.hear(said(**untimed)).records
    assert update.timestamp == chain.updates[1]["E"] * 1_000_000


# Bad frames.


BAD: list[tuple[bytes, str]] = [
    (b'{"e":"aggTrade"', "not JSON"),
    (b"\xff\xfe\x00", "not JSON"),
    (b"[" * 5000, "not JSON"),
    (b'[[{"e":"aggTrade"}]]', "not an event"),
    (b'"aggTrade"', "not an event"),
    (b'{"e":"kline","s":"BTCUSDT"}', "unknown event"),
    (trade(1, T=10**15), "unfit event"),
    (trade(1, a="x"), "unfit event"),
    (trade(1, a=2**63), "unfit event"),
    (trade(1, l=2**63), "unfit event"),
    (trade(1, T=4_102_444_800_001), "unfit event"),
    (trade(1, f=9, l=8), "bad number"),
    (trade(1, s="ETHUSDT"), "unknown symbol"),
    (mark_price(1, s="ETHUSDT"), "unknown symbol"),
    (mark_price(1, r="NaN"), "bad number"),
    (mark_price(1, r=None), "unfit event"),
    (mark_price(1, E=4_102_444_800_001), "unfit event"),
    (said(**force_order(order(T=4_102_444_800_001))), "unfit event"),
    (said(**force_order(order(T=None))), "unfit event"),
    (said(**force_order([])), "unfit event"),
    (said(**force_order(order(s="ETHUSDT"))), "unknown symbol"),
    (b'{"result":null,"id":99}', "unknown answer"),
]


@pytest.mark.parametrize(("frame", "reason"), BAD, ids=lambda value: str(value)[:40])
def test_a_bad_frame_is_rejected_beside_its_good_neighbours(frame: bytes, reason: str) -> None:
    """Counted under a reason; nothing else is disturbed."""
    turn = Line().hear(trade(1), frame, trade(2))
    assert kinds(turn) == [Trade, Trade]
    (reject,) = turn.actions
    assert isinstance(reject, Reject)
    assert reject.reason == reason


def test_an_announced_shutdown_asks_for_another_connection() -> None:
    """After the records of the same batch; this one goes on until it ends."""
    turn = Line().hear(trade(1), b'{"e":"serverShutdown","E":1700000000000}')
    assert kinds(turn) == [Trade]
    assert isinstance(turn.actions[0], Rotate)


def test_a_refused_stream_is_parked_alone() -> None:
    """Those of a command are asked for again, half by half."""
    line = Line()
    error = {"error": {"code": 2, "msg": "Invalid request"}}
    session = line.shard.open({})
    session.opening(line.now)
    session.receive([json.dumps(error | {"id": 1}).encode()], line.now)
    session.receive([b'{"result":null,"id":2}'], line.now)
    turn = session.receive([json.dumps(error | {"id": 3}).encode()], line.now)
    assert Park(LIQUIDATIONS, "2: Invalid request") in turn.actions
    assert session.streams[LIQUIDATIONS].phase is Phase.PARKED


@settings(max_examples=examples(500), deadline=None)
@given(mutate=st.lists(mutations(), min_size=1, max_size=8), seed=st.integers(0, 1000))
def test_a_mutated_frame_gives_nothing_worse_than_a_reject(
    mutate: list[Mutation], seed: int
) -> None:
    """No exception, whatever it is turned into; and every record can be told on the wire."""
    chain = FuturesChain.made(seed, 4)
    public, market = Line("public"), Line("market")
    public.synchronise(chain)
    forced = force_order(order())
    for number, change in enumerate(mutate):
        public.hear(change(chain.frame(number % 4)))
        market.hear(
            change(trade(number)),
            change(mark_price(number)),
            change(said(**forced)),
            change(json.dumps([forced, forced]).encode()),
        )
    public.answer(mutate[0](chain.snapshot(4)))
    outputs = public.outputs[1:] + market.outputs[1:]
    assert all(isinstance(step, Fetch | Reject) for turn in outputs for step in turn.actions)


@pytest.mark.parametrize(("first", "last"), [(91, 99), (91, 100), (95, 100)])
def test_updates_that_the_snapshot_overtook_are_dropped_in_peace(first: int, last: int) -> None:
    """They were on their way when it was taken; a later time of theirs raises no doubt."""
    line = Line("public")
    body = {"lastUpdateId": 100, "T": 1_700_000_000_000, "E": 1_700_000_000_000}
    levels = {"bids": [["99.5", "1"]], "asks": [["100.5", "1"]]}
    line.answer(json.dumps(body | levels).encode())

    def update(low: int, high: int, previous: int) -> bytes:
        at = 1_700_000_000_100 + high
        fields = {"e": "depthUpdate", "E": at, "T": at, "s": "BTCUSDT"}
        ids = {"U": low, "u": high, "pu": previous}
        return json.dumps(fields | ids | {"b": [["99.5", "2"]], "a": []}).encode()

    line.hear(update(first, last, 90), update(101, 110, 100), update(111, 120, 110))
    assert line.consumer.gaps == []
    assert line.consumer.faults == []
    assert line.consumer.books["BTC-USDT"].last_id == 120


def test_a_late_mark_price_is_no_news() -> None:
    """What was told out of order is not published after what is newer."""
    line = Line(seconds=61)
    published = [len(line.hear(mark_price(second)).records) for second in (60, 29, 61)]
    assert published == [1, 0, 0]
