"""From the channel to the outbox: records become messages, in order."""

from collections.abc import Callable

import structlog

from marketprism.feeds.venue import Moment
from marketprism.instruments import Instrument
from marketprism.loss import Loss
from marketprism.outlet import Intake
from marketprism.records import DataType, Gap, Record
from marketprism.restart import Positions
from marketprism.sinks.outbox import Outbox
from marketprism.status import Board
from marketprism.wire import MAX_PAYLOAD_BYTES, Message, encode

MILLISECOND = 1_000_000

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
    started: dict[tuple[Instrument, DataType], int] = {}
    async for batch in intake:
        messages = [_message(record, board, started) for record in batch.records]
        board.processing.add((now().monotonic - batch.read_at) / 1e9, len(messages))
        if positions is not None and positions.late:
            messages = positions.admitted(batch.records, messages)
        outbox.append(messages)
        await outbox.room()
    outbox.close()


def _message(
    record: Record, board: Board, started: dict[tuple[Instrument, DataType], int]
) -> Message:
    """The record's message; that of a gap in its place when it is too large for the sink.

    `started` keeps when the latest such gap of each stream began: ids are made of it, so it grows.
    """
    message = encode(record)
    if len(message.payload) <= MAX_PAYLOAD_BYTES:
        return message
    board.sink.oversize += 1
    instrument, data_type = record.instrument, DataType(record.data_type)
    origin = (instrument.exchange, instrument.market_type, str(data_type))
    board.lost[origin] += 1
    board.gaps[*origin, "overflow"] += 1
    log.warning("record.oversize", subject=message.subject, bytes=len(message.payload))
    stream = (instrument, data_type)
    began = started[stream] = max(record.collected_at, started.get(stream, 0) + MILLISECOND)
    loss = Loss(instrument, data_type, began, "outbox")
    loss.add(record)
    gap: Gap = loss.gap(record.collected_at)
    return encode(gap)
