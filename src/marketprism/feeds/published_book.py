"""What is published of a book, as far as that is the same for every exchange. Pure.

A book that comes into step goes on with what was published before where nothing is missing between;
else a gap is closed. Its updates are published, and now and then a snapshot; of a book that is out
of step nothing is.
"""

from collections.abc import Sequence
from typing import ClassVar, NamedTuple, Protocol

import attrs

from marketprism.clock import SECOND, Timestamp
from marketprism.feeds.actions import Output
from marketprism.feeds.audit import Auditor
from marketprism.feeds.audit_schedule import Schedule
from marketprism.orderbook import Ends, OrderBook
from marketprism.records import Level, OrderBookRecord
from marketprism.settings.exchanges import OrderbookOptions
from marketprism.streams.state import Phase, StreamState

Sides = tuple[Sequence[Level], Sequence[Level]]
"""Bids and asks."""


class Source(NamedTuple):
    """Where a book's snapshots come from."""

    url: str
    weight: int
    limit: int
    """Levels a side that are asked for: a side that has as many was cut there."""


class Heard(Protocol):
    """An update, as far as it does not matter whose."""

    @property
    def event_time(self) -> int:
        """Nanoseconds."""

    @property
    def wall(self) -> int:
        """When it was read."""

    @property
    def ahead(self) -> bool:
        """Whether its time is one to come."""


@attrs.define(eq=False)
class PublishedBook:
    """One book of one connection."""

    window: ClassVar[int | None] = None
    """See `Auditor.window`."""

    state: StreamState
    source: Source
    options: OrderbookOptions
    connection: str
    auditor: Auditor = attrs.field(init=False)
    book: OrderBook | None = attrs.field(init=False, default=None)
    """None while out of step. In the exchange's own quantities."""
    snapshot_due: int | None = attrs.field(init=False, default=None)
    """Monotonic: when a snapshot is published again."""
    snapshot_id: int | None = attrs.field(init=False, default=None)
    shown: Ends = attrs.field(init=False, default=(None, None))
    """The worst prices of the snapshot that was published last."""

    def __attrs_post_init__(self) -> None:
        source, schedule = self.source, Schedule(self.options.audit_interval)
        self.auditor = Auditor(self.state, source.url, source.weight, schedule, self.window)

    @property
    def published(self) -> bool:
        """There is a book, and it is what was published."""
        return self.book is not None

    @property
    def in_step(self) -> bool:
        """The same, and the stream goes on from it."""
        return self.published

    def send_snapshot(
        self, heals_gap: int, now: Timestamp, output: Output, *, lost: bool = False
    ) -> None:
        """Publish the book as it is now; nothing while out of step, nor what is published (unless
        that was `lost` since), nor where the market has left what is known of it.
        """
        if (book := self.book) is None or not self.published:
            return
        if not heals_gap and not lost and book.last_id == self.state.cursor.snapshot_id:
            return
        bids, asks = book.top(self.options.depth)
        if self._thin(bids, book.bids_end) or self._thin(asks, book.asks_end):
            self.auditor.hurry(now, exhausted=book.exhausted)
            if book.exhausted:
                return
        output.records.append(
            OrderBookRecord(
                self.state.instrument,
                book.event_time,
                now.wall,
                update_type="snapshot",
                bids=self._as_published(bids),
                asks=self._as_published(asks),
                first_update_id=None,
                last_update_id=book.last_id,
                heals_gap=heals_gap,
            )
        )
        self.snapshot_id = book.last_id
        self.shown = bids[-1][0] if bids else None, asks[-1][0] if asks else None
        if not heals_gap:
            self.state.cursor.snapshot_id = book.last_id
        self.state.records += 1

    def _thin(self, shown: Sequence[Level], end: str | None) -> bool:
        """Whether fewer levels are known than should be shown, and than half of what was asked
        for.
        """
        return end is not None and len(shown) < min(self.options.depth, self.source.limit // 2)

    def _publish(
        self,
        heard: Heard,
        ids: tuple[int | None, int],
        sides: Sides,
        now: Timestamp,
        output: Output,
    ) -> None:
        """An update, of these first and last ids; its bids and asks as they are published."""
        if self.options.mode == "updates":
            self.state.records += 1
            output.records.append(
                OrderBookRecord(
                    self.state.instrument,
                    heard.event_time,
                    heard.wall,
                    update_type="update",
                    bids=sides[0],
                    asks=sides[1],
                    first_update_id=ids[0],
                    last_update_id=ids[1],
                    prev_update_id=self.state.cursor.last_id,
                )
            )
        self.state.cursor.ahead.count += heard.ahead
        self._accepted(ids[1], None if heard.ahead else heard.event_time, heard.wall, now)

    def _accepted(self, last_id: int, event_time: int | None, wall: int, now: Timestamp) -> None:
        """The exchange said so much, at `wall`. What we tell again is no sign of its life."""
        state, cursor = self.state, self.state.cursor
        cursor.last_id = last_id
        cursor.event_time = event_time or cursor.event_time
        cursor.received = max(wall, cursor.received or 0)
        state.last_record = now.monotonic

    def _close_gap(
        self,
        missing: tuple[int, int] | None,
        now: Timestamp,
        output: Output,
        *,
        countable: bool = False,
    ) -> int:
        """Tell the gap that the book ends: when it started; 0 where none is open."""
        state = self.state
        gap = state.cursor.close(
            state.instrument,
            state.data_type,
            now.wall,
            self.connection,
            missing,
            countable=countable,
        )
        if gap is None:
            return 0
        output.records.append(gap)
        return gap.started_at

    def _show(
        self,
        book: OrderBook,
        heals_gap: int,
        proof: tuple[int, int],
        now: Timestamp,
        output: Output,
    ) -> None:
        """The book is in step from now on. `proof`: the id at which it was the exchange's, and when
        that was.
        """
        state, cursor = self.state, self.state.cursor
        if not heals_gap and (told := cursor.told) is not None:
            book.write_as(told)
        cursor.book, cursor.needs_snapshot = book, False
        state.phase, state.detail, state.waits = Phase.LIVE, None, False
        self.auditor.proved(*proof, now)
        self._accepted(book.last_id, book.event_time, now.wall, now)
        self.send_snapshot(heals_gap, now, output)
        interval = self.options.snapshot_interval
        self.snapshot_due = now.monotonic + round(interval * SECOND) if interval else None

    def _tick_snapshots(self, now: Timestamp, output: Output) -> None:
        """Publish one when it is due, and says something new."""
        if self.book is None or not self.published:
            return
        if self.snapshot_due is not None and now.monotonic >= self.snapshot_due:
            interval, news = self.options.snapshot_interval, self.book.last_id != self.snapshot_id
            if interval or news:
                self.snapshot_due = now.monotonic + round(interval * SECOND) if interval else None
            if news:
                self.send_snapshot(0, now, output)

    def _is_ahead(self, event_time: int, now: Timestamp) -> bool:
        """Whether a time is one to come."""
        return self.state.cursor.clock.is_ahead(event_time, now)

    def _as_published(self, levels: Sequence[Level]) -> Sequence[Level]:
        """Levels of the book, as they are published."""
        return levels
