"""Two Binance sessions, of which the younger takes over: played by hand, over shared cursors."""

import json
import random
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

import attrs
import pytest
from consumer import Consumer
from depth import Chain
from forms import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from usdm import (
    BTC,
    CONFIG,
    FuturesChain,
    force_order,
    mark_price,
    moment,
    order,
    said,
    trade,
)

from marketprism.clock import SECOND, Timestamp
from marketprism.feeds import audit
from marketprism.feeds.actions import Fetch, Fetched, Output, Park, Priority, Reject, Send
from marketprism.feeds.binance import BinanceDerivatives, BinanceSpot
from marketprism.feeds.handover import MAX_HELD, OVERLAP, PATIENCE
from marketprism.feeds.venue import Session, Shard
from marketprism.instruments import Instrument
from marketprism.records import DataType, FundingRate, Gap, Liquidation, OrderBookRecord, Record
from marketprism.records import Trade as TradeRecord
from marketprism.settings.exchanges import Api, OrderbookOptions, VenueConfig
from marketprism.streams.cursor import Cursor
from marketprism.streams.state import Phase
from marketprism.streams.subscription import Stream, Subscription
from marketprism.wire import encode

pytestmark = pytest.mark.once

SPOT_BTC = Instrument("binance", "spot", "BTC-USDT", "BTCUSDT", "BTC", "USDT")
BOOK: Stream = (DataType.ORDERBOOK, "BTCUSDT")
TRADES: Stream = (DataType.TRADE, "BTCUSDT")
FUNDING: Stream = (DataType.FUNDING_RATE, "BTCUSDT")
LIQUIDATIONS: Stream = (DataType.LIQUIDATION, "BTCUSDT")
QUIET = OVERLAP / SECOND + 1


def spot() -> Shard:
    """A book and raw trades."""
    config = VenueConfig(
        "binance_spot",
        Api("http://rest.test", "ws://stream.test"),
        ("BTC-USDT",),
        (DataType.ORDERBOOK, DataType.TRADE),
    )
    subscriptions = [Subscription(data_type, SPOT_BTC) for data_type in config.data_types]
    (shard,) = BinanceSpot(config).plan(subscriptions)
    return shard


def perpetual(route: str, interval: float = 10.0) -> Shard:
    """One of the two routes."""
    config = attrs.evolve(CONFIG, orderbook=OrderbookOptions(snapshot_interval=interval))
    subscriptions = [Subscription(DataType.ORDERBOOK, BTC)]
    if route == "market":
        kinds = (DataType.TRADE, DataType.FUNDING_RATE, DataType.LIQUIDATION)
        subscriptions = [Subscription(kind, BTC) for kind in kinds]
    (shard,) = BinanceDerivatives(config).plan(subscriptions)
    return shard


def spot_trade(number: int, **changes: Any) -> bytes:
    """A raw trade's frame."""
    fields = {"e": "trade", "E": 1_700_000_000_000 + number, "s": "BTCUSDT", "t": number}
    fields |= {"p": "100.5", "q": "0.25", "T": 1_700_000_000_000 + number, "m": True}
    return said(**fields | changes)


@attrs.define
class Side:
    """One of the two, and the exchange's end of its line."""

    session: Session
    fetches: list[Fetch] = attrs.field(factory=list)
    sent: list[dict[str, Any]] = attrs.field(factory=list)
    actions: list[object] = attrs.field(factory=list)


