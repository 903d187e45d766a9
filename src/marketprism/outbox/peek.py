"""Which record a message is of, read from its payload: what must be said when it is lost."""

import attrs
import msgspec

from marketprism.clock import MILLISECOND
from marketprism.gaps.ids import Affected
from marketprism.records import DataType, Gap, OrderBookRecord, Record, Trade
from marketprism.times import time_value
from marketprism.wire import Message


class _Told(msgspec.Struct):
    """What a payload says of which record it is."""

    collected_at: str
    trade_id: str = ""
    update_type: str = ""
    first_update_id: int | None = None
    last_update_id: int = 0
    affected: str = ""
    started_at: str | None = None
    first_missing_id: int | str | None = None
    last_missing_id: int | str | None = None
    lost: int | None = None


_read = msgspec.json.Decoder(_Told).decode


def peek(message: Message) -> Record:
    """The record of a message, as far as a loss must know it."""
    told, instrument = _read(message.payload), message.instrument
    at = time_value(told.collected_at) or 0
    match message.data_type:
        case DataType.TRADE:
            return Trade(instrument, None, at, told.trade_id, "", "", "buy")
        case DataType.ORDERBOOK:
            return OrderBookRecord(
                instrument,
                None,
                at,
                update_type="snapshot" if told.update_type == "snapshot" else "update",
                bids=(),
                asks=(),
                first_update_id=told.first_update_id,
                last_update_id=told.last_update_id,
            )
        case Gap.data_type:
            first, last = told.first_missing_id, told.last_missing_id
            return Gap(
                instrument,
                None,
                at,
                affected=DataType(told.affected),
                reason="overflow",
                started_at=time_value(told.started_at) or at,
                ended_at=at,
                first_missing_id=None if first is None else int(first),
                last_missing_id=None if last is None else int(last),
                lost=told.lost,
                connection="",
            )
    return Record(instrument, None, at)


def collected_at(message: Message) -> int:
    """When the frame that told it was read."""
    return peek(message).collected_at


def healing(message: Message, record: Record, started_at: int) -> Message:
    """A snapshot's message when it heals a gap that began at `started_at` in nanoseconds (0: none):
    its id says which, so one told before is another message. Any other message is as it was.
    """
    if not isinstance(record, OrderBookRecord) or record.update_type != "snapshot":
        return message
    name, _, _ = message.msg_id.rpartition(":")
    return attrs.evolve(message, msg_id=f"{name}:{started_at // MILLISECOND}")


def gap_start(message: Message) -> tuple[Affected, int]:
    """Of a gap's message: what it speaks of, and from when on."""
    record = peek(message)
    assert isinstance(record, Gap)
    return (message.instrument, record.affected), record.started_at


def affected(message: Message, record: Record | None) -> DataType:
    """The data type of the stream that a message belongs to; of a gap, `record` says it."""
    return record.affected if isinstance(record, Gap) else DataType(message.data_type)
