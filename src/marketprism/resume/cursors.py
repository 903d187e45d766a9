"""From the last stored message of a stream to the cursor that goes on from it. Pure."""

from collections.abc import Iterable

import msgspec

from marketprism import reading
from marketprism.bounds import LARGEST, is_id, is_time
from marketprism.clock import HOUR, MILLISECOND, SECOND
from marketprism.records import DataType, Gap, OrderBookRecord, Record, Trade
from marketprism.streams.cursor import Cursor
from marketprism.streams.exchange_clock import TOLERANCE
from marketprism.streams.recent_ids import Id, RecentIds
from marketprism.streams.subscription import Capability, Subscription

WHY = "the process began anew"
LONGEST_NAME = 100
"""Characters of an id that is no number."""
"""Nanoseconds that our clock may be wrong by; a later time is not believed."""


class Foreign(ValueError):
    """A message on our subject that is none of ours: nothing follows from it."""


def read(payload: bytes, subscription: Subscription, wall: int, has: Capability) -> Record:
    """The record of a message on the subject of `subscription`, read at `wall`; `has` says how its
    venue has it.

    Raises:
        Foreign: it is not one of ours, of that data type and instrument.
    """
    record = _decoded(payload, wall)
    if record.data_type != subscription.data_type:
        raise Foreign(f"it is a {record.data_type}")
    if record.instrument.native_id != subscription.instrument.native_id:
        raise Foreign(f"it is of {record.instrument.native_id!r}")
    if isinstance(record, Trade) and not (_names if has.opaque_ids else _numeric)(record.trade_id):
        raise Foreign(f"its id is {record.trade_id!r}")
    if isinstance(record, OrderBookRecord) and not is_id(record.last_update_id):
        raise Foreign(f"its id is {record.last_update_id!r}")
    return record


def _names(text: object) -> bool:
    return isinstance(text, str) and 0 < len(text) <= LONGEST_NAME


def _numeric(text: object) -> bool:
    if not isinstance(text, str) or len(text) > len(str(LARGEST)):
        return False
    return text.isascii() and text.isdecimal() and is_id(int(text))


def read_gap(payload: bytes, wall: int) -> Gap:
    """The gap of a message on a subject of gaps, of whatever data type. Raises Foreign."""
    record = _decoded(payload, wall)
    if not isinstance(record, Gap) or not isinstance(record.started_at, int):
        raise Foreign("it is no gap")
    if not is_time(record.started_at) or record.started_at > wall + HOUR:
        raise Foreign(f"it began at no time: {record.started_at}")
    return record


def _decoded(payload: bytes, wall: int) -> Record:
    try:
        record = reading.decode(payload)
    except (msgspec.MsgspecError, LookupError, ValueError, TypeError, AttributeError) as error:
        raise Foreign(f"it cannot be read: {error}") from error
    # A payload may say anything, whatever the record's class promises.
    collected_at: object = record.collected_at
    timestamp: object = record.timestamp
    if not isinstance(collected_at, int) or not isinstance(timestamp, int | None):
        raise Foreign("its times cannot be read")
    if not is_time(collected_at) or not is_time(timestamp or 0):
        raise Foreign("its times are none")
    if collected_at > wall + HOUR:
        raise Foreign("it was read at a time to come")
    return record


def is_ahead(record: Record) -> bool:
    """Whether it says a time that was still to come when it was read, by our clock of then."""
    return (record.timestamp or 0) > record.collected_at + TOLERANCE


def recent(records: Iterable[Record], has: Capability) -> RecentIds:
    """The ids of the last trades of a stream, which came in no order."""
    return RecentIds.last(
        (_ident(record, has), min(record.timestamp or 0, record.collected_at))
        for record in records
        if isinstance(record, Trade)
    )