@attrs.define
class Pair:
    """Both sessions, on one clock, and the consumer of all that they publish."""

    shard: Shard
    cursors: dict[Stream, Cursor] = attrs.field(factory=dict)
    consumer: Consumer = attrs.field(factory=Consumer)
    records: list[Record] = attrs.field(factory=list)
    seconds: float = 0.0
    alive: bool = True
    """The elder answers pings."""
    elder: Side = attrs.field(init=False)
    younger: Side = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        for subscription in self.shard.subscriptions:
            self.cursors.setdefault(subscription.stream, Cursor())
        self.elder = self.opened()

    def opened(self, adopts: Side | None = None, *, confirm: bool = True) -> Side:
        """A connection stands, and what it asks for is confirmed."""
        side = Side(self.shard.open(self.cursors))
        if adopts is not None:
            side.session.take_over(adopts.session)
        self.did(side, side.session.opening(self.now))
        if confirm:
            self.confirm(side)
        return side

    def confirm(self, side: Side) -> None:
        """Answer its commands."""
        for command in side.sent:
            self.hear(side, said(result=None, id=command["id"]))
        side.sent.clear()

    def rotate(self, *, confirm: bool = True) -> None:
        """The second connection stands."""
        self.younger = self.opened(self.elder, confirm=confirm)

    @property
    def now(self) -> Timestamp:
        return moment(self.seconds)

    def did(self, side: Side, turn: Output) -> Output:
        for step in turn.actions:
            side.actions.append(step)
            if isinstance(step, Fetch):
                side.fetches.append(step)
            said = step.before if isinstance(step, Fetch) else step
            if isinstance(said, Send):
                side.sent.append(json.loads(said.payload))
        self.records += turn.records
        for record in turn.records:
            self.consumer.take(encode(record).payload)
        return turn

    def hear(self, side: Side, *frames: bytes) -> Output:
        self.seconds += 0.01
        return self.did(side, side.session.receive(frames, self.now))

    def both(self, *frames: bytes) -> None:
        """Both hear the same, the elder first."""
        self.hear(self.elder, *frames)
        self.hear(self.younger, *frames)

    def answer(self, side: Side, body: bytes) -> Output:
        """Answer its newest request, sent a moment ago."""
        asked = self.now.monotonic
        self.seconds += 0.01
        reply = side.session.reply(side.fetches[-1].tag, Fetched(body, asked), self.now)
        return self.did(side, reply)

    def wait(self, seconds: float = 0.25) -> None:
        """Ticks of both."""
        for _ in range(round(seconds / 0.25)):
            self.seconds += 0.25
            for side in (self.elder, self.younger):
                self.did(side, side.session.tick(self.now))
            if self.alive:
                for state in self.elder.session.streams.values():
                    state.heard_until = self.now.monotonic

    def orphan(self) -> None:
        """The elder's connection has ended."""
        self.seconds += 0.01
        self.did(self.younger, self.younger.session.old_gone(self.now))

    def owned(self, stream: Stream) -> bool:
        """Whether the younger has it."""
        return stream not in self.elder.session.streams

    def live(self, chain: Chain | FuturesChain, number: int = 0) -> None:
        """The elder's book is in step."""
        self.answer(self.elder, chain.snapshot(number))
        assert self.elder.session.streams[BOOK].phase is Phase.LIVE

    @property
    def trades(self) -> list[int]:
        return [int(record.trade_id) for record in self.records if isinstance(record, TradeRecord)]

    @property
    def gaps(self) -> list[Gap]:
        return [record for record in self.records if isinstance(record, Gap)]

    @property
    def rejects(self) -> list[str]:
        actions = [*self.elder.actions, *self.younger.actions]
        return [step.reason for step in actions if isinstance(step, Reject)]


def market() -> Pair:
    """The route of trades, funding and liquidations."""
    return Pair(perpetual("market"))


# Trades


def test_the_younger_holds_back_what_it_hears_until_the_elder_published_it() -> None:
    """Then it says the rest, each as of when it was read, and the elder no more."""
    pair = market()
    pair.hear(pair.elder, trade(1), trade(2))
    pair.rotate()
    pair.hear(pair.younger, trade(3), trade(4))
    read_at = pair.now.wall
    pair.hear(pair.younger, trade(5))
    pair.wait()
    assert pair.trades == [1, 2]
    assert not pair.owned(TRADES)
    pair.hear(pair.elder, trade(3))
    pair.wait()
    assert pair.owned(TRADES)
    assert pair.trades == [1, 2, 3, 4, 5]
    assert pair.records[-2].collected_at == read_at
    pair.hear(pair.elder, trade(4), trade(5), trade(6))
    pair.hear(pair.younger, trade(6))
    assert pair.trades == [1, 2, 3, 4, 5, 6]
    assert (pair.gaps, pair.rejects) == ([], [])


def test_an_elder_that_is_ahead_leaves_nothing_to_say_again() -> None:
    """What it published is dropped as duplicates."""
    pair = market()
    pair.rotate()
    pair.hear(pair.elder, *(trade(number) for number in range(10, 20)))
    pair.hear(pair.younger, *(trade(number) for number in range(12, 15)))
    pair.wait()
    assert pair.owned(TRADES)
    assert pair.younger.session.streams[TRADES].duplicates == 3
    pair.hear(pair.younger, *(trade(number) for number in range(15, 22)))
    assert pair.trades == list(range(10, 22))
    assert (pair.gaps, pair.rejects) == ([], [])


TWINS = [trade(7), trade(8, f=669, l=669), trade(8, f=670, l=670), trade(9)]
"""Two aggregates of one number among others."""


