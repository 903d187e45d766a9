"""Books give way before anything else, and what they withheld lies inside their gaps exactly."""

from collections import defaultdict
from collections.abc import Sequence

import attrs
import pytest
import trio
from forms import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from marketprism.board.board import Board
from marketprism.gaps.ids import GapStarts
from marketprism.instruments import Instrument
from marketprism.pipeline.outlet import Outlet
from marketprism.pipeline.pressure import Pressure
from marketprism.records import DataType, Gap, OrderBookRecord, Record, Trade

pytestmark = pytest.mark.once

MILLISECOND = 1_000_000
FEED = "binance_spot/0"
BTC = Instrument("binance", "spot", "BTC-USDT", "BTCUSDT")
ETH = Instrument("binance", "spot", "ETH-USDT", "ETHUSDT")


def test_it_is_pressed_until_half_of_the_level_is_left() -> None:
    """Between the two levels it stays as it was."""
    pressure = Pressure.over(100, 0.5)
    seen = [pressure.at(held) for held in (50, 51, 50, 26, 25, 26, 50, 51)]
    assert seen == [False, True, True, True, False, False, False, True]
    assert not Pressure.over(100, None).at(10**9)


@attrs.define(eq=False)
class Feed:
    """A session of two books and one stream of trades, and the channel it puts to."""

    outlet: Outlet
    board: Board
    clock: int = 0
    ids: dict[Instrument, int] = attrs.field(factory=lambda: {BTC: 0, ETH: 0})
    trade: int = 0
    told: int = 0
    """Records that were put, but snapshots."""
    taken: list[Record] = attrs.field(factory=list)
    starts: GapStarts = attrs.field(factory=GapStarts)

    def _tick(self) -> int:
        self.clock += MILLISECOND // 4
        return self.clock

    def put(self, records: Sequence[Record]) -> None:
        self.told += sum(not _is_snapshot(record) for record in records)
        self.outlet.put(list(records), 0, FEED)

    def update(self, instrument: Instrument, width: int) -> Record:
        """The next update, of so many ids."""
        first = self.ids[instrument] + 1
        self.ids[instrument] = last = first + width - 1
        return OrderBookRecord(instrument, None, self._tick(), "update", [], [], first, last)

    def trades(self, count: int) -> list[Record]:
        records: list[Record] = []
        for _ in range(count):
            self.trade += 1
            number = str(self.trade)
            records.append(Trade(BTC, None, self._tick(), number, "1", "1", "buy"))
        return records

    def snapshot(self, instrument: Instrument, heals_gap: int = 0) -> OrderBookRecord:
        last = self.ids[instrument]
        at = self._tick()
        return OrderBookRecord(
            instrument, None, at, "snapshot", [], [], None, last, heals_gap=heals_gap
        )

    def jump(self, instrument: Instrument, missing: int) -> list[Record]:
        """The session itself missed so many ids: its gap and its snapshot."""
        first = self.ids[instrument] + 1
        self.ids[instrument] += missing
        last, at = self.ids[instrument], self._tick()
        gap = Gap(
            instrument,
            at,
            at,
            affected=DataType.ORDERBOOK,
            reason="sequence",
            started_at=at,
            ended_at=at,
            first_missing_id=first,
            last_missing_id=last,
            lost=missing,
            connection=FEED,
        )
        return [gap, self.snapshot(instrument, at)]

    def tell_gaps(self) -> None:
        def send_snapshot(stream: tuple[DataType, str], heals_gap: int) -> list[Record]:
            return [self.snapshot(BTC if stream[1] == "BTCUSDT" else ETH, heals_gap)]

        self.outlet.tell_gaps(FEED, self._tick(), 0, send_snapshot)

    async def take(self, batches: int) -> None:
        for _ in range(batches):
            if not self.board.channel.held:
                return
            records = (await anext(aiter(self.outlet.intake))).records
            for record in records:
                # As the pump does, which tells gaps apart.
                self.starts.distinguish(record)
            self.taken += records

    async def end(self) -> None:
        """Relieved, confessed and taken to the last record."""
        self.outlet.conflate(False)
        for _ in range(10):
            await self.take(10**6)
            self.tell_gaps()
        await self.take(10**6)


def _is_snapshot(record: Record) -> bool:
    return isinstance(record, OrderBookRecord) and record.update_type == "snapshot"


