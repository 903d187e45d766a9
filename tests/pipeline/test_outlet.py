"""The channel's near side: it never waits, and confesses what it lost."""

import trio.testing

from marketprism.board.board import Board
from marketprism.gaps.ids import GapStarts
from marketprism.instruments import Instrument
from marketprism.pipeline.outlet import Batch, Outlet
from marketprism.records import DataType, Gap, OrderBookRecord, Record, Trade

BTC = Instrument("binance", "spot", "BTC-USDT", "BTCUSDT")
MILLISECOND = 1_000_000
FEED = "binance_spot/0"


def trade(number: int) -> Trade:
    """A trade, read so many milliseconds after the start."""
    at = number * MILLISECOND
    return Trade(BTC, at, at, str(number), "1", "1", "buy")


def book(last_id: int, kind: str = "update") -> OrderBookRecord:
    """An update or a snapshot of one id."""
    return OrderBookRecord(
        BTC,
        None,
        last_id * MILLISECOND,
        update_type="snapshot" if kind == "snapshot" else "update",
        bids=[],
        asks=[],
        first_update_id=None if kind == "snapshot" else last_id,
        last_update_id=last_id,
    )


def none(*_: object) -> list[Record]:
    """A session that has no book to restate."""
    return []


async def taken(outlet: Outlet, batches: int) -> list[Record]:
    """The records of the next batches."""
    records: list[Record] = []
    for _ in range(batches):
        batch: Batch = await anext(aiter(outlet.intake))
        records += batch.records
    return records


async def test_what_does_not_fit_is_one_gap_with_its_ids_when_there_is_room() -> None:
    """Records count, not batches; the gap comes before what follows it."""
    board = Board()
    outlet = Outlet(4, board)
    outlet.put([trade(1), trade(2), trade(3)], 0, FEED)
    outlet.put([trade(4), trade(5), trade(6)], 0, FEED)
    outlet.put([trade(7)], 0, FEED)
    outlet.tell_gaps(FEED, 8 * MILLISECOND, 0, none)
    assert outlet.lossy
    assert await taken(outlet, 2) == [trade(n) for n in (1, 2, 3, 4)]
    outlet.tell_gaps(FEED, 8 * MILLISECOND, 0, none)
    outlet.put([trade(8)], 0, FEED)
    gap, last = await taken(outlet, 2)
    assert isinstance(gap, Gap)
    assert (gap.reason, gap.affected, gap.lost) == ("overflow", DataType.TRADE, 3)
    assert (gap.first_missing_id, gap.last_missing_id) == (5, 7)
    assert gap.started_at == 5 * MILLISECOND
    assert last == trade(8)
    assert board.lost["binance", "spot", "trade"] == 3
    assert board.channel.held == 0


async def test_a_book_is_withheld_until_a_snapshot_heals_it() -> None:
    """An update after a loss does not chain; gap and snapshot come together."""
    outlet = Outlet(2, Board())
    outlet.put([book(1), book(2), book(3)], 0, FEED)
    await taken(outlet, 1)
    outlet.put([book(4)], 0, FEED)
    outlet.tell_gaps(FEED, 5 * MILLISECOND, 0, none)
    outlet.put([book(5)], 0, FEED)
    heals_gap: list[int] = []

    def send_snapshot(_stream: object, started: int) -> list[Record]:
        heals_gap.append(started)
        return [book(5, "snapshot")]

    outlet.tell_gaps(FEED, 6 * MILLISECOND, 0, send_snapshot)
    gap, snapshot = await taken(outlet, 1)
    outlet.put([book(6)], 0, FEED)
    (update,) = await taken(outlet, 1)
    assert isinstance(gap, Gap)
    assert (gap.first_missing_id, gap.last_missing_id, gap.lost) == (3, 5, 3)
    assert heals_gap == [gap.started_at]
    assert (snapshot, update) == (book(5, "snapshot"), book(6))


async def test_a_lost_snapshot_that_is_told_once_more_is_no_gap() -> None:
    """It is published as it would have been; what was lost besides it says that something was
    between.
    """
    for lost, gaps in (([], 0), ([book(4)], 1)):
        outlet = Outlet(2, Board())
        periodic, moved = book(3, "snapshot"), book(4 if lost else 3, "snapshot")
        periodic.heals_gap = 7
        outlet.put([book(2), book(3), periodic, *lost], 0, FEED)
        await taken(outlet, 1)

        def send_snapshot(
            _stream: object, heals_gap: int, told: OrderBookRecord = moved
        ) -> list[Record]:
            told.heals_gap = heals_gap
            return [told]

        outlet.tell_gaps(FEED, 5 * MILLISECOND, 0, send_snapshot)
        records = await taken(outlet, 1)
        assert [isinstance(record, Gap) for record in records] == [True] * gaps + [False]
        assert records[-1] == moved
        assert (moved.heals_gap == periodic.heals_gap) is not bool(gaps)
        assert not outlet.lossy