@pytest.mark.parametrize("begins", range(4))
@pytest.mark.parametrize("ends", range(1, 5))
def test_aggregates_of_one_number_are_each_told_once(begins: int, ends: int) -> None:
    """Wherever between them the younger begins, and the elder is when they join."""
    pair = market()
    pair.hear(pair.elder, trade(6))
    pair.rotate()
    pair.hear(pair.elder, *TWINS[:ends])
    pair.hear(pair.younger, *TWINS[begins:])
    pair.wait()
    pair.hear(pair.elder, *TWINS[ends:], trade(10))
    pair.hear(pair.younger, trade(10))
    pair.wait()
    parts = [r.last_trade_id for r in pair.records if isinstance(r, TradeRecord)]
    assert parts == ["13", "15", "669", "670", "19", "21"]
    assert (pair.gaps, pair.rejects) == ([], [])
    assert pair.owned(TRADES)


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("who", ["elder", "younger", "both"])
def test_a_time_and_an_id_of_a_time_to_come_do_not_hold_the_join_up(place: int, who: str) -> None:
    """Nor is it told twice, or anything lost."""
    far = trade(10**12, T=1_800_000_000_000, E=1_800_000_000_000)
    frames = [trade(number) for number in (7, 8, 9)]
    heard = {side: list(frames) for side in ("elder", "younger")}
    for side in heard if who == "both" else [who]:
        heard[side].insert(place, far)
    pair = market()
    pair.hear(pair.elder, trade(6))
    pair.rotate()
    pair.hear(pair.younger, *heard["younger"])
    pair.hear(pair.elder, *heard["elder"])
    pair.wait()
    assert pair.owned(TRADES)
    pair.hear(pair.younger, trade(10))
    assert [number for number in pair.trades if number != 10**12] == [6, 7, 8, 9, 10]
    assert pair.trades.count(10**12) == 1
    assert (pair.gaps, pair.rejects) == ([], [])


@pytest.mark.parametrize("place", range(3))
def test_an_update_of_a_time_to_come_does_not_hold_a_book_up(place: int) -> None:
    """It goes over without a snapshot, a gap, or what the consumer could not chain."""
    chain = FuturesChain.made(1, 6)
    pair = Pair(perpetual("public", interval=0))
    pair.live(chain)
    pair.hear(pair.elder, chain.frame(0))
    pair.rotate()
    asked = len(pair.elder.fetches) + len(pair.younger.fetches)
    far = chain.updates[3] | {"E": 1_800_000_000_000, "T": 1_800_000_000_000}
    stray = said(**far | {"U": 10**12, "u": 10**12 + 5, "pu": 10**12 - 1})
    frames = [chain.frame(number) for number in (1, 2, 3)]
    frames.insert(place, stray)
    pair.hear(pair.younger, *frames)
    pair.hear(pair.elder, *frames)
    pair.wait()
    assert pair.owned(BOOK)
    pair.hear(pair.younger, chain.frame(4), chain.frame(5))
    book = pair.consumer.books["BTC-USDT"]
    assert (book.last_id, book.bids, book.asks) == attrs.astuple(chain.truths[6])
    assert (pair.gaps, pair.consumer.faults, pair.rejects) == ([], [], [])
    assert len(pair.elder.fetches) + len(pair.younger.fetches) == asked


def test_trades_whose_times_are_not_in_order_are_no_new_numbering() -> None:
    """A lower id at a later time would mean one, anywhere else."""
    pair = market()
    pair.rotate()
    late, early = trade(11, T=1_700_000_000_900), trade(12, T=1_700_000_000_100)
    pair.both(trade(10), late, early)
    pair.wait()
    assert pair.owned(TRADES)
    assert pair.trades == [10, 11, 12]
    assert pair.gaps == []


def test_what_the_elder_missed_before_the_join_is_its_gap() -> None:
    """Told once, exactly."""
    pair = market()
    pair.rotate()
    pair.hear(pair.elder, trade(1), trade(4))
    pair.hear(pair.younger, trade(3), trade(4), trade(5))
    pair.wait()
    (gap,) = pair.gaps
    assert (gap.first_missing_id, gap.last_missing_id, gap.lost) == (2, 3, 2)
    assert pair.trades == [1, 4, 5]


def test_a_silent_stream_goes_over_once_the_elder_has_answered_a_ping() -> None:
    """And lives on: it was live."""
    pair = market()
    pair.hear(pair.elder, trade(1))
    pair.rotate()
    pair.wait(OVERLAP / SECOND - 1)
    assert not pair.owned(TRADES)
    pair.wait(2)
    assert pair.owned(TRADES)
    assert pair.younger.session.streams[TRADES].phase is Phase.LIVE
    pair.hear(pair.younger, trade(2))
    assert pair.trades == [1, 2]
    assert pair.gaps == []


def test_nothing_is_taken_over_from_an_elder_that_may_be_dead() -> None:
    """Its silence proves nothing while it answers no ping."""
    pair = market()
    pair.hear(pair.elder, trade(1))
    pair.alive = False
    pair.rotate()
    pair.wait(60)
    assert not pair.owned(TRADES)
    assert not pair.owned(LIQUIDATIONS)


