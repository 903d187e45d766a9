"""What stands in the place of a message that is too large for the stream or its server."""

import attrs
import structlog

from marketprism.board.board import Board
from marketprism.gaps.ids import GapStarts
from marketprism.gaps.pending import PendingGap
from marketprism.reading import decode
from marketprism.records import DataType, OrderBookRecord
from marketprism.wire import Message, encode

log = structlog.get_logger()


@attrs.define(eq=False)
class Oversize:
    """Makes the gaps."""

    board: Board

    def instead_of(self, message: Message, starts: GapStarts, monotonic: int) -> Message | None:
        """The gap for a message that is given up, counted; None for a snapshot of a book.

        A snapshot tells again what the updates told: who has the book goes on having it, and who
        waits for one (after a gap) still waits. A gap would take the book away from everybody.
        """
        board, record = self.board, decode(message.payload)
        board.sink.give_up(str(record.data_type), len(message.payload), monotonic)
        log.error("sink.oversize", subject=message.subject, bytes=len(message.payload))
        if isinstance(record, OrderBookRecord) and record.update_type == "snapshot":
            return None
        instrument, data_type = message.instrument, DataType(record.data_type)
        origin = (instrument.exchange, instrument.market_type, str(data_type))
        board.lost[origin] += 1
        began = starts.later((instrument, data_type), record.collected_at)
        loss = PendingGap(
            instrument, data_type, began, "outbox", f"{len(message.payload)} bytes are too large"
        )
        loss.add(record)
        gap = loss.gap(record.collected_at)
        board.tell_gap(gap)
        return encode(gap)
