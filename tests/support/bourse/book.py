"""How a book is kept in step with the Bourse's topic `books`.

1. A snapshot comes when it is subscribed: it is the book — `on_event`;
2. an update goes on from the book whose `seq` is its `prev`; one that is in it has passed;
3. what does not follow is a hole: the book is fetched, and what was heard since goes on from it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import attrs

from bourse import messages
from marketprism.clock import MILLISECOND, SECOND, Timestamp
from marketprism.decimals import levels
from marketprism.feeds.actions import Fetched, FetchFailed, Output
from marketprism.feeds.comparison import Change, Verdict
from marketprism.feeds.kept_book import FetchedBook, KeptBook
from marketprism.feeds.refusals import park, pause_of
from marketprism.orderbook import OrderBook
from marketprism.records import Level

SNAPSHOT_WITHIN = 5 * SECOND
"""From the confirmation of the subscription."""


class Heard(NamedTuple):
    """A message of the topic."""

    is_snapshot: bool
    previous: int
    last_id: int
    event_time: int
    wall: int
    bids: Sequence[Level]
    asks: Sequence[Level]
    ahead: bool


@attrs.define(eq=False)
class BookStream(KeptBook):
    """One book of one connection."""

    heard: list[Heard] = attrs.field(factory=list)
    """Updates that wait for a snapshot: one chain without a hole."""

    def subscribed(self, now: Timestamp) -> None:
        """A snapshot is due."""
        self.acknowledged_at = now.monotonic
        if self.book is None:
            self.fetch_at = now.monotonic + SNAPSHOT_WITHIN

    def restart(self) -> None:
        """Its subscription is being renewed."""
        self._forget("resynchronising")
        self.acknowledged_at = None

    def on_event(self, heard: Heard, now: Timestamp, output: Output) -> None:
        """A snapshot or an update."""
        if heard.is_snapshot:
            self.auditor.interrupt()
            time = None if heard.ahead else heard.event_time
            waiting, self.book = self.heard, OrderBook(heard.bids, heard.asks, heard.last_id, time)
            self._go_on([each for each in waiting if each.last_id > heard.last_id], now, output)
        elif self.book is None:
            if self.heard and self.heard[-1].last_id != heard.previous:
                self.heard.clear()
            self.heard.append(heard)
        elif heard.previous == self.book.last_id:
            self._apply(heard, self.book, now, output)
        elif heard.last_id <= self.book.last_id and heard.event_time <= self._time:
            self.state.duplicates += 1
        else:
            self.state.cursor.lose("sequence", f"{heard.last_id} follows {heard.previous}")
            self.state.resyncs += 1
            self._forget("resynchronising: an update was missed")
            self.fetch_at = now.monotonic

    @property
    def _time(self) -> int:
        return 0 if self.book is None else self.book.event_time or 0

    def _apply(self, heard: Heard, book: OrderBook, now: Timestamp, output: Output) -> None:
        time = book.event_time if heard.ahead else heard.event_time
        sides = book.apply(heard.bids, heard.asks, heard.last_id, time)
        self._publish(heard, (None, heard.last_id), sides, now, output)
        change = Change(heard.last_id, heard.bids, heard.asks, heard.event_time, now)
        if self.auditor.trail is not None:
            self._conclude(self.auditor.took(change, book), now, output)

    def _go_on(self, beyond: Sequence[Heard], now: Timestamp, output: Output) -> None:
        """There is a book: join it to what was published last, or tell that it does not."""
        cursor, book = self.state.cursor, self.book
        assert book is not None
        self._drop()
        self.attempt += 1
        self.fetch_at, known = None, cursor.last_id
        older = (book.event_time or 0) < (cursor.event_time or 0)
        if known is not None and book.last_id < known and older:
            self.book = None
            self._later(now, "its snapshot is older than what was published")
            return
        heals_gap = 0
        if known == book.last_id and not cursor.needs_snapshot:
            cursor.gap = None
        elif known is not None:
            cursor.lose("sequence", f"the book at {book.last_id} does not continue {known}")
            missing = (known + 1, book.last_id) if book.last_id > known else None
            heals_gap = self._close_gap(missing, now, output)
        self.failures = 0
        self._show(book, heals_gap, (book.last_id, now.wall), now, output)
        for heard in beyond:
            self.on_event(heard, now, output)

    @property
    def waiting(self) -> int:
        return len(self.heard)

    def _width(self) -> int:
        return len(self.heard[-1].bids) + len(self.heard[-1].asks)

    def _drop(self) -> None:
        self.heard = []

    def _read(self, body: bytes) -> FetchedBook:
        said = messages.read(body)
        bids, asks = levels(said.bids, said.asks)
        return FetchedBook(bids, asks, said.seq, said.at * MILLISECOND)

    def _unlisted(self, answer: Fetched | FetchFailed) -> str | None:
        missing = isinstance(answer, FetchFailed) and answer.status == 404
        return "the exchange does not know this market" if missing else None

    def _not_known(self, why: str, now: Timestamp, output: Output) -> None:
        self.attempt += 1
        park(self.state, why, output)
        self.fetch_at = now.monotonic + pause_of(self.source.url, self.refused_retry, self.unknown)
        self.unknown += 1

    def _known(self) -> None:
        self.unknown = 0

    def _reaches(self, snapshot: FetchedBook) -> bool:
        return self.heard[0].previous <= snapshot.last_id

    def _join(self, snapshot: FetchedBook, now: Timestamp, output: Output) -> None:
        """Step 3."""
        self.book = self._made(snapshot, now)
        self._go_on([u for u in self.heard if u.last_id > snapshot.last_id], now, output)

    def _conclude(self, verdict: Verdict | None, now: Timestamp, output: Output) -> None:
        if verdict is None or self.book is None:
            return
        if heals_gap := self.auditor.conclude(verdict, self.connection, now, output):
            verdict.fresh.write_as(self.book)
            self.book = self.state.cursor.book = verdict.fresh
            self._accepted(self.book.last_id, self.book.event_time, now.wall, now)
            self.send_snapshot(heals_gap, now, output)