def test_a_younger_that_is_deaf_takes_nothing_over() -> None:
    """It was confirmed, and hears nothing of what the elder hears."""
    pair = market()
    pair.rotate()
    for number in range(40):
        pair.hear(pair.elder, trade(number))
        pair.wait(1)
    assert not pair.owned(TRADES)
    assert pair.trades == list(range(40))


def test_patience_ends_with_a_gap() -> None:
    """The elder never comes to where the younger began: what lies between is told as missing."""
    pair = market()
    pair.hear(pair.elder, trade(1))
    pair.rotate()
    pair.hear(pair.younger, trade(5), trade(6))
    pair.wait(PATIENCE / SECOND - 1)
    assert pair.trades == [1]
    pair.wait(2)
    assert pair.trades == [1, 5, 6]
    (gap,) = pair.gaps
    assert (gap.reason, gap.first_missing_id, gap.last_missing_id) == ("stale", 2, 4)


def test_too_much_is_not_held() -> None:
    """It goes over at once."""
    pair = market()
    pair.hear(pair.elder, trade(1))
    pair.rotate()
    pair.hear(pair.younger, *(trade(number) for number in range(3, MAX_HELD + 5)))
    pair.wait()
    assert pair.owned(TRADES)
    assert len(pair.trades) == MAX_HELD + 3
    assert [gap.lost for gap in pair.gaps] == [1]


def test_a_number_that_cannot_be_used_is_rejected_when_it_is_its_turn() -> None:
    """As it would have been at once; the others go on."""
    pair = market()
    pair.rotate()
    pair.hear(pair.younger, trade(3), trade(4, p="NaN"), trade(5))
    pair.hear(pair.elder, trade(3))
    pair.wait()
    assert pair.rejects == ["bad number"]
    assert pair.trades == [3, 5]


# Funding and liquidations


def funding_of(lines: Iterable[bytes]) -> list[int | None]:
    """What one connection alone publishes of those."""
    pair = Pair(perpetual("market"), seconds=120)
    for line in lines:
        pair.hear(pair.elder, line)
    return [record.timestamp for record in pair.records if isinstance(record, FundingRate)]


@pytest.mark.parametrize("starts", range(1, 40, 7))
@pytest.mark.parametrize("lag", [0, 3])
@pytest.mark.parametrize("elder_is_late", [False, True])
def test_funding_is_thinned_as_if_there_were_but_one_connection(
    starts: int, lag: int, elder_is_late: bool
) -> None:
    """Whichever of the two lags, and wherever in a window they join."""
    rates = [f"0.000{second // 17}" for second in range(120)]
    events = [mark_price(second, r=rate) for second, rate in enumerate(rates)]
    pair = Pair(perpetual("market"), seconds=120)
    elder, younger = (lag, 0) if elder_is_late else (0, lag)
    for second in range(120 + lag):
        if second == starts:
            pair.rotate()
        if 0 <= second - elder < 120:
            pair.hear(pair.elder, events[second - elder])
        if second > starts and starts < second - younger < 120:
            pair.hear(pair.younger, events[second - younger])
        if second >= starts:
            pair.wait()
    published = [record.timestamp for record in pair.records if isinstance(record, FundingRate)]
    assert pair.owned(FUNDING)
    assert published == funding_of(events)
    assert (pair.gaps, pair.rejects) == ([], [])


def liquidated(number: int) -> bytes:
    """A liquidation's frame."""
    return json.dumps(force_order(order(T=1_700_000_000_000 + number, q=f"{number}.5"))).encode()


def quantities(pair: Pair) -> list[str | None]:
    """What was liquidated, by the records."""
    return [record.quantity for record in pair.records if isinstance(record, Liquidation)]


def test_a_liquidation_that_both_hear_is_told_once() -> None:
    """By its id, since there is no number that joins; the next ones come from the younger."""
    pair = market()
    pair.hear(pair.elder, liquidated(1))
    pair.rotate()
    pair.hear(pair.younger, liquidated(2), liquidated(3))
    pair.wait()
    assert not pair.owned(LIQUIDATIONS)
    pair.hear(pair.elder, liquidated(2))
    pair.wait()
    assert pair.owned(LIQUIDATIONS)
    pair.hear(pair.elder, liquidated(3), liquidated(4))
    pair.hear(pair.younger, liquidated(4))
    assert quantities(pair) == ["1.5", "2.5", "3.5", "4.5"]
    assert (pair.gaps, pair.rejects) == ([], [])


def test_liquidations_that_are_not_in_the_order_of_their_times_are_all_told() -> None:
    """The elder's last one was later than the one that the younger begins with."""
    pair = market()
    pair.hear(pair.elder, liquidated(9))
    pair.rotate()
    pair.hear(pair.younger, liquidated(5))
    pair.wait(2)
    assert not pair.owned(LIQUIDATIONS)
    pair.hear(pair.elder, liquidated(7), liquidated(5))
    pair.wait()
    assert pair.owned(LIQUIDATIONS)
    assert quantities(pair) == ["9.5", "7.5", "5.5"]
    assert pair.gaps == []


