"""How a book is kept in step with its exchange's, as far as that is the same everywhere. Pure.

While there is no book, what the stream tells waits. A snapshot is fetched, again and ever more
slowly where there is none to be had, until one joins what was heard (`_too_old`); then the book
goes on by updates, and whatever does not follow puts it out of step. What was published before is
gone on with where nothing is missing, else a gap is closed. Now and then a snapshot of the book is
published, and the book is audited.

A venue says how a snapshot joins and how an update follows another.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import attrs
import msgspec

from marketprism.clock import SECOND, Moment
from marketprism.feeds.audit import Auditor
from marketprism.feeds.comparison import Verdict
from marketprism.feeds.http_answers import worded
from marketprism.feeds.venue import (
    REFUSED_RETRY,
    SAMPLE_BYTES,
    Fetch,
    Fetched,
    FetchFailed,
    Holding,
    Phase,
    Priority,
    Reject,
    Send,
    StreamState,
    Tag,
    Turn,
)
from marketprism.orderbook import Ends, OrderBook
from marketprism.records import Level, OrderBookRecord
from marketprism.settings import OrderbookOptions

FIRST_RETRY, LONGEST_RETRY = SECOND // 2, 30 * SECOND
FORGONE = 5 * SECOND
"""From dropping what waited for a snapshot to asking for one anew."""


class Source(NamedTuple):
    """Where a book's snapshots come from."""

    url: str
    weight: int
    limit: int
    """Levels a side that are asked for: a side that has as many was cut there."""


class FetchedBook(NamedTuple):
    """A snapshot that was fetched."""

    bids: Sequence[Level]
    asks: Sequence[Level]
    last_id: int
    event_time: int | None
    """Nanoseconds; None where it tells none."""


class Update(NamedTuple):
    """An update as it is published."""

    bids: Sequence[Level]
    asks: Sequence[Level]
    first_id: int | None
    last_id: int
    event_time: int
    """Nanoseconds."""
    wall: int
    """When it was read."""
    ahead: bool
    """Its time is one to come."""


