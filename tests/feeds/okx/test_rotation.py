"""One OKX connection taking over from another, as one would play the exchange by hand."""

from collections.abc import Callable

import attrs
import pytest
from okx_line import BTC, SPOT_CONFIG, START, SWAP, SWAP_CONFIG, OkxChain, OkxLine, push

from marketprism.feeds import audit
from marketprism.feeds.actions import Fetch, FetchFailed, Output, Park, Reject, Rotate
from marketprism.instruments import Instrument
from marketprism.records import (
    DataType,
    FundingRate,
    Gap,
    Liquidation,
    OpenInterest,
    OrderBookRecord,
    Record,
    Trade,
)
from marketprism.settings.exchanges import OrderbookOptions, VenueConfig
from marketprism.streams.state import Phase
from marketprism.streams.subscription import Stream, Subscription

NOW = START // 1_000_000
"""Milliseconds."""
BOOK: Stream = (DataType.ORDERBOOK, "BTC-USDT")
TRADES: Stream = (DataType.TRADE, "BTC-USDT")
FUNDING: Stream = (DataType.FUNDING_RATE, "BTC-USDT-SWAP")
LIQUIDATIONS: Stream = (DataType.LIQUIDATION, "BTC-USDT-SWAP")


@attrs.define
class Pair:
    """Two lines of one shard, and all that was published, in its order."""

    old: OkxLine
    new: OkxLine

    @classmethod
    def of(cls, old: OkxLine, chain: OkxChain | None = None, number: int | None = None) -> "Pair":
        """A second line beside one that stands; it is told the chain's book before that update."""
        picture = None if chain is None or number is None else chain.snapshot(number)
        new = OkxLine(
            old.config,
            old.instruments,
            old.cursors,
            old.consumer,
            lambda _: picture,
            elder=old.session,
            seconds=old.seconds,
            outputs=old.outputs,
        )
        return cls(old, new)

    def elder(self, *frames: bytes) -> Output:
        """The elder hears this."""
        self.old.seconds = self.new.seconds = max(self.old.seconds, self.new.seconds)
        return self.old.hear(*frames)

    def younger(self, *frames: bytes) -> Output:
        """The younger hears this."""
        self.old.seconds = self.new.seconds = max(self.old.seconds, self.new.seconds)
        return self.new.hear(*frames)

    def wait(self, seconds: float) -> list[Record]:
        """Ticks of both, while the elder answers pings; what they published."""
        before = len(self.new.outputs)
        for _ in range(round(seconds / 0.25)):
            self.old.seconds = max(self.old.seconds, self.new.seconds)
            for state in self.old.session.streams.values():
                state.heard_until = self.old.now.monotonic
            self.old.wait(0.25)
            self.new.wait(0.25)
        return [record for turn in self.new.outputs[before:] for record in turn.records]

    def orphan(self) -> Output:
        """The elder's connection ends, a moment after it was last heard of."""
        self.new.seconds = max(self.old.seconds, self.new.seconds)
        for stream in self.old.session.streams:
            self.old.cursors[stream].received = self.new.now.wall
        self.new.seconds += 0.01
        return self.new.did(self.new.session.old_gone(self.new.now))

    def owns(self, stream: Stream) -> bool:
        """Whether it went over."""
        return stream not in self.old.session.streams

    @property
    def records(self) -> list[Record]:
        return [record for turn in self.new.outputs for record in turn.records]

    @property
    def gaps(self) -> list[Gap]:
        return [record for record in self.records if isinstance(record, Gap)]

    def untroubled(self) -> bool:
        """Nothing was fetched or rejected, and the consumer saw no promise broken."""
        actions = [step for turn in self.new.outputs for step in turn.actions]
        troubles = [step for step in actions if isinstance(step, Fetch | Reject | Park)]
        return not troubles and not self.old.consumer.faults


def line_of(*data_types: DataType, instrument: Instrument = BTC) -> OkxLine:
    """A line with those streams."""
    config = SPOT_CONFIG if instrument is BTC else SWAP_CONFIG
    return OkxLine(attrs.evolve(config, data_types=data_types), [instrument])


def trade(number: int, **changes: object) -> bytes:
    """A trade's push."""
    fields = {"tradeId": str(number), "px": "100.5", "sz": "0.25", "side": "sell"}
    return push("trades", "BTC-USDT", fields | {"ts": str(NOW + number)} | changes)


def funding(second: int, rate: str = "0.0001") -> bytes:
    """A funding rate's push."""
    fields = {"fundingRate": rate, "fundingTime": str(NOW + 9_000_000)}
    return push("funding-rate", "BTC-USDT-SWAP", fields | {"ts": str(NOW + second * 1000)})


def interest(second: int) -> bytes:
    """An open interest's push."""
    fields = {"oi": "7", "oiCcy": "0.07", "ts": str(NOW + second * 1000)}
    return push("open-interest", "BTC-USDT-SWAP", fields)