# Books

CHAINS: dict[str, tuple[Callable[[], Shard], Any]] = {
    "spot": (spot, Chain),
    "perpetual": (lambda: perpetual("public"), FuturesChain),
}


@pytest.fixture(params=CHAINS)
def books(request: pytest.FixtureRequest) -> tuple[Pair, Any]:
    """A pair whose elder has a book, and the exchange's chain."""
    make, kind = CHAINS[request.param]
    pair, chain = Pair(make()), kind.made(5, 60)
    pair.live(chain)
    return pair, chain


def frames(chain: Any, first: int, last: int) -> list[bytes]:
    """Some updates."""
    return [chain.frame(number) for number in range(first, last)]


def true(pair: Pair, truth: Any) -> bool:
    """Whether the consumer's book is the exchange's."""
    book = pair.consumer.books["BTC-USDT"]
    return (book.last_id, book.bids, book.asks) == (truth.last_id, truth.bids, truth.asks)


@pytest.mark.parametrize("ahead", ["elder", "younger", "neither"])
def test_a_book_is_handed_over_without_a_snapshot(books: tuple[Pair, Any], ahead: str) -> None:
    """Whoever is ahead: every update once, chained, and no request."""
    pair, chain = books
    pair.hear(pair.elder, *frames(chain, 0, 10))
    pair.rotate()
    assert pair.younger.fetches == []
    pair.hear(pair.younger, *frames(chain, 10, 15))
    pair.hear(pair.elder, *frames(chain, 10, {"elder": 20, "younger": 11, "neither": 15}[ahead]))
    pair.wait()
    assert pair.owned(BOOK)
    pair.hear(pair.elder, *frames(chain, 11, 30))
    pair.hear(pair.younger, *frames(chain, 15, 40))
    assert true(pair, chain.truths[40])
    assert pair.consumer.books["BTC-USDT"].updates == 40
    assert (pair.consumer.faults, pair.gaps, pair.rejects) == ([], [], [])
    assert pair.younger.fetches == []
    assert len(pair.elder.fetches) == 1


def test_a_book_goes_over_as_soon_as_what_is_held_continues_it(books: tuple[Pair, Any]) -> None:
    """The elder need not hear of it any more."""
    pair, chain = books
    pair.hear(pair.elder, *frames(chain, 0, 10))
    pair.rotate()
    pair.wait()
    assert not pair.owned(BOOK)
    pair.hear(pair.younger, chain.frame(10))
    pair.wait()
    assert pair.owned(BOOK)
    assert true(pair, chain.truths[11])


def test_a_quiet_book_goes_over_as_it_stands(books: tuple[Pair, Any]) -> None:
    """Live, with its rhythm of snapshots."""
    pair, chain = books
    pair.hear(pair.elder, *frames(chain, 0, 10))
    pair.rotate()
    pair.wait(QUIET)
    assert pair.owned(BOOK)
    assert pair.younger.session.streams[BOOK].phase is Phase.LIVE
    pair.hear(pair.younger, *frames(chain, 10, 12))
    assert true(pair, chain.truths[12])
    snapshots = pair.consumer.books["BTC-USDT"].snapshots
    pair.wait(10)
    assert pair.consumer.books["BTC-USDT"].snapshots == snapshots + 1
    assert (pair.consumer.faults, pair.gaps, pair.younger.fetches) == ([], [], [])


def test_the_rhythm_of_snapshots_is_kept(books: tuple[Pair, Any]) -> None:
    """One each ten seconds, whoever has the book."""
    pair, chain = books
    pair.rotate()
    for second in range(40):
        pair.both(chain.frame(second))
        pair.wait(1)
    assert pair.owned(BOOK)
    snapshots = [
        record.collected_at
        for record in pair.records
        if isinstance(record, OrderBookRecord) and record.update_type == "snapshot"
    ]
    assert [round((b - a) / SECOND) for a, b in pairwise(snapshots)] == [10, 10, 10, 10]


def test_an_elder_s_book_that_is_out_of_step_is_waited_for(books: tuple[Pair, Any]) -> None:
    """It asks for its snapshot as ever; then it goes over."""
    pair, chain = books
    pair.hear(pair.elder, *frames(chain, 0, 10))
    pair.rotate()
    pair.hear(pair.younger, *frames(chain, 10, 14))
    pair.hear(pair.elder, chain.frame(13))
    assert pair.elder.session.streams[BOOK].phase is not Phase.LIVE
    pair.wait(2)
    assert not pair.owned(BOOK)
    pair.answer(pair.elder, chain.snapshot(14))
    pair.wait()
    assert pair.owned(BOOK)
    pair.both(*frames(chain, 14, 20))
    assert true(pair, chain.truths[20])
    assert pair.consumer.faults == []
    assert len(pair.gaps) == 1
    assert pair.younger.fetches == []


