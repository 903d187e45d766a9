"""How a book is kept in step with its exchange's, as far as that is the same everywhere. Pure.

While there is no book, what the stream tells waits. A snapshot is fetched, again and ever more
slowly where there is none to be had, until one joins what was heard (`_too_old`); then the book
goes on by updates, and whatever does not follow puts it out of step. What of it is told stands in
`published_book.py`.

A venue says how a snapshot joins and how an update follows another.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import attrs
import msgspec

from marketprism.clock import SECOND, Timestamp
from marketprism.feeds.actions import Fetch, Fetched, FetchFailed, Output, Priority, Reject, Send
from marketprism.feeds.comparison import Verdict
from marketprism.feeds.http_answers import worded
from marketprism.feeds.published_book import PublishedBook
from marketprism.feeds.venue import REFUSED_RETRY, SAMPLE_BYTES, Holding, Tag
from marketprism.orderbook import OrderBook
from marketprism.records import Level
from marketprism.streams.state import Phase

FIRST_RETRY, LONGEST_RETRY = SECOND // 2, 30 * SECOND
FORGONE = 5 * SECOND
"""From dropping what waited for a snapshot to asking for one anew."""


class FetchedBook(NamedTuple):
    """A snapshot that was fetched."""

    bids: Sequence[Level]
    asks: Sequence[Level]
    last_id: int
    event_time: int | None
    """Nanoseconds; None where it tells none."""


@attrs.define(eq=False)
class KeptBook(PublishedBook, ABC):
    """One book of one connection."""

    refused_retry: float = REFUSED_RETRY
    """Seconds between two requests for a book that the exchange does not know, after the first."""
    attempt: int = 0
    """Which answer is awaited; earlier ones are not wanted any more."""
    failures: int = 0
    unknown: int = 0
    """So many times in a row the exchange did not know the instrument."""
    fetch_at: int | None = None
    """Monotonic: when a snapshot is asked for."""
    acknowledged_at: int | None = None
    """Monotonic: when the exchange confirmed the subscription."""

    def begin(self) -> Fetch:
        """Ask for a snapshot."""
        known = self.state.cursor.received is not None
        return self._fetch(Priority.RESYNC if known else Priority.FIRST_SNAPSHOT)

    def answered(
        self, attempt: int, answer: Fetched | FetchFailed, now: Timestamp, output: Output
    ) -> None:
        """A fetched snapshot, or a reason to ask again later."""
        refused = self.state.phase is Phase.PARKED and not self.unknown
        if attempt != self.attempt or self.book is not None or refused:
            return
        if (why := self._unlisted(answer)) is not None:
            self._not_known(why, now, output)
            return
        self._known()
        if isinstance(answer, FetchFailed):
            status = answer.status
            said = "no answer" if status is None else worded(status, answer.meaning)
            self._later(now, f"no snapshot: {said}", answer.retry_after)
            return
        snapshot = self._readable(answer.body)
        if isinstance(snapshot, Reject):
            output.actions.append(snapshot)
            self._later(now, f"its snapshot cannot be read: {snapshot.detail}")
        elif (why := self._too_old(snapshot, answer)) is not None:
            self._later(now, why)
        else:
            self._join(snapshot, now, output)

    def audited(
        self, attempt: int, answer: Fetched | FetchFailed, now: Timestamp, output: Output
    ) -> None:
        """A fresh snapshot to compare the book with, or why there is none."""
        self.auditor.waiting -= 1
        if isinstance(answer, FetchFailed):
            self.auditor.failed(attempt, answer, now)
            return
        snapshot = self._readable(answer.body)
        if isinstance(snapshot, Reject):
            output.actions.append(snapshot)
            self.auditor.failed(attempt, None, now)
        elif self.book is not None:
            fresh = self._made(snapshot, now, self.source.limit)
            self._conclude(self.auditor.answered(attempt, fresh, self.book, now), now, output)

    def tick(self, now: Timestamp, output: Output) -> None:
        """Ask again when it is time, and publish a snapshot when one is due."""
        if self.fetch_at is not None and now.monotonic >= self.fetch_at:
            output.actions.append(self.begin())
        self._tick_snapshots(now, output)

    def _fetch(self, priority: Priority, before: Send | None = None, settle: float = 0.0) -> Fetch:
        self.fetch_at = None
        self.attempt += 1
        tag = Tag(self.state.instrument.native_id, self.attempt)
        return Fetch(self.source.url, tag, self.source.weight, priority, before, settle)

    def _later(self, now: Timestamp, why: str, least: float | None = None) -> None:
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

    def _made(self, snapshot: FetchedBook, now: Timestamp, limit: int | None = None) -> OrderBook:
        """See `OrderBook` for `limit`."""
        event_time = snapshot.event_time
        if event_time is not None and self._is_ahead(event_time, now):
            event_time = None
        return OrderBook(snapshot.bids, snapshot.asks, snapshot.last_id, event_time, limit)

    def holding(self) -> Holding:
        """How much is kept; of the updates that wait, the last stands for all."""
        if (book := self.book) is not None:
            return Holding(1, len(book.bids) + len(book.asks))
        waiting = self.waiting
        return Holding(0, 0, waiting, waiting * self._width()) if waiting else Holding()

    def drop_buffers(self, now: Timestamp) -> None:
        """Drop what waits for a snapshot, and the answer that would have joined it."""
        if self.waiting and self.state.phase is not Phase.PARKED:
            self.attempt += 1
            self.state.detail = "waits for memory"
            self._ask_after_all(now)
        self._drop()

    def _ask_after_all(self, now: Timestamp) -> None:
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
    def _not_known(self, why: str, now: Timestamp, output: Output) -> None:
        """It may be listed, or trade again: ask for it again, slowly."""

    @abstractmethod
    def _known(self) -> None:
        """An answer did not say so."""

    @abstractmethod
    def _reaches(self, snapshot: FetchedBook) -> bool:
        """Whether nothing is missing between a snapshot and the updates that wait."""

    @abstractmethod
    def _join(self, snapshot: FetchedBook, now: Timestamp, output: Output) -> None:
        """The snapshot is the book, and what waits goes on from it."""

    @abstractmethod
    def _conclude(self, verdict: Verdict | None, now: Timestamp, output: Output) -> None:
        """What follows from an audit."""