def liquidated(*sizes: int, at: int = 0) -> bytes:
    """A push of so many liquidations."""
    details = [
        {"side": "sell", "posSide": "long", "bkPx": "100", "sz": str(size), "ts": str(NOW + at)}
        for size in sizes
    ]
    fields = {"instId": "BTC-USDT-SWAP", "details": details}
    return push("liquidation-orders", "SWAP", fields)


def trades(pair: Pair) -> list[int]:
    """The ids of all that were published."""
    return [int(record.trade_id) for record in pair.records if isinstance(record, Trade)]


def liquidations(pair: Pair) -> list[str]:
    """Size and number of those that were published."""
    told = [record for record in pair.records if isinstance(record, Liquidation)]
    return [":".join(record.liquidation_id.split(":")[-2:]) for record in told]


# What joins by a number or a time


def test_trades_are_held_back_until_the_elder_has_published_the_first_of_them() -> None:
    """Then they go on from the younger, in the same step; what the elder still hears is nothing."""
    pair = Pair.of(line_of(DataType.TRADE))
    pair.elder(trade(5))
    assert pair.younger(trade(6), trade(7)).records == []
    assert pair.old.cursors[TRADES].last_id == 5
    assert pair.younger(trade(8)).records == []
    pair.elder(trade(6))
    assert not pair.owns(TRADES)
    pair.younger(trade(9))
    assert pair.owns(TRADES)
    assert pair.elder(trade(7), trade(8), trade(9), trade(10)) == Output()
    pair.younger(trade(10))
    assert trades(pair) == [5, 6, 7, 8, 9, 10]
    assert pair.gaps == []
    assert pair.untroubled()


def test_a_tick_takes_over_what_has_joined_meanwhile() -> None:
    """Where the younger hears nothing more."""
    pair = Pair.of(line_of(DataType.TRADE))
    pair.younger(trade(6), trade(7))
    pair.elder(trade(5), trade(6))
    pair.wait(0.25)
    assert trades(pair) == [5, 6, 7]
    assert pair.owns(TRADES)


def test_an_elder_that_is_ahead_is_caught_up_with_in_silence() -> None:
    """What it published is a repetition here."""
    pair = Pair.of(line_of(DataType.TRADE))
    pair.elder(trade(5), trade(6), trade(7))
    pair.younger(trade(5))
    assert pair.owns(TRADES)
    pair.younger(trade(6), trade(7), trade(8))
    assert trades(pair) == [5, 6, 7, 8]


def test_trades_go_on_from_the_very_one_whatever_their_times_say() -> None:
    """A smaller number at a later time would be a new count."""
    pair = Pair.of(line_of(DataType.TRADE))
    pair.younger(trade(6), trade(7, ts=str(NOW + 900)), trade(8, ts=str(NOW + 800)), trade(9))
    pair.elder(trade(6), trade(7, ts=str(NOW + 900)), trade(8, ts=str(NOW + 800)))
    pair.wait(0.25)
    assert trades(pair) == [6, 7, 8, 9]


def test_trades_whose_numbers_start_over_meanwhile_are_neither_lost_nor_doubled() -> None:
    """The elder still counts the old way; or both hear it, which takes its time to be believed."""
    late = [trade(n, ts=str(NOW + 5_000 + n)) for n in range(1, 5)]
    pair = Pair.of(line_of(DataType.TRADE))
    pair.elder(trade(100))
    pair.younger(*late[:2])
    pair.wait(1)
    assert trades(pair) == [100]
    pair.elder(trade(101), *late[:1])
    pair.younger(*late[2:])
    assert trades(pair) == [100, 101, 1, 2, 3, 4]

    pair = Pair.of(line_of(DataType.TRADE))
    pair.younger(trade(100), *late[:3])
    pair.elder(trade(100), *late[:2])
    pair.younger(late[3])
    assert pair.wait(29) == []
    pair.wait(2)
    assert trades(pair) == [100, 1, 2, 3, 4]
    assert pair.gaps == []


SHUFFLED = [5, 7, 6, 9, 8, 10]
"""Ids of trades in the order in which they come; all of one millisecond but the first."""


def shuffled(numbers: list[int]) -> list[bytes]:
    """Their pushes."""
    return [trade(number, ts=str(NOW + 6 * (number > 5))) for number in numbers]


@pytest.mark.parametrize("begins", range(6))
@pytest.mark.parametrize("ends", range(1, 7))
def test_trades_in_no_order_are_each_told_once(begins: int, ends: int) -> None:
    """Wherever the younger begins, and the elder is when they join."""
    pair = Pair.of(line_of(DataType.TRADE))
    pair.elder(*shuffled(SHUFFLED[:ends]))
    pair.younger(*shuffled(SHUFFLED[begins:]))
    pair.elder(*shuffled(SHUFFLED[ends:]))
    pair.younger(trade(20))
    pair.elder(trade(20))
    pair.wait(31)
    assert trades(pair) == [*SHUFFLED, 20]
    assert pair.gaps == []
    assert pair.owns(TRADES)


