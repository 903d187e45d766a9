"""What stands in the place of a record that cannot be published: the gap that says so."""

import structlog

from marketprism.board.board import Board
from marketprism.gaps.ids import GapStarts
from marketprism.gaps.pending import PendingGap
from marketprism.records import DataType, Gap, Record
from marketprism.wire import Message, encode

FAULT = "record_unencodable"
LOGGED = 10
"""So many are logged with what they hold; all are counted."""

log = structlog.get_logger()


def encoded(record: Record, board: Board, starts: GapStarts) -> Message | None:
    """The message of a record; that of a gap in its place where it cannot be encoded, counted and
    logged. None: not even that can be.

    All gaps become messages here, and are told by that: counted, and on their way into the log.

    What a record holds is bounded where it is read, so this is a bug of ours. It costs that record,
    not the process.
    """
    try:
        message = encode(record)
    except Exception as error:  # whatever it is
        board.faults[FAULT] += 1
        if board.faults[FAULT] <= LOGGED:
            log.error(
                "record.unencodable",
                data_type=str(record.data_type),
                symbol=record.instrument.symbol,
                reason=f"{type(error).__name__}: {error}"[:500],
                record=repr(record)[:500],
            )
        return instead_of(record, board, starts)
    if isinstance(record, Gap):
        board.tell_gap(record)
    return message


def instead_of(record: Record, board: Board, starts: GapStarts) -> Message | None:
    """The gap for a record that is given up, counted as lost; without ids where those cannot be
    written. None: it cannot be told.
    """
    instrument, is_gap = record.instrument, isinstance(record, Gap)
    stream = instrument, record.affected if isinstance(record, Gap) else DataType(record.data_type)
    market = instrument.exchange, instrument.market_type
    board.lost[*market, str(record.data_type)] += 1
    began = record.collected_at
    if isinstance(record, Gap):
        began = min(max(record.started_at, 0), began)
    began = starts.later(stream, began)
    unnamed = Record(instrument, None, record.collected_at)
    for lost in (record, unnamed):
        loss = PendingGap(
            *stream,
            began,
            "outbox",
            "it could not be written",
            countable=lost is record or not is_gap,
        )
        try:
            loss.add(lost)
            gap = loss.gap(record.collected_at)
            message = encode(gap)
        except Exception:  # said above, of what it stands for
            continue
        board.tell_gap(gap)
        return message
    return None