def test_a_book_that_never_joins_is_asked_for_when_patience_is_over(
    books: tuple[Pair, Any],
) -> None:
    """By an ordinary request, with a gap; nothing is said twice."""
    pair, chain = books
    pair.hear(pair.elder, *frames(chain, 0, 10))
    pair.rotate()
    pair.hear(pair.younger, *frames(chain, 12, 14))
    pair.wait(PATIENCE / SECOND + 1)
    assert pair.owned(BOOK)
    (fetch,) = pair.younger.fetches
    assert (fetch.priority, fetch.before) == (Priority.RESYNC, None)
    pair.answer(pair.younger, chain.snapshot(13))
    assert [gap.reason for gap in pair.gaps] == ["stale"]
    pair.hear(pair.younger, *frames(chain, 14, 20))
    assert true(pair, chain.truths[20])
    assert pair.consumer.faults == []


def test_updates_cut_otherwise_on_the_other_connection_are_taken_where_they_overlap() -> None:
    """One of them lies over the elder's last id: its quantities are whole, so nothing is lost."""
    pair, chain = Pair(spot()), Chain.made(5, 30)
    pair.live(chain)
    pair.hear(pair.elder, *frames(chain, 0, 10))
    pair.rotate()
    both = chain.updates[9]["b"] + chain.updates[10]["b"], chain.updates[9]["a"]
    merged = chain.updates[10] | {
        "U": chain.updates[9]["U"],
        "b": list({price: [price, q] for price, q in both[0]}.values()),
        "a": list({price: [price, q] for price, q in both[1] + chain.updates[10]["a"]}.values()),
    }
    pair.hear(pair.younger, said(**merged), chain.frame(11))
    pair.wait()
    assert pair.owned(BOOK)
    assert true(pair, chain.truths[12])
    assert (pair.consumer.faults, pair.gaps) == ([], [])


@given(kind=st.sampled_from(sorted(CHAINS)), seed=st.integers(0, 2**32))
@settings(max_examples=examples(200), deadline=None)
def test_however_the_two_interleave_a_book_is_whole(kind: str, seed: int) -> None:
    """Both hear one chain in order, each at its own pace, the younger from anywhere on."""
    make, chains = CHAINS[kind]
    dice = random.Random(seed)
    pair, chain = Pair(make()), chains.made(seed % 50, 40)
    pair.live(chain)
    younger = dice.randint(0, 20)
    elder = dice.randint(max(0, younger - 5), younger + 5)
    pair.hear(pair.elder, *frames(chain, 0, elder))
    pair.rotate()
    while younger < 40 or elder < 40:
        upto = min(40, elder + dice.randint(0, 4)), min(40, younger + dice.randint(0, 4))
        pair.hear(pair.elder, *frames(chain, elder, upto[0]))
        pair.hear(pair.younger, *frames(chain, younger, upto[1]))
        elder, younger = upto
        pair.wait()
    pair.wait(QUIET)
    assert pair.owned(BOOK)
    assert true(pair, chain.truths[40])
    assert (pair.consumer.faults, pair.gaps, pair.younger.fetches) == ([], [], [])


# The younger's restraint


def test_the_younger_touches_no_cursor_of_a_stream_that_it_has_not() -> None:
    """Whatever it hears, is confirmed, or is asked for."""
    pair, chain = Pair(spot()), Chain.made(5, 20)
    pair.live(chain)
    pair.hear(pair.elder, *frames(chain, 0, 5), spot_trade(1))
    before = {stream: attrs.evolve(cursor) for stream, cursor in pair.cursors.items()}
    pair.rotate()
    pair.hear(pair.younger, *frames(chain, 7, 12), spot_trade(4), spot_trade(5))
    pair.wait(8)
    assert (
        pair.did(pair.younger, pair.younger.session.send_snapshot(BOOK, 7, pair.now)).records == []
    )
    assert pair.cursors == before
    assert pair.elder.session.send_snapshot(BOOK, 7, pair.now).records != []


def test_liquidations_are_not_listened_to_before_they_are_taken_over() -> None:
    """A gap that stands open with the elder is not the younger's to end."""
    pair = market()
    pair.hear(pair.elder, liquidated(1))
    pair.cursors[LIQUIDATIONS].lose("stale", "of a test")
    pair.rotate()
    assert pair.gaps == []
    confirmed = pair.now.wall
    pair.wait(QUIET)
    (gap,) = pair.gaps
    assert gap.ended_at == pytest.approx(confirmed, abs=0.1 * SECOND)