@pytest.mark.parametrize("who", ["elder", "younger", "both"])
def test_a_time_and_an_id_of_a_time_to_come_do_not_hold_the_join_up(who: str) -> None:
    """Nor is it told twice, or anything lost."""
    stray = trade(10**12, ts="1800000000000")
    pair = Pair.of(line_of(DataType.TRADE))
    pair.elder(trade(5), *[stray] * (who != "younger"))
    pair.younger(*[stray] * (who != "elder"), trade(6), trade(7))
    pair.elder(trade(6))
    pair.wait(0.25)
    assert pair.owns(TRADES)
    pair.younger(trade(8))
    assert [number for number in trades(pair) if number != 10**12] == [5, 6, 7, 8]
    assert trades(pair).count(10**12) == 1
    assert pair.gaps == []


@pytest.mark.parametrize("place", range(3))
def test_an_update_of_a_time_to_come_does_not_hold_a_book_up(place: int) -> None:
    """It goes over without a snapshot or a gap."""
    chain = OkxChain.made(3, 8)
    old = OkxLine(snapshots=lambda _: chain.snapshot(0))
    pair = Pair.of(old)
    pair.elder(chain.frame(0))
    stray = chain.frame(3, ts="1800000000000", seqId=10**12, prevSeqId=10**12 - 1)
    frames = [chain.frame(number) for number in (1, 2, 3)]
    frames.insert(place, stray)
    pair.younger(*frames)
    pair.elder(*frames)
    pair.wait(0.25)
    assert pair.owns(BOOK)
    pair.younger(*(chain.frame(number) for number in (4, 5, 6, 7)))
    book = old.consumer.books["BTC-USDT"]
    assert (book.last_id, book.bids, book.asks) == attrs.astuple(chain.truths[8])
    assert pair.gaps == []
    assert pair.untroubled()


def test_what_neither_hears_goes_over_after_a_while_of_silence() -> None:
    """Five seconds; a younger that is deaf to what the elder hears gets nothing."""
    pair = Pair.of(line_of(DataType.TRADE))
    pair.elder(trade(5))
    pair.wait(4)
    pair.elder(trade(6))
    pair.wait(4.5)
    assert not pair.owns(TRADES)
    pair.wait(1)
    assert pair.owns(TRADES)
    pair.younger(trade(7))
    assert trades(pair) == [5, 6, 7]
    assert pair.gaps == []

    pair = Pair.of(line_of(DataType.TRADE))
    for number in range(60):
        pair.elder(trade(number))
        pair.wait(1)
    assert not pair.owns(TRADES)


def test_trades_that_never_join_go_over_with_a_gap() -> None:
    """After half a minute: the elder has gone deaf."""
    pair = Pair.of(line_of(DataType.TRADE))
    pair.elder(trade(5))
    pair.younger(trade(8))
    pair.wait(29)
    assert trades(pair) == [5]
    pair.wait(2)
    assert trades(pair) == [5, 8]
    (gap,) = pair.gaps
    assert (gap.affected, gap.reason) == (DataType.TRADE, "stale")
    # And before the trade that ends it.
    assert [type(record) for record in pair.records] == [Trade, Gap, Trade]


def test_a_loss_of_the_elders_that_the_younger_heard_is_none() -> None:
    """The younger knows all since the last that was published."""
    pair = Pair.of(line_of(DataType.TRADE))
    pair.elder(trade(5))
    pair.old.cursors[TRADES].lose("stale", "of a test")
    pair.younger(trade(5), trade(6))
    assert trades(pair) == [5, 6]
    assert pair.gaps == []


def test_the_end_of_the_elder_is_a_gap_unless_what_is_held_joins() -> None:
    """From its last sign of life on."""
    pair = Pair.of(line_of(DataType.TRADE))
    pair.elder(trade(5))
    pair.younger(trade(7))
    assert [type(record) for record in pair.orphan().records] == [Gap, Trade]
    (gap,) = pair.gaps
    assert gap.reason == "disconnect"
    assert pair.owns(TRADES)

    pair = Pair.of(line_of(DataType.TRADE))
    pair.younger(trade(5), trade(6))
    pair.elder(trade(5))
    assert trades(pair) == [5]
    pair.orphan()
    assert trades(pair) == [5, 6]
    assert pair.gaps == []

    pair = Pair.of(line_of(DataType.TRADE))
    pair.elder(trade(5))
    pair.orphan()
    pair.younger(trade(6))
    assert len(pair.gaps) == 1


def test_what_is_published_of_funding_does_not_depend_on_the_rotation() -> None:
    """The first of each 30 s and every change, whoever heard the one before."""
    alone, pair = line_of(DataType.FUNDING_RATE, instrument=SWAP), None
    frames = [funding(n, "0.0002" if 33 <= n < 36 else "0.0001") for n in range(0, 66, 3)]
    for frame in frames:
        alone.hear(frame)
    wanted = [r.timestamp for t in alone.outputs for r in t.records if isinstance(r, FundingRate)]
    for change in range(1, len(frames)):
        pair = Pair.of(line_of(DataType.FUNDING_RATE, instrument=SWAP))
        pair.elder(*frames[:change])
        pair.younger(*frames[change - 1 :])
        assert pair.owns(FUNDING)
        told = [r.timestamp for r in pair.records if isinstance(r, FundingRate)]
        assert told == wanted