instruments = st.sampled_from([BTC, ETH])
quiet_actions = st.one_of(
    st.tuples(st.just("updates"), instruments, st.lists(st.integers(1, 3), max_size=6)),
    st.tuples(st.just("trades"), st.integers(1, 6)),
    st.tuples(st.just("snapshot"), instruments),
    st.tuples(st.just("take"), st.integers(1, 4)),
    st.tuples(st.just("confess")),
    st.tuples(st.just("spare"), st.booleans()),
)
actions = st.one_of(quiet_actions, st.tuples(st.just("jump"), instruments, st.integers(1, 3)))


async def act(feed: Feed, action: tuple[object, ...]) -> None:
    """One thing that happens."""
    match action:
        case ("updates", Instrument() as instrument, list() as widths):
            feed.put([feed.update(instrument, width) for width in widths])
        case ("trades", int() as count):
            feed.put(feed.trades(count))
        case ("snapshot", Instrument() as instrument):
            feed.put([feed.snapshot(instrument)])
        case ("jump", Instrument() as instrument, int() as missing):
            feed.put(feed.jump(instrument, missing))
        case ("take", int() as batches):
            await feed.take(batches)
        case ("confess",):
            feed.tell_gaps()
        case ("spare", bool() as sparing):
            feed.outlet.conflate(sparing)


def seen_of_book(records: Sequence[Record], instrument: Instrument) -> list[tuple[int, int]]:
    """The ids of its gaps, in order; fails where what is told does not hang together."""
    known, synchronised = 0, True
    gaps: list[tuple[int, int]] = []
    for record in records:
        if isinstance(record, Gap) and record.affected is DataType.ORDERBOOK:
            if record.instrument is instrument:
                assert record.first_missing_id is not None
                assert record.last_missing_id is not None
                gaps.append((record.first_missing_id, record.last_missing_id))
                synchronised = False
        elif isinstance(record, OrderBookRecord) and record.instrument is instrument:
            if record.update_type == "snapshot":
                assert not synchronised or record.last_update_id == known
                known, synchronised = record.last_update_id, True
                assert not gaps or gaps[-1][1] <= known
            else:
                assert synchronised
                assert record.first_update_id == known + 1
                known = record.last_update_id
    assert synchronised
    return gaps


def run(capacity: int, share: float | None, script: Sequence[tuple[object, ...]]) -> Feed:
    """A feed that lived through all of that."""
    board = Board()
    feed = Feed(Outlet(capacity, board, share), board)

    async def life() -> None:
        for action in script:
            await act(feed, action)
        await feed.end()

    trio.run(life)
    return feed


capacities = st.integers(4, 24)
shares = st.sampled_from([None, 0.25, 0.5, 1.0])


@given(capacities, shares, st.lists(quiet_actions, max_size=60))
@settings(max_examples=examples(400), deadline=None)
def test_what_is_withheld_is_in_its_gap_to_the_id(
    capacity: int, share: float | None, script: Sequence[tuple[object, ...]]
) -> None:
    """Chain, gap, snapshot, chain; each id is told once or lies in one gap, which counts it."""
    feed = run(capacity, share, script)
    for instrument, last in feed.ids.items():
        gaps = seen_of_book(feed.taken, instrument)
        missing = {number for first, final in gaps for number in range(first, final + 1)}
        assert len(missing) == sum(final - first + 1 for first, final in gaps)
        updates = [
            record
            for record in feed.taken
            if isinstance(record, OrderBookRecord)
            and record.instrument is instrument
            and record.update_type == "update"
        ]
        told = {
            number
            for record in updates
            for number in range(record.first_update_id or 0, record.last_update_id + 1)
        }
        assert told | missing == set(range(1, last + 1))
        assert not told & missing
    trades = [int(r.trade_id) for r in feed.taken if isinstance(r, Trade)]
    gaps_of_trades = [
        number
        for record in feed.taken
        if isinstance(record, Gap) and record.affected is DataType.TRADE
        for number in range(record.first_missing_id or 0, (record.last_missing_id or 0) + 1)
    ]
    assert sorted(trades + gaps_of_trades) == list(range(1, feed.trade + 1))
    lost = sum(r.lost or 0 for r in feed.taken if isinstance(r, Gap))
    passed = sum(not _is_snapshot(r) and not isinstance(r, Gap) for r in feed.taken)
    assert passed + lost == feed.told