async def test_a_lost_gap_lies_inside_the_confession() -> None:
    """The loss begins where the lost gap began."""
    outlet = Outlet(1, Board())
    gap = Gap(BTC, 9, 9, DataType.TRADE, "sequence", 3 * MILLISECOND, 9, 4, 5, 2, FEED)
    outlet.put([trade(1), gap, trade(6)], 0, FEED)
    await taken(outlet, 1)
    outlet.tell_gaps(FEED, 10 * MILLISECOND, 0, none)
    (told,) = await taken(outlet, 1)
    assert isinstance(told, Gap)
    assert told.started_at == 3 * MILLISECOND
    assert (told.first_missing_id, told.last_missing_id, told.lost) == (4, 6, 3)


async def test_a_gap_lost_after_what_follows_it_widens_the_loss_all_the_same() -> None:
    """Records behind an open loss are withheld, a gap is not: it may meet no room after them."""
    outlet = Outlet(1, Board())
    outlet.put([trade(1), trade(2)], 0, FEED)
    gap = Gap(BTC, 9, 9, DataType.TRADE, "sequence", 3 * MILLISECOND, 9, 3, 5, None, FEED)
    outlet.put([gap, trade(6)], 0, FEED)
    await taken(outlet, 1)
    assert outlet.loses(FEED)
    assert not outlet.loses("okx_spot/0")
    outlet.tell_gaps(FEED, 10 * MILLISECOND, 0, none)
    (told,) = await taken(outlet, 1)
    assert isinstance(told, Gap)
    assert (told.first_missing_id, told.last_missing_id, told.lost) == (2, 6, None)
    assert not outlet.loses(FEED)


async def test_the_stop_confesses_what_is_left_room_or_not() -> None:
    """Nothing lost leaves without a word."""
    outlet = Outlet(1, Board())
    async with outlet:
        outlet.put([book(1), book(2)], 0, FEED)
        outlet.close(9 * MILLISECOND, 0)
    records = [record async for batch in outlet.intake for record in batch.records]
    assert [type(record) for record in records] == [OrderBookRecord, Gap]


async def test_two_losses_of_a_stream_have_ids_of_their_own() -> None:
    """Gap ids are made of `started_at` in milliseconds: who publishes them tells them apart."""
    outlet, starts = Outlet(1, Board()), GapStarts()
    started = []
    for _ in range(3):
        outlet.put([trade(1), trade(1)], 0, FEED)
        await taken(outlet, 1)
        outlet.tell_gaps(FEED, MILLISECOND, 0, none)
        (gap,) = await taken(outlet, 1)
        assert isinstance(gap, Gap)
        starts.distinguish(gap)
        started.append(gap.started_at // MILLISECOND)
    assert len(set(started)) == 3


async def test_it_never_waits() -> None:
    """A thousand batches without a reader, and no checkpoint between."""
    outlet = Outlet(10, Board())
    with trio.testing.assert_no_checkpoints():
        for number in range(1000):
            outlet.put([trade(number)], 0, FEED)
    assert outlet.lossy


async def test_gaps_of_a_feed_and_of_the_channel_have_ids_of_their_own() -> None:
    """A disconnect right after an overflow starts at the same record's time."""
    outlet = Outlet(1, Board())
    outlet.put([trade(1), trade(2)], 0, FEED)
    await taken(outlet, 1)
    outlet.tell_gaps(FEED, 3 * MILLISECOND, 0, none)
    (told,) = await taken(outlet, 1)
    at = 2 * MILLISECOND
    outlet.put([Gap(BTC, at, at, DataType.TRADE, "disconnect", at, at, 3, 3, 1, FEED)], 0, FEED)
    (other,) = await taken(outlet, 1)
    assert isinstance(told, Gap)
    assert isinstance(other, Gap)
    starts = GapStarts()
    for gap in (told, other):
        starts.distinguish(gap)
    assert told.started_at // MILLISECOND != other.started_at // MILLISECOND
    assert other.started_at <= other.ended_at


async def test_a_stream_that_is_left_confesses_at_once() -> None:
    """Room or not: no connection will see to it, nor a snapshot heal it. What lost nothing, or
    snapshots only, owes nothing.
    """
    outlet = Outlet(2, Board())
    outlet.put([book(1), book(2), book(3), trade(4)], 0, FEED)
    outlet.leave(FEED, (DataType.ORDERBOOK, "BTCUSDT"), 5 * MILLISECOND, 0)
    outlet.leave(FEED, (DataType.ORDERBOOK, "BTCUSDT"), 6 * MILLISECOND, 0)
    outlet.leave(FEED, (DataType.TRADE, "ETHUSDT"), 6 * MILLISECOND, 0)
    *_, gap = await taken(outlet, 2)
    assert isinstance(gap, Gap)
    assert (gap.affected, gap.reason, gap.ended_at) == (
        DataType.ORDERBOOK, "overflow", 5 * MILLISECOND,
    )  # fmt: skip
    assert outlet.lossy
    outlet.leave(FEED, (DataType.TRADE, "BTCUSDT"), 7 * MILLISECOND, 0)
    assert not outlet.lossy