def test_a_thinned_rate_joins_as_well() -> None:
    """The elder heard it, though it published nothing."""
    pair = Pair.of(line_of(DataType.FUNDING_RATE, instrument=SWAP))
    pair.elder(funding(0), funding(3))
    pair.younger(funding(6), funding(9))
    assert not pair.owns(FUNDING)
    pair.elder(funding(6))
    pair.wait(0.25)
    assert pair.owns(FUNDING)
    assert len(pair.records) == 1


def test_open_interest_joins_by_its_time() -> None:
    """The same or a later one."""
    pair = Pair.of(line_of(DataType.OPEN_INTEREST, instrument=SWAP))
    pair.elder(interest(0))
    pair.younger(interest(3), interest(6))
    pair.elder(interest(3))
    pair.younger(interest(9))
    told = [r.timestamp for r in pair.records if isinstance(r, OpenInterest)]
    assert told == [START + n * 3_000_000_000 for n in range(4)]
    assert pair.gaps == []


# Liquidations


def test_a_liquidation_that_both_heard_is_published_once() -> None:
    """By whom first; with its number among equals; and nothing that one alone heard is lost."""
    pair = Pair.of(line_of(DataType.LIQUIDATION, instrument=SWAP))
    pair.elder(liquidated(1, 1, 2, at=9))
    pair.younger(liquidated(3, 3, at=5), liquidated(4, at=2))
    assert not pair.owns(LIQUIDATIONS)
    pair.elder(liquidated(3, 3, at=5))
    pair.younger(liquidated(5))
    assert pair.owns(LIQUIDATIONS)
    assert pair.elder(liquidated(4, at=2)) == Output()
    assert liquidations(pair) == ["1:1", "1:2", "2:1", "3:1", "3:2", "4:1", "5:1"]
    assert pair.gaps == []


def test_what_the_elder_was_first_to_tell_is_not_told_again_afterwards() -> None:
    """Though the stream has gone over meanwhile."""
    pair = Pair.of(line_of(DataType.LIQUIDATION, instrument=SWAP))
    pair.elder(liquidated(1), liquidated(2), liquidated(3))
    pair.younger(liquidated(1))
    assert pair.owns(LIQUIDATIONS)
    pair.younger(liquidated(2), liquidated(3), liquidated(4))
    assert liquidations(pair) == ["1:1", "2:1", "3:1", "4:1"]


def test_liquidations_that_are_the_elders_are_not_known_by_what_the_younger_hears() -> None:
    """Neither how far they are known, nor that their gap has ended."""
    old = line_of(DataType.LIQUIDATION, instrument=SWAP)
    cursor = old.cursors[LIQUIDATIONS]
    cursor.received = START
    cursor.lose("stale", "of a test")
    before = attrs.evolve(cursor)
    pair = Pair.of(old)
    pair.younger(liquidated(1))
    assert cursor == before
    assert pair.gaps == []
    pair.orphan()
    assert [type(record) for record in pair.records] == [Gap, Liquidation]


def test_quiet_liquidations_go_over_without_a_word() -> None:
    """Both listened, and there were none."""
    pair = Pair.of(line_of(DataType.LIQUIDATION, instrument=SWAP))
    assert pair.wait(5.5) == []
    assert pair.owns(LIQUIDATIONS)
    pair.younger(liquidated(1))
    assert liquidations(pair) == ["1:1"]
    assert pair.gaps == []


# Books


def always(picture: bytes) -> Callable[[str], bytes | None]:
    """Every subscriber is told this."""
    return lambda _: picture


def true(pair: Pair, chain: OkxChain, number: int = -1) -> bool:
    """The consumer's book is the exchange's."""
    book = pair.old.consumer.books["BTC-USDT"]
    return (book.last_id, book.bids, book.asks) == attrs.astuple(chain.truths[number])


def book_line(
    chain: OkxChain, number: int = 0, snapshot_interval: float = 0, audit_interval: float = 0
) -> OkxLine:
    """A line whose book lives, at the moment before that update."""
    config: VenueConfig = attrs.evolve(
        SPOT_CONFIG,
        data_types=(DataType.ORDERBOOK,),
        orderbook=OrderbookOptions(
            audit_interval=audit_interval, snapshot_interval=snapshot_interval
        ),
    )
    return OkxLine(config, [BTC], snapshots=lambda _: chain.snapshot(number))


