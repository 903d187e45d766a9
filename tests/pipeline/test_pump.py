"""From the channel to the outbox: every record one message, in order, whatever is full or large."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
from peers import clock
from structlog.testing import capture_logs
from trio.testing import wait_all_tasks_blocked

from marketprism.board.board import Board
from marketprism.gaps.pending import PendingGap
from marketprism.instruments import Instrument
from marketprism.outbox.outbox import Outbox
from marketprism.pipeline.outlet import Outlet
from marketprism.pipeline.pump import pump
from marketprism.records import (
    DataType,
    FundingRate,
    Gap,
    Liquidation,
    OrderBookRecord,
    Record,
    Trade,
)
from marketprism.streams.subscription import Subscription
from marketprism.wire import MAX_PAYLOAD_BYTES, Message, encode

BTC = Instrument("binance", "spot", "BTC-USDT", "BTCUSDT")
FEED = "binance_spot/0"


def trade(number: int, size: int = 1) -> Trade:
    """A trade read so many milliseconds after the start; its price is so long."""
    at = number * 1_000_000
    return Trade(BTC, at, at, str(number), "1" * size, "1", "buy")


def book(number: int, size: int) -> OrderBookRecord:
    """An update with a price that is so long."""
    return OrderBookRecord(
        BTC,
        None,
        number * 1_000_000,
        update_type="update",
        bids=[("1" * size, "1")],
        asks=[],
        first_update_id=number,
        last_update_id=number,
    )


@asynccontextmanager
async def pumping(outbox: Outbox, board: Board, capacity: int = 1000) -> AsyncIterator[Outlet]:
    """A pump at work; leaving closes the channel, and waits for the pump to end."""
    async with trio.open_nursery() as nursery:
        outlet = Outlet(capacity, board)
        nursery.start_soon(pump, outlet.intake, outbox, board, clock)
        async with outlet:
            yield outlet


def taken(outbox: Outbox) -> list[Message]:
    """All that waits, acknowledged."""
    numbered = outbox.take(10_000)
    for sequence, _ in numbered:
        outbox.acknowledge(sequence)
    return [message for _, message in numbered]


async def delivered(records: list[Record], board: Board) -> list[Message]:
    """What becomes of records that were read together."""
    outbox = Outbox(1000, 2**30, board.outbox)
    async with pumping(outbox, board) as outlet:
        outlet.put(records, 0, FEED)
    return taken(outbox)


async def test_each_record_is_a_message_in_order_and_the_end_closes_the_outbox() -> None:
    """Batches are carried whole; what was in the channel when it closed is carried too."""
    board = Board()
    outbox = Outbox(1000, 2**30, board.outbox)
    records = [trade(n) for n in range(30)]
    async with pumping(outbox, board) as outlet:
        for at in range(0, 30, 10):
            outlet.put(list(records[at : at + 10]), clock().monotonic, FEED)
    assert taken(outbox) == [encode(record) for record in records]
    assert outbox.drained
    assert board.channel.held == 0
    assert board.processing.count == 30


async def test_a_full_outbox_stops_the_pump_and_nothing_is_lost() -> None:
    """The rest waits in the channel; room lets it through, in order."""
    board = Board()
    outbox = Outbox(5, 2**30, board.outbox)
    messages: list[Message] = []
    async with pumping(outbox, board) as outlet:
        for number in range(20):
            outlet.put([trade(number)], 0, FEED)
        await wait_all_tasks_blocked()
        assert (board.outbox.held, board.channel.held) == (5, 15)
        for _ in range(3):
            messages += taken(outbox)
            await wait_all_tasks_blocked()
        assert (board.outbox.held, board.channel.held) == (5, 0)
        messages += taken(outbox)
    assert [message.msg_id for message in messages] == [encode(trade(n)).msg_id for n in range(20)]
    assert sum(board.lost.values()) == 0


async def test_a_gap_is_told_when_it_becomes_a_message() -> None:
    """Counted once by origin and reason and in the row of its stream, and logged; so is one that
    the channel makes of what it lost, a gap among it.
    """
    board = Board()
    row = board.stream("binance_spot", Subscription(DataType.TRADE, BTC), FEED, None, 0)
    outbox = Outbox(1000, 2**30, board.outbox)
    lost = Gap(BTC, 3, 3, DataType.TRADE, "sequence", 2, 3, 2, 2, 1, FEED, "an id was missed")
    with capture_logs() as logs:
        async with pumping(outbox, board, capacity=3) as outlet:
            outlet.put([trade(1), lost, trade(3), attrs.evolve(lost), trade(4)], 0, FEED)
            outlet.close(5_000_000, 0)
    told = [message for message in taken(outbox) if message.data_type == "gap"]
    assert [json.loads(each.payload)["reason"] for each in told] == ["sequence", "overflow"]
    assert board.gaps == {
        ("binance", "spot", "trade", "sequence"): 1,
        ("binance", "spot", "trade", "overflow"): 1,
    }
    assert row.gaps == 2
    assert [(each["event"], each["detail"]) for each in logs] == [
        ("stream.gap", "an id was missed")
    ]


async def test_a_record_too_large_for_the_sink_is_a_gap_in_its_place() -> None:
    """It says what is missing; its neighbours are as ever, and it is counted."""
    board = Board()
    large = trade(2, MAX_PAYLOAD_BYTES)
    with capture_logs() as logs:
        first, stand_in, last = await delivered([trade(1), large, trade(3)], board)
    assert (first, last) == (encode(trade(1)), encode(trade(3)))
    assert stand_in.subject == "data-gap.binance.spot.BTC-USDT"
    told = json.loads(stand_in.payload)
    assert (told["affected"], told["reason"], told["lost"]) == ("trade", "overflow", 1)
    assert (told["first_missing_id"], told["last_missing_id"]) == ("2", "2")
    assert board.sink.oversize == 1
    assert board.lost == {("binance", "spot", "trade"): 1}
    assert board.gaps == {("binance", "spot", "trade", "overflow"): 1}
    (line,) = logs
    assert (line["event"], line["subject"]) == (
        "record.oversize",
        "trade-data.binance.spot.BTC-USDT",
    )


async def test_a_record_just_at_the_limit_is_sent() -> None:
    """One byte more is not."""
    room = MAX_PAYLOAD_BYTES - len(encode(trade(1)).payload) + 1
    board = Board()
    fits, too_large = await delivered([trade(1, room), trade(2, room + 1)], board)
    assert len(fits.payload) == MAX_PAYLOAD_BYTES
    assert too_large.data_type == "gap"


async def test_two_that_are_too_large_are_two_gaps_to_jetstream_as_well() -> None:
    """Read in one batch they have one stamp: with one id the second would not be stored."""
    one, other = book(1, MAX_PAYLOAD_BYTES), book(1, MAX_PAYLOAD_BYTES)
    other.first_update_id = other.last_update_id = 2
    messages = await delivered([one, other], Board())
    assert [message.data_type for message in messages] == ["gap", "gap"]
    assert len({message.msg_id for message in messages}) == 2


YEAR_10000 = 253_402_300_800 * 10**9
UNWRITABLE: list[Record] = [
    Trade(BTC, YEAR_10000, 2, "2", "1", "1", "buy"),
    FundingRate(BTC, 2, 2, "0.1", None, 2, YEAR_10000, "8h"),
    Liquidation(BTC, -(2**70), 2, "x", "buy", None, "1", None, "1", None, None),
    attrs.evolve(book(2, 1), bids=[("\ud800", "1")]),
    Trade(BTC, 2, 2, "2", object(), "1", "buy"),  # type: ignore[arg-type] # a price that is none
    Trade(BTC, "soon", 2, "2", "1", "1", "buy"),  # type: ignore[arg-type] # a time that is none
    Gap(BTC, 2, 2, DataType.TRADE, "stale", 2, YEAR_10000, 5, 7, 3, FEED),
    Gap(
        BTC, YEAR_10000, 2, DataType.TRADE, "stale", YEAR_10000, YEAR_10000, None, None, None, FEED
    ),
]


@pytest.mark.parametrize("record", UNWRITABLE, ids=lambda record: str(record)[:40])
async def test_a_record_that_cannot_be_encoded_is_a_gap_in_its_place(record: Record) -> None:
    """It is counted and logged; its neighbours, the pump and the outbox are as ever."""
    board = Board()
    affected = record.affected if isinstance(record, Gap) else record.data_type
    with capture_logs() as logs:
        first, stand_in, last = await delivered([trade(1), record, trade(3)], board)
    assert (first, last) == (encode(trade(1)), encode(trade(3)))
    told = json.loads(stand_in.payload)
    assert (told["data_type"], told["affected"], told["reason"]) == ("gap", affected, "overflow")
    assert board.faults == {"record_unencodable": 1}
    assert board.lost == {("binance", "spot", record.data_type): 1}
    assert sum(board.gaps.values()) == 1
    (line,) = logs
    assert (line["event"], line["log_level"]) == ("record.unencodable", "error")


async def test_what_cannot_be_encoded_says_what_is_missing_where_it_can() -> None:
    """The id of the trade, which can be written; the ids of the gap that could not be."""
    unwritable = [UNWRITABLE[0], UNWRITABLE[6]]
    one, other = await delivered(unwritable, Board())
    told = json.loads(one.payload)
    assert (told["first_missing_id"], told["last_missing_id"], told["lost"]) == ("2", "2", 1)
    told = json.loads(other.payload)
    assert (told["first_missing_id"], told["last_missing_id"], told["lost"]) == ("5", "7", 3)
    assert one.msg_id != other.msg_id


async def test_what_cannot_even_be_told_as_a_gap_is_counted() -> None:
    """Its instrument has a name that no subject can have; the pump goes on."""
    board = Board()
    nameless = attrs.evolve(trade(2), instrument=attrs.evolve(BTC, symbol="\ud800"))
    told = await delivered([nameless, trade(3)], board)
    assert told == [encode(trade(3))]
    assert board.faults == {"record_unencodable": 1}
    assert board.lost == {("binance", "spot", "trade"): 1}


async def test_a_thousand_that_cannot_be_encoded_do_not_fill_the_log() -> None:
    """All are counted, and each stands in a gap of its own."""
    board = Board()
    with capture_logs() as logs:
        told = await delivered([UNWRITABLE[0]] * 900, board)
    assert len({message.msg_id for message in told}) == 900
    assert board.faults == {"record_unencodable": 900}
    assert len([line for line in logs if line["log_level"] != "debug"]) == 10


async def test_the_sum_of_what_was_lost_is_bounded() -> None:
    """Two gaps of 2⁶³ ids each: how many there are in all is no number that a consumer can hold."""
    loss = PendingGap(BTC, DataType.TRADE, 2, FEED, "it was lost")
    gap = Gap(BTC, 2, 2, DataType.TRADE, "sequence", 2, 2, 1, 2**63 - 1, 2**63 - 1, FEED)
    loss.add(gap)
    assert loss.gap(3).lost == 2**63 - 1
    loss.add(gap)
    assert loss.gap(3).lost is None


async def test_a_snapshot_names_the_gap_that_it_heals_wherever_that_was_moved_to() -> None:
    """Two gaps of a book in one millisecond: the second begins in the next one, and so says the
    snapshot after it.
    """
    board = Board()
    outbox = Outbox(1000, 2**30, board.outbox)
    at = 2 * 1_000_000
    records: list[Record] = []
    for number in (5, 6):
        gap = Gap(BTC, at, at, DataType.ORDERBOOK, "sequence", at, at, 1, number, None, FEED)
        snapshot = OrderBookRecord(BTC, at, at, "snapshot", [], [], None, number, heals_gap=at)
        records += [gap, snapshot]
    async with pumping(outbox, board) as outlet:
        outlet.put(records, 0, FEED)
    ends = [message.msg_id.rpartition(":")[2] for message in taken(outbox)]
    assert ends == ["2", "2", "3", "3"]


async def test_no_two_gaps_of_a_stream_share_an_id_whoever_tells_them() -> None:
    """A feed's that began as an oversize record was read; and what the outbox would tell itself."""
    board = Board()
    outbox = Outbox(1000, 2**30, board.outbox)
    at = 2 * 1_000_000
    gap = Gap(BTC, at, at, DataType.TRADE, "disconnect", at, at, None, None, None, FEED)
    async with pumping(outbox, board) as outlet:
        outlet.put([trade(2, MAX_PAYLOAD_BYTES), gap], 0, FEED)
    one, other = taken(outbox)
    assert (one.data_type, other.data_type) == ("gap", "gap")
    assert one.msg_id != other.msg_id
    free = outbox.starts.earlier((BTC, DataType.TRADE), at)
    assert f"gap:binance:spot:BTC-USDT:trade:{free // 1_000_000}" not in (one.msg_id, other.msg_id)