def holds(known: Cursor, record: Record, has: Capability) -> bool:
    """Whether a trade is one of those that are known to be stored, under whatever message id."""
    if not isinstance(record, Trade) or known.counts != record.trade_kind:
        return False
    ident = _ident(record, has)
    if known.recent is not None:
        return known.recent.knows(ident, record.timestamp or 0)
    return ident == known.last_id and _part(record) <= (known.last_trade_id or 0)


def _ident(record: Trade, has: Capability) -> Id:
    return record.trade_id if has.opaque_ids else int(record.trade_id)


def _part(record: Trade) -> int:
    """Of an aggregate, the last trade in it."""
    last = record.last_trade_id
    return int(last) if last is not None and _numeric(last) else 0


def cursor(record: Record, msg_id: str | None, gap: Gap | None, has: Capability) -> Cursor:
    """Where the stream stood with `record`, and an open gap since then. Of one that says a time to
    come, that time is none; of one whose id is a name, the id is none.

    `gap` is the last one of the instrument, of whatever data type. Gap ids are made of
    `started_at`: behind one of another data type there may be some of this, that began with
    `record` as well. To be told apart from those, the open gap begins up to a second earlier.
    """
    last_id, counts = None, None
    if isinstance(record, Trade):
        counts = record.trade_kind
        last_id = None if has.opaque_ids else int(record.trade_id)
    elif isinstance(record, OrderBookRecord):
        last_id = record.last_update_id
    event_time = None if is_ahead(record) else record.timestamp
    known = Cursor(last_id, event_time, record.collected_at, counts=counts)
    if isinstance(record, Trade):
        known.last_trade_id = _part(record)
    if event_time is None and record.timestamp is not None:
        known.ahead.note((record.timestamp, None))
    if msg_id is not None and msg_id.endswith(f":snapshot:{last_id}:0"):
        known.snapshot_id = last_id
    began = record.collected_at
    if gap is not None and _may_hide(gap, record):
        # Others are told at each restart, so that this differs from one to the next.
        earlier = 1 + gap.collected_at // MILLISECOND % 1000
        known.lose("restart", WHY, began - earlier * MILLISECOND)
        known.gap_started = began
    elif gap is not None and gap.affected == record.data_type:
        known.gap_started = gap.started_at
        # One that ends with a snapshot was read with it.
        behind = gap.collected_at > record.collected_at
        known.needs_snapshot = behind and isinstance(record, OrderBookRecord)
    known.lose("restart", WHY)
    return known


def _may_hide(gap: Gap, record: Record) -> bool:
    """Whether behind the instrument's last gap there may be others that began with `record`, its
    stream's last: then it is another stream's, or it began before them to be told apart.
    """
    if gap.affected == record.data_type:
        return gap.started_at < record.collected_at < gap.collected_at
    return gap.collected_at >= record.collected_at


def gap_before(known: Cursor, record: Record, has: Capability, connection: str) -> Gap | None:
    """The gap between what was stored and the first record after it; None where the two join."""
    missing, last = None, known.last_id
    if isinstance(record, Trade) and has.counted and known.counts == record.trade_kind:
        first = int(record.trade_id)
        if last is not None and first in (last, last + 1):
            # The same number again is another aggregate of it.
            return None
        if last is not None and first > last and not is_ahead(record):
            missing = (last + 1, first - 1)
    if _follows(known, record, has):
        return None
    return known.close(
        record.instrument,
        DataType(record.data_type),
        record.collected_at,
        connection,
        missing,
        countable=missing is not None,
    )


def _follows(known: Cursor, record: Record, has: Capability) -> bool:
    """Whether the record says itself that nothing is missing before it."""
    last = known.last_id
    if has.period is not None and record.timestamp is not None and known.event_time is not None:
        return record.timestamp - known.event_time <= has.period * SECOND
    match record:
        case OrderBookRecord():
            return record.last_update_id == last and not known.needs_snapshot
        case Trade() if last is not None and known.counts == record.trade_kind:
            # Ids may have holes, but not within a step: an aggregate of one, and the one before it.
            return record.trade_id == record.first_trade_id == str(last + 1)
    return False