@given(capacities, shares, st.lists(actions, max_size=60))
@settings(max_examples=examples(400), deadline=None)
def test_gaps_of_the_session_in_between_change_nothing(
    capacity: int, share: float | None, script: Sequence[tuple[object, ...]]
) -> None:
    """Every id is told or lies in a gap, none both; no two gaps of a stream share a message id."""
    feed = run(capacity, share, script)
    starts: dict[tuple[Instrument, DataType], list[int]] = defaultdict(list)
    for record in feed.taken:
        if isinstance(record, Gap):
            starts[record.instrument, record.affected].append(record.started_at // MILLISECOND)
    assert all(len(set(times)) == len(times) for times in starts.values())
    healed = [
        each.heals_gap
        for each in feed.taken
        if isinstance(each, OrderBookRecord) and each.heals_gap
    ]
    began = {each.started_at for each in feed.taken if isinstance(each, Gap)}
    assert set(healed) <= began
    for instrument, last in feed.ids.items():
        gaps = seen_of_book(feed.taken, instrument)
        missing = {number for first, final in gaps for number in range(first, final + 1)}
        told = {
            number
            for record in feed.taken
            if isinstance(record, OrderBookRecord)
            and record.instrument is instrument
            and record.update_type == "update"
            for number in range(record.first_update_id or 0, record.last_update_id + 1)
        }
        assert told | missing == set(range(1, last + 1))
        assert not told & missing


@given(capacities, st.lists(quiet_actions, max_size=60))
@settings(max_examples=examples(200), deadline=None)
def test_no_update_goes_where_the_rest_needs_the_room(
    capacity: int, script: Sequence[tuple[object, ...]]
) -> None:
    """Above the level no update is let in; so trades are lost only when they fill it themselves."""
    board = Board()
    outlet = Outlet(capacity, board, 0.5)
    feed = Feed(outlet, board)

    async def life() -> None:
        for action in script:
            held, conflated = board.channel.held, board.conflated.total()
            if action[0] == "updates" and isinstance(action[2], list) and action[2]:
                await act(feed, action)
                if held + len(action[2]) > capacity * 0.5:
                    assert board.channel.held == held
                    assert board.conflated.total() == conflated + len(action[2])
            else:
                await act(feed, action)
        await feed.end()

    trio.run(life)
    assert not board.lost["binance", "spot", "orderbook"]
    assert not board.channel.conflating


async def test_a_book_told_in_snapshots_has_no_gap_for_those_that_were_skipped() -> None:
    """Nothing was promised between two of them; the next one is all that is owed."""
    board = Board()
    feed = Feed(Outlet(3, board, 0.5), board)
    feed.put(feed.trades(3))
    feed.put([feed.snapshot(BTC)])
    feed.ids[BTC] = 40
    feed.put([feed.snapshot(BTC)])
    await feed.end()
    (last,) = feed.taken[3:]
    assert isinstance(last, OrderBookRecord)
    assert (last.update_type, last.last_update_id, last.heals_gap) == ("snapshot", 40, 0)


async def test_a_healing_snapshot_that_did_not_fit_still_heals() -> None:
    """Its gap was told; what comes in its place bears the same gap in its id."""
    board = Board()
    feed = Feed(Outlet(3, board, 0.5), board)
    feed.put([*feed.trades(2), *feed.jump(BTC, 5)])
    await feed.end()
    gap, snapshot = feed.taken[2:]
    assert isinstance(gap, Gap)
    assert isinstance(snapshot, OrderBookRecord)
    assert (snapshot.last_update_id, snapshot.heals_gap) == (5, gap.started_at)


@pytest.mark.parametrize("due", [True, False])
async def test_where_memory_is_short_a_due_snapshot_stands_for_the_updates(due: bool) -> None:
    """As in mode `snapshot`: gap and snapshot at its interval; without one, when relieved."""
    board = Board()
    feed = Feed(Outlet(100, board), board)
    feed.outlet.conflate(True)
    assert board.channel.conflating
    feed.put([feed.update(BTC, 2), feed.update(BTC, 1), *feed.trades(1)])
    feed.tell_gaps()
    await feed.take(100)
    assert [type(record) for record in feed.taken] == [Trade]
    if due:
        feed.put([feed.snapshot(BTC), feed.update(BTC, 1)])
    else:
        feed.outlet.conflate(False)
        feed.tell_gaps()
    await feed.take(100)
    gap, snapshot = feed.taken[1:]
    assert isinstance(gap, Gap)
    assert isinstance(snapshot, OrderBookRecord)
    assert (gap.first_missing_id, gap.last_missing_id, gap.lost) == (1, 3, 2)
    assert (snapshot.last_update_id, snapshot.heals_gap) == (3, gap.started_at)
    assert feed.outlet.lossy is due
    assert board.conflated["binance", "spot", "orderbook"] == 2 + due
    assert not board.lost