def test_a_renewal_of_the_elder_s_does_not_disturb() -> None:
    """It leaves and comes back; the book is synchronised anew, and then goes over."""
    pair, chain = Pair(perpetual("public")), FuturesChain.made(5, 40)
    pair.live(chain)
    pair.hear(pair.elder, *frames(chain, 0, 5))
    pair.rotate()
    pair.did(pair.elder, pair.elder.session.renew(BOOK, pair.now))
    pair.wait(1)
    pair.hear(pair.younger, *frames(chain, 7, 12))
    pair.confirm(pair.elder)
    pair.hear(pair.elder, *frames(chain, 9, 12))
    pair.answer(pair.elder, chain.snapshot(10))
    pair.wait()
    assert pair.owned(BOOK)
    pair.both(*frames(chain, 12, 20))
    assert true(pair, chain.truths[20])
    assert pair.consumer.faults == []
    assert [gap.reason for gap in pair.gaps] == ["stale"]


def test_the_new_owner_restates_a_book() -> None:
    """After an overflow of the channel, the elder has nothing to say any more."""
    pair, chain = Pair(spot()), Chain.made(5, 20)
    pair.live(chain)
    pair.rotate()
    pair.both(*frames(chain, 0, 5))
    pair.wait()
    assert pair.owned(BOOK)
    assert pair.elder.session.send_snapshot(BOOK, 7, pair.now).records == []
    (snapshot,) = pair.younger.session.send_snapshot(BOOK, 7, pair.now).records
    assert isinstance(snapshot, OrderBookRecord)
    assert (snapshot.last_update_id, snapshot.heals_gap) == (chain.truths[5].last_id, 7)


def test_a_book_that_went_over_is_audited_as_before() -> None:
    """When the elder would have, on the younger's connection; the book is still the exchange's."""
    pair, chain = Pair(spot()), Chain.made(5, 20)
    pair.live(chain)
    pair.rotate()
    pair.both(*frames(chain, 0, 5))
    pair.wait()
    assert pair.owned(BOOK)
    pair.wait(OrderbookOptions().audit_interval + 1)
    (fetch,) = pair.younger.fetches
    assert isinstance(fetch.tag, audit.Tag)
    fresh = Fetched(chain.snapshot(5), pair.now.monotonic)
    assert (
        pair.did(pair.younger, pair.younger.session.reply(fetch.tag, fresh, pair.now)) == Output()
    )
    assert pair.younger.session.streams[BOOK].audits == {audit.Outcome.AGREED: 1}


def test_late_answers_to_the_elder_change_nothing() -> None:
    """Of a book that has gone over."""
    pair, chain = Pair(spot()), Chain.made(5, 20)
    pair.live(chain)
    pair.rotate()
    pair.both(*frames(chain, 0, 5))
    pair.wait()
    assert pair.answer(pair.elder, chain.snapshot(3)) == Output()
    assert pair.hear(pair.elder, b'{"result":null,"id":77}').records == []
    assert true(pair, chain.truths[5])


def refuse(pair: Pair, side: Side, channel: str) -> None:
    """Answer all that a side asks for: that channel is refused, all else granted."""
    refusal: dict[str, Any] = {"error": {"code": 2, "msg": "Invalid request"}}
    while side.sent:
        command = side.sent.pop(0)
        outcome = refusal if channel in command["params"] else {"result": None}
        pair.hear(side, said(id=command["id"], **outcome))


def test_a_stream_that_the_younger_is_refused_stays_with_the_elder() -> None:
    """It goes on there; the others go over, and this one when it is granted."""
    pair = market()
    pair.hear(pair.elder, trade(1))
    pair.rotate(confirm=False)
    refuse(pair, pair.younger, "btcusdt@aggTrade")
    assert pair.younger.session.streams[TRADES].phase is Phase.PARKED
    assert any(isinstance(step, Park) for step in pair.younger.actions)
    pair.wait(QUIET)
    assert set(pair.elder.session.streams) == {TRADES}
    pair.hear(pair.elder, trade(2))
    assert pair.trades == [1, 2]
    pair.wait(30)
    (again,) = pair.younger.sent
    assert again["params"] == ["btcusdt@aggTrade"]
    pair.confirm(pair.younger)
    pair.hear(pair.younger, trade(3))
    pair.hear(pair.elder, trade(3))
    pair.wait()
    assert not pair.elder.session.streams
    pair.hear(pair.younger, trade(4))
    assert pair.trades == [1, 2, 3, 4]
    assert pair.gaps == []