@pytest.mark.parametrize("pictured", [True, False], ids=["told a book", "told none"])
@pytest.mark.parametrize(("elder", "younger"), [(4, 4), (2, 6), (6, 2)], ids=str)
def test_a_book_goes_over_in_its_chain(elder: int, younger: int, *, pictured: bool) -> None:
    """Whoever is ahead: no gap, no snapshot, no request, and each update once."""
    chain = OkxChain.made(3, 12)
    pair = Pair.of(book_line(chain), chain, younger if pictured else None)
    pair.elder(*(chain.frame(n) for n in range(elder)))
    at = elder
    for number in range(younger, 12):
        pair.younger(chain.frame(number))
        if at < number and not pair.owns(BOOK):
            pair.elder(chain.frame(at))
            at += 1
    pair.wait(0.5)
    assert pair.owns(BOOK)
    assert true(pair, chain)
    book = pair.old.consumer.books["BTC-USDT"]
    assert (book.snapshots, book.updates) == (1, 12)
    assert pair.gaps == []
    assert pair.untroubled()
    assert pair.elder(chain.frame(11)) == Output()
    state = pair.new.session.streams[BOOK]
    assert (state.phase, state.detail) == (Phase.LIVE, None)
    assert state.records > 0


def test_a_book_that_went_over_is_audited_as_before() -> None:
    """On the younger's connection; what came of it is told of the stream as it is now."""
    chain = OkxChain.made(3, 12)
    old = book_line(chain, audit_interval=20)
    pair = Pair.of(old, chain, 0)
    pair.elder(*(chain.frame(n) for n in range(4)))
    pair.younger(*(chain.frame(n) for n in range(4)))
    pair.wait(0.5)
    assert pair.owns(BOOK)
    pair.wait(22)
    actions = [step for turn in pair.new.outputs for step in turn.actions]
    (fetch,) = [step for step in actions if isinstance(step, Fetch)]
    assert isinstance(fetch.tag, audit.Tag)
    pair.new.did(pair.new.session.reply(fetch.tag, FetchFailed(None), pair.new.now))
    assert pair.new.session.streams[BOOK].audits == {audit.Outcome.FAILED: 1}


def test_a_book_that_went_over_is_the_youngers_to_lose_and_to_heal() -> None:
    """On its own connection, as any book."""
    chain = OkxChain.made(3, 12)
    pair = Pair.of(book_line(chain), chain, 0)
    pair.younger(chain.frame(0), chain.frame(2))
    assert pair.owns(BOOK)
    assert pair.new.session.streams[BOOK].phase is Phase.ACKNOWLEDGED
    pair.new.snapshots = lambda _: chain.snapshot(4)
    pair.new.said.clear()
    pair.wait(0.25)
    assert [command["op"] for command in pair.new.said] == ["unsubscribe", "subscribe"]
    pair.younger(*(chain.frame(n) for n in range(4, 12)))
    assert len(pair.gaps) == 1
    assert true(pair, chain)


def test_the_younger_leaves_a_book_alone_that_is_not_its_own() -> None:
    """Nor does it fetch one, though it is told none."""
    chain = OkxChain.made(3, 12)
    pair = Pair.of(book_line(chain))
    pair.elder(chain.frame(0))
    before = attrs.evolve(pair.old.cursors[BOOK])
    pair.younger(*(chain.frame(n) for n in range(4, 9)))
    assert pair.wait(10) == []
    assert pair.old.cursors[BOOK] == before
    assert pair.untroubled()


def test_a_quiet_book_goes_over_at_its_number() -> None:
    """By the snapshot, by a keep-alive, or by silence."""
    chain = OkxChain.made(3, 4)
    last = chain.truths[0].last_id
    alive = chain.frame(0, bids=[], asks=[], prevSeqId=last, seqId=last)
    for number, frames in ((0, []), (None, [alive]), (None, [])):
        pair = Pair.of(book_line(chain), chain, number)
        if frames:
            pair.younger(*frames)
        pair.wait(5.5)
        assert pair.owns(BOOK)
        pair.younger(*(chain.frame(n) for n in range(4)))
        assert true(pair, chain)
        assert pair.gaps == []
        assert pair.old.consumer.books["BTC-USDT"].snapshots == 1
        assert pair.untroubled()


def test_the_snapshots_of_a_book_come_as_if_nothing_had_happened() -> None:
    """At their interval, from the book that went over."""
    chain = OkxChain.made(3, 40)
    pair = Pair.of(book_line(chain, snapshot_interval=10), chain, 0)
    at = []
    for number in range(40):
        pair.younger(chain.frame(number))
        if not pair.owns(BOOK):
            pair.elder(chain.frame(number))
        at += [type(record) for record in pair.wait(1)]
    book = pair.old.consumer.books["BTC-USDT"]
    assert (book.snapshots, book.updates) == (5, 40)
    assert pair.untroubled()


def test_numbers_that_start_over_in_a_rotation_go_over_like_any() -> None:
    """Before or after the join."""
    for change in range(1, 7):
        chain = OkxChain.made(1, 8, first=1_000_000)
        for number in range(change, 8):
            chain.updates[number]["seqId"] -= 900_000
            if number > change:
                chain.updates[number]["prevSeqId"] -= 900_000
        for number in range(change + 1, 9):
            truth = chain.truths[number]
            chain.truths[number] = attrs.evolve(truth, last_id=truth.last_id - 900_000)
        for joined in range(2, 7):
            pair = Pair.of(book_line(chain), chain, 2)
            pair.elder(chain.frame(0))
            pair.younger(*(chain.frame(n) for n in range(2, 7)))
            pair.elder(*(chain.frame(n) for n in range(1, joined)))
            pair.younger(chain.frame(7))
            assert pair.owns(BOOK)
            assert true(pair, chain)
            assert pair.old.consumer.books["BTC-USDT"].updates == 8
            assert pair.gaps == []
            assert pair.untroubled()


