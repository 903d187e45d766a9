"""What stands in the place of a message that is too large for the stream or its server."""

import attrs
import structlog

from marketprism.instruments import Instrument
from marketprism.loss import Loss
from marketprism.outlet import MILLISECOND
from marketprism.records import DataType, OrderBookRecord
from marketprism.status import Board
from marketprism.wire import Message, decode, encode

log = structlog.get_logger()


@attrs.define(eq=False)
class Oversize:
    """Makes the gaps; for as long as the sink lives, so that no two of a stream share an id."""

    board: Board
    _started: dict[tuple[Instrument, DataType], int] = attrs.field(factory=dict)
    """When the latest gap of each stream began: ids are made of it."""

    def instead_of(self, message: Message) -> Message | None:
        """The gap for a message that is given up, counted; None for a snapshot of a book.

        A snapshot tells again what the updates told: who has the book goes on having it, and who
        waits for one (after a gap) still waits. A gap would take the book away from everybody.
        """
        board, record = self.board, decode(message.payload)
        board.sink.oversize += 1
        log.error("sink.oversize", subject=message.subject, bytes=len(message.payload))
        if isinstance(record, OrderBookRecord) and record.update_type == "snapshot":
            return None
        instrument, data_type = message.instrument, DataType(record.data_type)
        origin = (instrument.exchange, instrument.market_type, str(data_type))
        board.lost[origin] += 1
        board.gaps[*origin, "overflow"] += 1
        earliest = self._started.get((instrument, data_type), 0) + MILLISECOND
        began = self._started[instrument, data_type] = max(record.collected_at, earliest)
        loss = Loss(instrument, data_type, began, "outbox")
        loss.add(record)
        return encode(loss.gap(record.collected_at))
