"""Rows of fixed times that are polled: each answer holds those since the last one. Pure.

What an outage of ours left out is among the rows of the next answer. Only what they do not hold is
a gap.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Generic, TypeVar

from marketprism.clock import Timestamp
from marketprism.feeds.actions import Output
from marketprism.records import GapReason, Record
from marketprism.streams.cursor import Cursor
from marketprism.streams.subscription import Subscription

Row = TypeVar("Row")


class RowPoll(ABC, Generic[Row]):
    """A poll of rows. A venue reads them, and makes a record of one."""

    step: ClassVar[int]
    """Nanoseconds from one row to the next."""
    reason: ClassVar[GapReason]
    """Of a gap, where rows are missing in an answer."""
    subscription: Subscription
    connection: str

    def _tell(
        self,
        rows: Sequence[tuple[int, Row]],
        last: int | None,
        cursor: Cursor,
        now: Timestamp,
        output: Output,
    ) -> None:
        """Publish the rows past `last`, by their times; at the very first, the newest one."""
        if rows and rows[-1][0] == last:
            cursor.gap = None  # the newest row is the last one published: nothing was missed
        before = None
        for told_at, row in rows[-1:] if last is None else rows:
            if last is not None and told_at <= last:
                continue
            if (told_at, None) not in cursor.ahead:
                self._publish(told_at, row, before, cursor, now, output)
            cursor.event_time = before = told_at

    def _publish(
        self,
        told_at: int,
        row: Row,
        before: int | None,
        cursor: Cursor,
        now: Timestamp,
        output: Output,
    ) -> None:
        """`before`: the time of the row before it, where that came in the same answer."""
        last = cursor.event_time
        if last is not None and told_at - last > self.step:
            cursor.lose(self.reason, "rows are missing in the answer", before)
        elif last is not None:
            # The row after the last one: nothing was missed, whatever happened between.
            cursor.gap = None
        instrument, data_type = self.subscription.instrument, self.subscription.data_type
        gap = cursor.close(instrument, data_type, now.wall, self.connection, until=told_at)
        if gap is not None:
            output.records.append(gap)
        cursor.event_time, cursor.received = told_at, now.wall
        output.records.append(self._record(told_at, row, now))

    @abstractmethod
    def _record(self, told_at: int, row: Row, now: Timestamp) -> Record:
        """A row, as it is published."""
