"""From the channel to the outbox: records become messages, in order."""

from collections.abc import Callable

import structlog

from marketprism.board.board import Board
from marketprism.clock import Timestamp
from marketprism.gaps.ids import GapStarts
from marketprism.gaps.telling import encoded, instead_of
from marketprism.outbox.outbox import Outbox
from marketprism.pipeline.outlet import Batch, Intake
from marketprism.records import Record
from marketprism.resume.positions import Positions
from marketprism.wire import MAX_PAYLOAD_BYTES, Message

log = structlog.get_logger()


async def pump(
    intake: Intake,
    outbox: Outbox,
    board: Board,
    now: Callable[[], Timestamp],
    positions: Positions | None = None,
) -> None:
    """Carry batches over until the channel closes; then close the outbox.

    While the outbox is full this waits, the channel fills, and its near side confesses what no
    longer fits.
    """
    async for batch in intake:
        _carry(batch, outbox, board, now, positions)
        await outbox.room()
    outbox.close()


def rescue(
    intake: Intake,
    outbox: Outbox,
    board: Board,
    now: Callable[[], Timestamp],
    positions: Positions | None = None,
) -> None:
    """The end without a pump: what the channel holds is in the outbox then, which is closed,
    however full it is.
    """
    for batch in intake.left():
        try:
            _carry(batch, outbox, board, now, positions)
        except Exception as error:  # it ends the process already, and must not cost the rest
            log.error("batch.unchecked", records=len(batch.records), reason=repr(error))
    outbox.close()


def _carry(
    batch: Batch,
    outbox: Outbox,
    board: Board,
    now: Callable[[], Timestamp],
    positions: Positions | None,
) -> None:
    """Whatever fails of it, what was read is in the outbox then."""
    records = batch.records
    told = [_message(record, board, outbox.starts, now) for record in records]
    messages = [message for message in told if message is not None]
    if len(messages) < len(records):
        records = [record for record, message in zip(records, told, strict=True) if message]
    board.processing.add((now().monotonic - batch.read_at) / 1e9, len(messages))
    try:
        if positions is not None and positions.position_unknown:
            messages = positions.admitted(records, messages, outbox.starts)
    finally:
        outbox.append(messages)


def _message(
    record: Record, board: Board, starts: GapStarts, now: Callable[[], Timestamp]
) -> Message | None:
    """The record's message; that of a gap in its place when it cannot be encoded or is too large
    for the sink.

    All gaps of a stream that a feed, the channel or this function tells pass here: no two of them
    begin in one millisecond.
    """
    starts.distinguish(record)
    message = encoded(record, board, starts)
    if message is None or len(message.payload) <= MAX_PAYLOAD_BYTES:
        return message
    board.sink.give_up(str(record.data_type), len(message.payload), now().monotonic)
    log.warning("record.oversize", subject=message.subject, bytes=len(message.payload))
    return instead_of(record, board, starts)