def test_a_stream_that_neither_can_have_is_not_waited_for() -> None:
    """There is nothing to take over, and what it misses is a gap once it speaks."""
    pair = market()
    pair.hear(pair.elder, trade(1))
    pair.did(pair.elder, pair.elder.session.renew(TRADES, pair.now))
    pair.seconds += 1
    pair.did(pair.elder, pair.elder.session.tick(pair.now))
    refuse(pair, pair.elder, "btcusdt@aggTrade")
    pair.rotate(confirm=False)
    refuse(pair, pair.younger, "btcusdt@aggTrade")
    assert pair.owned(TRADES)
    assert pair.cursors[TRADES].gap is not None
    pair.wait(QUIET)
    assert not pair.elder.session.streams


# The elder ends first


def test_what_joined_already_is_inherited_without_a_gap(books: tuple[Pair, Any]) -> None:
    """The elder ended in the very moment."""
    pair, chain = books
    pair.hear(pair.elder, *frames(chain, 0, 10))
    pair.rotate()
    pair.hear(pair.younger, *frames(chain, 8, 14))
    pair.orphan()
    assert not pair.elder.session.streams
    assert true(pair, chain.truths[14])
    assert (pair.consumer.faults, pair.gaps, pair.younger.fetches) == ([], [], [])


def test_a_book_that_had_not_joined_is_synchronised_with_a_gap(books: tuple[Pair, Any]) -> None:
    """What the elder would still have heard is missing."""
    pair, chain = books
    pair.hear(pair.elder, *frames(chain, 0, 10))
    pair.rotate()
    pair.hear(pair.younger, *frames(chain, 12, 14))
    pair.orphan()
    pair.answer(pair.younger, chain.snapshot(13))
    assert [gap.reason for gap in pair.gaps] == ["disconnect"]
    assert true(pair, chain.truths[14])
    assert pair.consumer.faults == []


def test_a_quiet_book_is_synchronised_and_shows_no_gap(books: tuple[Pair, Any]) -> None:
    """Its snapshot proves that nothing is missing."""
    pair, chain = books
    pair.hear(pair.elder, *frames(chain, 0, 10))
    pair.rotate()
    pair.orphan()
    pair.hear(pair.younger, *frames(chain, 10, 12))
    pair.answer(pair.younger, chain.snapshot(11))
    assert true(pair, chain.truths[12])
    assert (pair.consumer.faults, pair.gaps) == ([], [])


def test_inherited_trades_tell_a_gap_where_some_are_missing() -> None:
    """And none where the ids join."""
    pair = market()
    pair.hear(pair.elder, trade(1))
    pair.rotate()
    pair.hear(pair.younger, trade(4))
    pair.orphan()
    (gap,) = (gap for gap in pair.gaps if gap.affected is DataType.TRADE)
    assert (gap.reason, gap.first_missing_id, gap.last_missing_id) == ("disconnect", 2, 3)
    assert pair.trades == [1, 4]
    assert pair.younger.session.streams[TRADES].phase is Phase.LIVE

    other = market()
    other.hear(other.elder, trade(1))
    other.rotate()
    other.orphan()
    other.hear(other.younger, trade(2))
    assert other.trades == [1, 2]
    assert [gap for gap in other.gaps if gap.affected is DataType.TRADE] == []


def test_inherited_liquidations_end_their_gap_with_the_subscription() -> None:
    """Confirmed before or after the elder ended: from then on silence means that there was none."""
    pair = market()
    pair.hear(pair.elder, liquidated(1))
    lost = pair.now.wall
    pair.rotate(confirm=False)
    pair.wait(2)
    pair.orphan()
    assert pair.gaps == []
    pair.confirm(pair.younger)
    (gap,) = pair.gaps
    assert (gap.affected, gap.reason) == (DataType.LIQUIDATION, "disconnect")
    assert gap.started_at == lost
    assert gap.ended_at == pair.now.wall

    earlier = market()
    earlier.hear(earlier.elder, liquidated(1))
    earlier.rotate()
    confirmed = earlier.now.wall
    earlier.wait(2)
    earlier.orphan()
    (gap,) = earlier.gaps
    assert gap.ended_at == confirmed


def test_a_second_rotation_follows_the_first() -> None:
    """The younger is an elder then, with all that it took over."""
    pair, chain = Pair(spot()), Chain.made(5, 60)
    pair.live(chain)
    for start in range(0, 50, 10):
        pair.rotate()
        pair.both(*frames(chain, start, start + 10), spot_trade(start + 1), spot_trade(start + 2))
        pair.wait()
        assert not pair.elder.session.streams
        pair.elder = pair.younger
        pair.hear(pair.elder, *(spot_trade(n) for n in range(start + 3, start + 11)))
    assert true(pair, chain.truths[50])
    assert pair.trades == list(range(1, 51))
    assert (pair.consumer.faults, pair.gaps, pair.rejects) == ([], [], [])
    assert pair.elder.fetches == []