@attrs.define(eq=False)
class KeptBook(ABC):
    """One book of one connection. Its attributes are many: those of a stream, of what is fetched
    for it, and of what was published of it.
    """

    window: ClassVar[int | None] = None
    """See `Auditor.window`."""

    state: StreamState
    source: Source
    options: OrderbookOptions
    connection: str
    refused_retry: float = REFUSED_RETRY
    """Seconds between two requests for a book that the exchange does not know, after the first."""
    auditor: Auditor = attrs.field(init=False)
    book: OrderBook | None = None
    """None while out of step. In the exchange's own quantities."""
    attempt: int = 0
    """Which answer is awaited; earlier ones are not wanted any more."""
    failures: int = 0
    unknown: int = 0
    """So many times in a row the exchange did not know the instrument."""
    fetch_at: int | None = None
    """Monotonic: when a snapshot is asked for."""
    acknowledged_at: int | None = None
    """Monotonic: when the exchange confirmed the subscription."""
    snapshot_due: int | None = None
    """Monotonic: when a snapshot is published again."""
    snapshot_id: int | None = None
    shown: Ends = (None, None)
    """The worst prices of the snapshot that was published last."""

    def __attrs_post_init__(self) -> None:
        source, interval = self.source, self.options.audit_interval
        self.auditor = Auditor(self.state, source.url, source.weight, interval, self.window)

    @property
    def published(self) -> bool:
        """There is a book, and it is what was published."""
        return self.book is not None

    @property
    def in_step(self) -> bool:
        """The same, and the stream goes on from it."""
        return self.published

    # Snapshots that are fetched

    def begin(self) -> Fetch:
        """Ask for a snapshot."""
        known = self.state.cursor.received is not None
        return self._fetch(Priority.RESYNC if known else Priority.FIRST_SNAPSHOT)

    def answered(
        self, attempt: int, answer: Fetched | FetchFailed, now: Moment, turn: Turn
    ) -> None:
        """A fetched snapshot, or a reason to ask again later."""
        refused = self.state.phase is Phase.PARKED and not self.unknown
        if attempt != self.attempt or self.book is not None or refused:
            return
        if (why := self._unlisted(answer)) is not None:
            self._not_known(why, now, turn)
            return
        self._known()
        if isinstance(answer, FetchFailed):
            status = answer.status
            said = "no answer" if status is None else worded(status, answer.meaning)
            self._later(now, f"no snapshot: {said}", answer.retry_after)
            return
        snapshot = self._readable(answer.body)
        if isinstance(snapshot, Reject):
            turn.steps.append(snapshot)
            self._later(now, f"its snapshot cannot be read: {snapshot.detail}")
        elif (why := self._too_old(snapshot, answer)) is not None:
            self._later(now, why)
        else:
            self._join(snapshot, now, turn)

    def audited(self, attempt: int, answer: Fetched | FetchFailed, now: Moment, turn: Turn) -> None:
        """A fresh snapshot to compare the book with, or why there is none."""
        self.auditor.waiting -= 1
        if isinstance(answer, FetchFailed):
            self.auditor.failed(attempt, answer, now)
            return
        snapshot = self._readable(answer.body)
        if isinstance(snapshot, Reject):
            turn.steps.append(snapshot)
            self.auditor.failed(attempt, None, now)
        elif self.book is not None:
            fresh = self._made(snapshot, now, self.source.limit)
            self._conclude(self.auditor.answered(attempt, fresh, self.book, now), now, turn)

    def tick(self, now: Moment, turn: Turn) -> None:
        """Ask again when it is time, and publish a snapshot when one is due."""
        if self.fetch_at is not None and now.monotonic >= self.fetch_at:
            turn.steps.append(self.begin())
        if self.book is None or not self.published:
            return
        if self.snapshot_due is not None and now.monotonic >= self.snapshot_due:
            interval, news = self.options.snapshot_interval, self.book.last_id != self.snapshot_id
            if interval or news:
                self.snapshot_due = now.monotonic + round(interval * SECOND) if interval else None
            if news:
                self.restate(0, now, turn)

    def _fetch(self, priority: Priority, before: Send | None = None, settle: float = 0.0) -> Fetch:
        self.fetch_at = None
        self.attempt += 1
        tag = Tag(self.state.instrument.native_id, self.attempt)
        return Fetch(self.source.url, tag, self.source.weight, priority, before, settle)

    def _later(self, now: Moment, why: str, least: float | None = None) -> None:
        """Ask again, in `least` seconds or more."""
        wait = self._backoff
        self.failures += 1
        self.attempt += 1
        self.fetch_at = now.monotonic + max(wait, round((least or 0.0) * SECOND))
        self.state.detail = why

    @property
    def _backoff(self) -> int:
        return min(FIRST_RETRY << min(self.failures, 10), LONGEST_RETRY)

    def _readable(self, body: bytes) -> FetchedBook | Reject:
        try:
            return self._read(body)
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError, RecursionError) as error:
            return Reject("unreadable snapshot", str(error), body[:SAMPLE_BYTES])

    def _too_old(self, snapshot: FetchedBook, answer: Fetched) -> str | None:
        """Why this snapshot cannot be joined, or None when it can."""
        if not self.waiting:
            # Silence proves nothing of what came before the subscription stood.
            if self.acknowledged_at is None or answer.asked < self.acknowledged_at:
                return "its snapshot was asked for before the subscription stood"
        elif not self._reaches(snapshot):
            return "its snapshot is older than the stream"
        return None

    def _made(self, snapshot: FetchedBook, now: Moment, limit: int | None = None) -> OrderBook:
        """See `OrderBook` for `limit`."""
        event_time = snapshot.event_time
        if event_time is not None and self._is_ahead(event_time, now):
            event_time = None
        return OrderBook(snapshot.bids, snapshot.asks, snapshot.last_id, event_time, limit)

    def _is_ahead(self, event_time: int, now: Moment) -> bool:
        """Whether a time is one to come."""
        return self.state.cursor.clock.is_ahead(event_time, now)

    # What is published

    def restate(self, heals: int, now: Moment, turn: Turn, *, lost: bool = False) -> None:
        """Publish the book as it is now; nothing while out of step, nor what is published (unless
        that was `lost` since), nor where the market has left what is known of it.
        """
        if (book := self.book) is None or not self.published:
            return
        if not heals and not lost and book.last_id == self.state.cursor.snapshot_id:
            return
        bids, asks = book.top(self.options.depth)
        if self._thin(bids, book.bids_end) or self._thin(asks, book.asks_end):
            self.auditor.hurry(now, exhausted=book.exhausted)
            if book.exhausted:
                return
        turn.records.append(
            OrderBookRecord(
                self.state.instrument,
                book.event_time,
                now.wall,
                update_type="snapshot",
                bids=self._as_published(bids),
                asks=self._as_published(asks),
                first_update_id=None,
                last_update_id=book.last_id,
                heals=heals,
            )
        )
        self.snapshot_id = book.last_id
        self.shown = bids[-1][0] if bids else None, asks[-1][0] if asks else None
        if not heals:
            self.state.cursor.snapshot_id = book.last_id
        self.state.records += 1

    def _thin(self, shown: Sequence[Level], end: str | None) -> bool:
        """Whether fewer levels are known than should be shown, and than half of what was asked
        for.
        """
        return end is not None and len(shown) < min(self.options.depth, self.source.limit // 2)

    def _publish(self, update: Update, now: Moment, turn: Turn) -> None:
        if self.options.mode == "updates":
            self.state.records += 1
            turn.records.append(
                OrderBookRecord(
                    self.state.instrument,
                    update.event_time,
                    update.wall,
                    update_type="update",
                    bids=update.bids,
                    asks=update.asks,
                    first_update_id=update.first_id,
                    last_update_id=update.last_id,
                    prev_update_id=self.state.cursor.last_id,
                )
            )
        self.state.cursor.ahead.count += update.ahead
        told_at = None if update.ahead else update.event_time
        self._accepted(update.last_id, told_at, update.wall, now)

    def _accepted(self, last_id: int, event_time: int | None, wall: int, now: Moment) -> None:
        """The exchange said so much, at `wall`. What we tell again is no sign of its life."""
        state, cursor = self.state, self.state.cursor
        cursor.last_id = last_id
        cursor.event_time = event_time or cursor.event_time
        cursor.received = max(wall, cursor.received or 0)
        state.last_record = now.monotonic

    def _close_gap(
        self, missing: tuple[int, int] | None, now: Moment, turn: Turn, *, countable: bool = False
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
        turn.records.append(gap)
        return gap.started_at

    def _show(
        self, book: OrderBook, heals: int, proof: tuple[int, int], now: Moment, turn: Turn
    ) -> None:
        """The book is in step from now on. `proof`: the id at which it was the exchange's, and when
        that was.
        """
        state, cursor = self.state, self.state.cursor
        if not heals and (told := cursor.told) is not None:
            book.write_as(told)
        cursor.book = book
        state.phase, state.detail, state.waits = Phase.LIVE, None, False
        self.auditor.proved(*proof, now)
        self._accepted(book.last_id, book.event_time, now.wall, now)
        self.restate(heals, now, turn)
        interval = self.options.snapshot_interval
        self.snapshot_due = now.monotonic + round(interval * SECOND) if interval else None

    # What is kept

    def holding(self) -> Holding:
        """How much is kept; of the updates that wait, the last stands for all."""
        if (book := self.book) is not None:
            return Holding(1, len(book.bids) + len(book.asks))
        waiting = self.waiting
        return Holding(0, 0, waiting, waiting * self._width()) if waiting else Holding()

    def forgo(self, now: Moment) -> None:
        """Drop what waits for a snapshot, and the answer that would have joined it."""
        if self.waiting and self.state.phase is not Phase.PARKED:
            self.attempt += 1
            self.state.detail = "waits for memory"
            self._ask_after_all(now)
        self._drop()

    def _ask_after_all(self, now: Moment) -> None:
        self.fetch_at = now.monotonic + FORGONE

    def _forget(self, why: str) -> None:
        """Out of step: forget the book and whatever is under way."""
        self.book = None
        self.auditor.interrupt()
        self._drop()
        self.attempt += 1
        self.fetch_at = None
        self.state.phase, self.state.detail = Phase.ACKNOWLEDGED, why

    # A venue's own

    @property
    @abstractmethod
    def waiting(self) -> int:
        """How many updates wait for a snapshot."""

    @abstractmethod
    def _width(self) -> int:
        """Levels of the last update that waits."""

    @abstractmethod
    def _drop(self) -> None:
        """Nothing waits any more."""

    @abstractmethod
    def _read(self, body: bytes) -> FetchedBook:
        """Raises ValueError, and what decoding raises."""

    @abstractmethod
    def _unlisted(self, answer: Fetched | FetchFailed) -> str | None:
        """In words, that the exchange does not know the instrument; None where it does not say."""

    @abstractmethod
    def _not_known(self, why: str, now: Moment, turn: Turn) -> None:
        """It may be listed, or trade again: ask for it again, slowly."""

    @abstractmethod
    def _known(self) -> None:
        """An answer did not say so."""

    @abstractmethod
    def _reaches(self, snapshot: FetchedBook) -> bool:
        """Whether nothing is missing between a snapshot and the updates that wait."""

    @abstractmethod
    def _join(self, snapshot: FetchedBook, now: Moment, turn: Turn) -> None:
        """The snapshot is the book, and what waits goes on from it."""

    @abstractmethod
    def _conclude(self, verdict: Verdict | None, now: Moment, turn: Turn) -> None:
        """What follows from an audit."""

    def _as_published(self, levels: Sequence[Level]) -> Sequence[Level]:
        """Levels of the book, as they are published."""
        return levels
