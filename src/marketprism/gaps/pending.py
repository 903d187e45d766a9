"""What could not be carried or kept of one stream, until it is confessed as a gap. Pure."""

import attrs

from marketprism.bounds import LARGEST
from marketprism.instruments import Instrument
from marketprism.records import DataType, Gap, OrderBookRecord, Record, Trade


@attrs.define(eq=False)
class PendingGap:
    """What was lost of one stream since the channel overflowed, or its book was conflated: the
    fields of the gap that it will be, and what decides whether it is one.
    """

    instrument: Instrument
    affected: DataType
    started_at: int
    connection: str
    why: str
    """The cause, in words for people."""
    conflated: bool = False
    """A book that gave way to others."""
    first_id: int | None = None
    last_id: int | None = None
    count: int = 0
    countable: bool = True
    """It is known how many; a gap that was lost with the rest may not have known."""
    hole: bool = False
    """More than snapshots was lost: without that, a later snapshot is all that is owed."""
    heals_gap: int = 0
    """The gap that a lost snapshot was to heal."""

    def add(self, record: Record) -> None:
        """One more is lost; a snapshot only tells again what is known, a gap what was missing."""
        if isinstance(record, OrderBookRecord) and record.update_type == "snapshot":
            self.heals_gap = record.heals_gap or self.heals_gap
            return
        self.hole = True
        if isinstance(record, Gap):
            self.countable = self.countable and record.lost is not None
            self.count += record.lost or 0
            self._enclose(record.first_missing_id, record.last_missing_id)
            return
        self.count += 1
        if isinstance(record, Trade):
            number = int(record.trade_id) if record.trade_id.isdecimal() else None
            self._widen(number, number)
        elif isinstance(record, OrderBookRecord):
            first = record.first_update_id
            self._widen(record.last_update_id if first is None else first, record.last_update_id)

    def _widen(self, first: int | None, last: int | None) -> None:
        self.first_id = first if self.first_id is None else self.first_id
        self.last_id = self.last_id if last is None else last

    def _enclose(self, first: int | None, last: int | None) -> None:
        """A gap may be lost after what follows it: it is not withheld, as records are."""
        if first is not None and last is not None:
            self.first_id = first if self.first_id is None else min(self.first_id, first)
            self.last_id = last if self.last_id is None else max(self.last_id, last)

    def gap(self, wall: int) -> Gap:
        """The confession."""
        ended = max(wall, self.started_at)
        countable = self.countable and self.count <= LARGEST
        return Gap(
            self.instrument,
            ended,
            wall,
            affected=self.affected,
            reason="overflow",
            started_at=self.started_at,
            ended_at=ended,
            first_missing_id=self.first_id,
            last_missing_id=self.last_id,
            lost=self.count if countable else None,
            connection=self.connection,
            detail=self.why,
        )
