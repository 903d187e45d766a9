"""How far a stream is known, and what of it could not be seen. Pure."""

from typing import Final

import attrs

from marketprism.clock import MILLISECOND
from marketprism.instruments import Instrument
from marketprism.orderbook import OrderBook
from marketprism.records import DataType, Gap, GapReason
from marketprism.streams.ahead import Ahead
from marketprism.streams.exchange_clock import ExchangeClock
from marketprism.streams.recent_ids import RecentIds

LONGEST_WHY: Final = 300
"""Characters: what an exchange says may be long."""


@attrs.define
class OpenGap:
    """Sight of a stream was lost and has not come back."""

    reason: GapReason
    started_at: int
    """Wall nanoseconds: when the last record before it was read, or its connection was last alive;
    for a book that was found to be wrong, when it was last known to be right.
    """
    why: str = ""
    """The cause, in words for people."""


@attrs.define
class Cursor:
    """How far a stream is known, whatever happens to connections. What one kind of stream alone
    needs (a book, aggregates, ids in no order) is here too: they go over to another connection as
    one.
    """

    last_id: int | None = None
    """The last published trade id or book update id."""
    event_time: int | None = None
    """The exchange's time of the last record, nanoseconds; of those that could be believed."""
    received: int | None = None
    """When the last record was read, wall nanoseconds; None before the first."""
    gap: OpenGap | None = None
    gap_started: int = 0
    """`started_at` of the latest gap. Gap ids are made of it, so it only grows."""
    snapshot_id: int | None = None
    """Where a book stood when a snapshot of it was last published without a loss before it; its
    message id is made of that."""
    counts: str | None = None
    """What kind of trade `last_id` is of, where another process may have had another."""
    last_trade_id: int | None = None
    """Of aggregates that are counted apart from trades: the last trade in the one of `last_id`."""
    needs_snapshot: bool = False
    """Of a book: a gap was told behind its last record, so that nobody has it before a snapshot
    comes, though that may join."""
    recent: RecentIds | None = attrs.field(default=None, eq=False)
    """Of trades whose ids come in no order: the latest ones."""
    ahead: Ahead = attrs.field(factory=Ahead, eq=False)
    """What was told with a stamp of a time to come."""
    clock: ExchangeClock = attrs.field(factory=ExchangeClock, eq=False, repr=False)
    """What stamps are measured by; all streams of an exchange share it."""
    book: OrderBook | None = attrs.field(default=None, eq=False, repr=False)
    """The book that was published, also while none is in step. Consumers know its prices by their
    text, so what goes on without a gap is written as they are."""

    @property
    def told(self) -> OrderBook | None:
        """The book as consumers have it; None when it is not known."""
        return None if self.book is None or self.book.last_id != self.last_id else self.book

    def lose(self, reason: GapReason, why: str, since: int | None = None) -> None:
        """Open a gap, unless nothing was seen yet or one stands open: a loss within a loss is
        the same loss. `why`: the cause, in words for people; `since`: from when on, where that is
        longer ago than the last record.
        """
        if self.received is None or self.gap is not None:
            return
        began = self.received if since is None else min(since, self.received)
        started = max(began, (self.gap_started // MILLISECOND + 1) * MILLISECOND)
        self.gap = OpenGap(reason, started, why[:LONGEST_WHY])
        self.gap_started = started

    def close(
        self,
        instrument: Instrument,
        affected: DataType,
        wall: int,
        connection: str,
        missing: tuple[int, int] | None = None,
        *,
        countable: bool = False,
        until: int | None = None,
    ) -> Gap | None:
        """The record of the open gap, which ends now, or where it was filled: with what was told
        for `until`. None when there is none.

        `missing` are the first and last id that are missing, `countable` whether the exchange
        counts by ones, so that the two say how many.
        """
        gap, self.gap = self.gap, None
        if gap is None:
            return None
        first, last = missing or (None, None)
        lost = last - first + 1 if countable and first is not None and last is not None else None
        ended = max(wall if until is None else until, gap.started_at)
        return Gap(
            instrument,
            ended,
            wall,
            affected=affected,
            reason=gap.reason,
            started_at=gap.started_at,
            ended_at=ended,
            first_missing_id=first,
            last_missing_id=last,
            lost=lost,
            connection=connection,
            detail=gap.why,
        )