def numbered_otherwise(chain: OkxChain, by: int) -> OkxChain:
    """The same book as another server counts it."""
    updates = [
        update | {"seqId": update["seqId"] + by, "prevSeqId": update["prevSeqId"] + by}
        for update in chain.updates
    ]
    truths = [attrs.evolve(truth, last_id=truth.last_id + by) for truth in chain.truths]
    return OkxChain(chain.native_id, updates, truths)


def test_books_whose_numbers_do_not_join_go_on_with_the_younger_at_a_higher_number() -> None:
    """After a while, with a snapshot and without a gap: both were heard all the time."""
    chain = OkxChain.made(3, 12)
    other = numbered_otherwise(chain, 5_000)
    pair = Pair.of(book_line(chain), other, 2)
    pair.elder(*(chain.frame(n) for n in range(4)))
    pair.younger(*(other.frame(n) for n in range(2, 6)))
    assert pair.wait(29.5) == []
    (snapshot,) = pair.wait(1)
    assert isinstance(snapshot, OrderBookRecord)
    assert (snapshot.update_type, snapshot.heals_gap) == ("snapshot", 0)
    assert snapshot.last_update_id == other.truths[6].last_id
    pair.younger(*(other.frame(n) for n in range(6, 12)))
    assert true(pair, other)
    assert pair.gaps == []
    assert not any(isinstance(step, Fetch) for turn in pair.new.outputs for step in turn.actions)


def test_numbers_that_look_alike_of_books_that_do_not_are_not_believed() -> None:
    """Another server may count in the same range."""
    chain, other = OkxChain.made(3, 12), OkxChain.made(4, 12)
    for number in range(12):
        for key in ("seqId", "prevSeqId"):
            other.updates[number][key] = chain.updates[number][key]
    other.truths = [
        attrs.evolve(truth, last_id=same.last_id)
        for truth, same in zip(other.truths, chain.truths, strict=True)
    ]
    pair = Pair.of(book_line(chain), other, 2)
    pair.elder(*(chain.frame(n) for n in range(4)))
    pair.younger(*(other.frame(n) for n in range(2, 6)))
    pair.wait(1)
    assert not pair.owns(BOOK)
    pair.wait(30)
    assert pair.owns(BOOK)
    pair.younger(*(other.frame(n) for n in range(6, 12)))
    assert true(pair, other)


def test_lower_numbers_that_never_join_are_a_gap() -> None:
    """They count anew, as far as anybody can tell."""
    chain = OkxChain.made(3, 12, first=90_000)
    other = numbered_otherwise(chain, -50_000)
    pair = Pair.of(book_line(chain), other, 2)
    pair.elder(*(chain.frame(n) for n in range(4)))
    pair.younger(*(other.frame(n) for n in range(2, 6)))
    pair.wait(31)
    (gap,) = pair.gaps
    assert (gap.first_missing_id, gap.last_missing_id) == (None, None)
    pair.younger(*(other.frame(n) for n in range(6, 12)))
    assert true(pair, other)
    assert pair.untroubled()


def test_a_book_of_which_the_elder_went_deaf_is_a_gap() -> None:
    """What it did not hear, nobody told: the younger's snapshot is of a later time."""
    chain = OkxChain.made(3, 12)
    pair = Pair.of(book_line(chain), chain, 4)
    pair.elder(chain.frame(0))
    pair.younger(*(chain.frame(n) for n in range(4, 8)))
    pair.wait(31)
    (gap,) = pair.gaps
    assert gap.reason == "stale"
    assert gap.first_missing_id == chain.truths[1].last_id + 1
    pair.younger(*(chain.frame(n) for n in range(8, 12)))
    assert true(pair, chain)
    assert pair.untroubled()


def test_what_the_elder_missed_of_a_book_comes_from_the_younger() -> None:
    """It is out of step, and what was published last is in the younger's chain: no gap at all."""
    chain = OkxChain.made(3, 12)
    pair = Pair.of(book_line(chain), chain, 1)
    pair.elder(chain.frame(0), chain.frame(1), chain.frame(3))
    assert pair.old.session.streams[BOOK].phase is Phase.ACKNOWLEDGED
    pair.younger(*(chain.frame(n) for n in range(1, 12)))
    assert pair.owns(BOOK)
    assert true(pair, chain)
    assert pair.old.consumer.books["BTC-USDT"].updates == 12
    assert pair.gaps == []
    assert pair.untroubled()


