"""From the channel to the outbox: records become messages, in order."""

from collections.abc import Callable

import structlog

from marketprism.feeds.venue import Moment
from marketprism.loss import Loss
from marketprism.outlet import Intake
from marketprism.records import DataType, Gap, Record
from marketprism.restart import Positions
from marketprism.sinks.gap_starts import GapStarts
from marketprism.sinks.outbox import Outbox
from marketprism.status import Board
from marketprism.wire import MAX_PAYLOAD_BYTES, Message, encode

log = structlog.get_logger()


async def pump(
    intake: Intake,
    outbox: Outbox,
    board: Board,
    now: Callable[[], Moment],
    positions: Positions | None = None,
) -> None:
    """Carry batches over until the channel closes; then close the outbox.

    While the outbox is full this waits, the channel fills, and its near side confesses what no
    longer fits.
    """
    async for batch in intake:
        messages = [_message(record, board, outbox.starts, now) for record in batch.records]
        board.processing.add((now().monotonic - batch.read_at) / 1e9, len(messages))
        if positions is not None and positions.late:
            messages = positions.admitted(batch.records, messages)
        outbox.append(messages)
        await outbox.room()
    outbox.close()


def _message(record: Record, board: Board, starts: GapStarts, now: Callable[[], Moment]) -> Message:
    """The record's message; that of a gap in its place when it is too large for the sink.

    All gaps of a stream that a feed, the channel or this function tells pass here: no two of them
    begin in one millisecond.
    """
    if isinstance(record, Gap):
        _distinguish(record, starts)
    message = encode(record)
    if len(message.payload) <= MAX_PAYLOAD_BYTES:
        return message
    board.sink.give_up(str(record.data_type), len(message.payload), now().monotonic)
    instrument, data_type = record.instrument, DataType(record.data_type)
    origin = (instrument.exchange, instrument.market_type, str(data_type))
    board.lost[origin] += 1
    board.gaps[*origin, "overflow"] += 1
    log.warning("record.oversize", subject=message.subject, bytes=len(message.payload))
    began = starts.later((instrument, data_type), record.collected_at)
    loss = Loss(instrument, data_type, began, "outbox")
    loss.add(record)
    gap: Gap = loss.gap(record.collected_at)
    return encode(gap)


def _distinguish(gap: Gap, starts: GapStarts) -> None:
    started = starts.later((gap.instrument, gap.affected), gap.started_at)
    if started != gap.started_at:
        gap.started_at = started
        gap.ended_at = gap.timestamp = max(gap.ended_at, started)