def test_an_elder_that_is_out_of_step_for_good_leaves_its_gap() -> None:
    """The younger's snapshot heals it, after a while; had it one, the elder would come first."""
    chain = OkxChain.made(3, 12)
    pair = Pair.of(book_line(chain), chain, 6)
    pair.old.snapshots = lambda _: None
    pair.elder(chain.frame(0), chain.frame(2))
    pair.younger(*(chain.frame(n) for n in range(6, 8)))
    pair.wait(31)
    (gap,) = pair.gaps
    assert (gap.reason, gap.last_missing_id) == ("sequence", chain.truths[8].last_id)
    pair.younger(*(chain.frame(n) for n in range(8, 12)))
    assert true(pair, chain)


def test_a_book_is_inherited_where_it_joins_and_without_a_snapshot() -> None:
    """The elder's book is good though its connection is gone."""
    chain = OkxChain.made(3, 12)
    pair = Pair.of(book_line(chain))
    pair.younger(chain.frame(2), chain.frame(3))
    pair.elder(*(chain.frame(n) for n in range(3)))
    pair.orphan()
    pair.younger(*(chain.frame(n) for n in range(4, 12)))
    assert true(pair, chain)
    assert pair.gaps == []
    assert pair.untroubled()


def test_a_book_that_is_inherited_unjoined_is_a_gap() -> None:
    """Healed by the snapshot that was heard, or else by one that is fetched."""
    chain = OkxChain.made(3, 12)
    for number in (4, None):
        pair = Pair.of(book_line(chain), chain, number)
        pair.elder(chain.frame(0))
        pair.younger(chain.frame(4))
        pair.orphan()
        pair.wait(6)
        if number is None:
            pair.new.answer(FetchFailed(500))
            pair.wait(1)
            pair.new.answer(chain.body(4))
        (gap,) = pair.gaps
        assert gap.reason == "disconnect"
        pair.younger(*(chain.frame(n) for n in range(5, 12)))
        assert true(pair, chain)
        assert pair.old.consumer.faults == []


def test_an_elders_book_that_lags_behind_is_waited_for() -> None:
    """It catches up with what was published before it goes over; unless the younger is there."""
    for at in (7, 5):
        chain = OkxChain.made(3, 12)
        line = book_line(chain)
        line.hear(*(chain.frame(n) for n in range(5)))
        line.cut()
        line.snapshots = always(chain.snapshot(2))
        line.connect()
        pair = Pair.of(line, chain, at)
        pair.younger(chain.frame(at))
        assert pair.owns(BOOK) is (at == 5)
        pair.elder(*(chain.frame(n) for n in range(2, 7)))
        pair.younger(*(chain.frame(n) for n in range(at + 1, 12)))
        assert pair.owns(BOOK)
        assert true(pair, chain)
        assert pair.gaps == []


def test_a_hole_in_what_the_younger_hears_only_shortens_its_chain() -> None:
    """The elder's book is good: it joins after the hole. A snapshot amid a hole is none either."""
    for picture in (False, True):
        chain = OkxChain.made(3, 12)
        pair = Pair.of(book_line(chain), chain, 2)
        amid = [chain.snapshot(4)] if picture else []
        pair.younger(chain.frame(2), *amid, chain.frame(4), chain.frame(3), chain.frame(5))
        pair.elder(chain.frame(0), chain.frame(1))
        pair.wait(1)
        assert not pair.owns(BOOK)
        pair.elder(chain.frame(2), chain.frame(3))
        pair.younger(*(chain.frame(n) for n in range(6, 12)))
        assert pair.owns(BOOK)
        assert true(pair, chain)
        assert pair.gaps == []
        assert pair.untroubled()


def test_a_hole_where_numbers_start_over_begins_the_chain_anew() -> None:
    """What came after it is no repetition of what came before."""
    chain = OkxChain.made(1, 8, first=1_000_000)
    for number in range(4, 8):
        chain.updates[number]["seqId"] -= 900_000
        if number > 4:
            chain.updates[number]["prevSeqId"] -= 900_000
    chain.truths[-1] = attrs.evolve(chain.truths[-1], last_id=chain.updates[7]["seqId"])
    pair = Pair.of(book_line(chain), chain, 2)
    pair.younger(chain.frame(2), chain.frame(3), chain.frame(5), chain.frame(6))
    pair.wait(1)
    pair.elder(*(chain.frame(n) for n in range(1)))
    assert not pair.owns(BOOK)
    pair.elder(*(chain.frame(n) for n in range(1, 5)))
    pair.younger(chain.frame(7))
    assert pair.owns(BOOK)
    assert true(pair, chain)


def test_numbers_that_look_alike_at_another_time_are_not_believed() -> None:
    """Where no book was told that would show it."""
    chain = OkxChain.made(3, 12)
    pair = Pair.of(book_line(chain))
    pair.elder(*(chain.frame(n) for n in range(6)))
    pair.younger(*(chain.frame(n, ts=str(NOW - 60_000 + n)) for n in range(4, 9)))
    pair.wait(1)
    assert not pair.owns(BOOK)


def test_a_snapshot_that_denies_itself_is_not_gone_on_with() -> None:
    """Its checksum is not that of the book: one is fetched."""
    chain = OkxChain.made(3, 12)
    old = book_line(chain)
    pair = Pair.of(old)
    pair.younger(chain.snapshot(4, checksum=7))
    pair.elder(chain.frame(0))
    pair.orphan()
    pair.wait(6)
    pair.new.answer(chain.body(4))
    pair.younger(*(chain.frame(n) for n in range(4, 12)))
    assert len(pair.gaps) == 1
    assert true(pair, chain)


def test_an_elder_that_lost_sight_is_not_followed_without_a_gap() -> None:
    """Though it spoke at the time of the younger's snapshot."""
    chain = OkxChain.made(3, 12)
    other = numbered_otherwise(chain, 5_000)
    pair = Pair.of(book_line(chain), other, 2)
    pair.old.snapshots = lambda _: None
    pair.elder(*(chain.frame(n) for n in range(4)), chain.frame(5))
    pair.younger(*(other.frame(n) for n in range(2, 8)))
    pair.wait(31)
    assert [gap.reason for gap in pair.gaps] == ["sequence"]
    assert true(pair, other, 8)


# The connection


@pytest.mark.parametrize("parked", [False, True])
def test_a_stream_that_the_younger_is_refused_is_given_up_only_with_the_elder(
    *, parked: bool
) -> None:
    """While the elder has it, that goes on telling and the younger asking: it goes over once it is
    granted. Where the elder cannot have it either, it is the younger's to ask for.
    """
    old = OkxLine(SPOT_CONFIG, [BTC])
    old.hear(trade(5))
    if parked:
        old.session.streams[TRADES].phase = Phase.PARKED
    new = OkxLine(
        SPOT_CONFIG, [BTC], old.cursors, old.consumer, elder=old.session, refuses="trades"
    )
    pair = Pair(old, new)
    assert new.session.streams[TRADES].phase is Phase.PARKED
    assert pair.owns(TRADES) is parked
    assert (old.cursors[TRADES].gap is not None) is parked
    assert not pair.owns(BOOK)
    assert (pair.elder(trade(6)) == Output()) is parked
    new.refuses = None
    while new.session.streams[TRADES].phase is Phase.PARKED and new.seconds < 31:
        pair.wait(0.25)
    assert new.session.streams[TRADES].phase is Phase.ACKNOWLEDGED
    pair.younger(trade(7 if not parked else 6))
    if not parked:
        pair.elder(trade(7))
    pair.wait(0.25)
    assert pair.owns(TRADES)
    assert new.session.streams[TRADES].phase is Phase.LIVE
    assert old.cursors[TRADES].gap is None


def test_what_the_elder_is_refused_goes_over_as_soon_as_the_younger_hears_it() -> None:
    """Before the elder is granted it again and tells what came later: that would be out of order,
    and what the younger holds late.
    """
    old = line_of(DataType.LIQUIDATION, instrument=SWAP)
    old.hear(liquidated(1))
    old.cursors[LIQUIDATIONS].lose("stale", "of a test")
    old.session.streams[LIQUIDATIONS].phase = Phase.PARKED
    pair = Pair.of(old)
    pair.younger(liquidated(2, at=5))
    pair.wait(0.25)
    assert pair.owns(LIQUIDATIONS)
    assert pair.elder(liquidated(3, at=9)) == Output()
    pair.younger(liquidated(3, at=9))
    assert liquidations(pair) == ["1:1", "2:1", "3:1"]
    assert [type(record) for record in pair.records[1:]] == [Gap, Liquidation, Liquidation]


def test_a_younger_that_is_told_of_its_own_end_says_so() -> None:
    """And goes on taking over meanwhile."""
    pair = Pair.of(line_of(DataType.TRADE))
    pair.elder(trade(5))
    notice = b'{"event":"notice","code":"64008","msg":"The connection will soon be closed"}'
    turn = pair.younger(notice, trade(5), trade(6))
    assert [type(step) for step in turn.actions] == [Rotate]
    assert trades(pair) == [5, 6]


def test_what_is_unwanted_meanwhile_goes_nowhere() -> None:
    """Neither connection has it any more."""
    pair = Pair.of(line_of(DataType.TRADE))
    pair.younger(trade(6))
    pair.new.session.change([], [Subscription(DataType.TRADE, BTC)], pair.new.now)
    assert pair.owns(TRADES)
    assert pair.elder(trade(6)) == Output()
    assert pair.younger(trade(7)) == Output()
    assert trades(pair) == []


def test_a_bad_number_that_was_held_back_is_rejected_beside_its_neighbours() -> None:
    """When its turn comes."""
    pair = Pair.of(line_of(DataType.TRADE))
    assert [type(s) for s in pair.younger(trade(5), trade(6, tradeId="x")).actions] == [Reject]
    pair.younger(trade(6, px="1_5"), trade(7))
    pair.elder(trade(5))
    turn = pair.younger()
    assert [type(step) for step in turn.actions] == [Reject]
    assert trades(pair) == [5, 7]
