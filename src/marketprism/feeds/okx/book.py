"""How a book is kept in step with OKX's `books` channel.

The source is the API guide's "WS / Order book channel":
https://www.okx.com/docs-v5/en/#order-book-trading-market-data-ws-order-book-channel
Its steps are methods here:

1. subscribe: a snapshot comes first — `subscribed`, `_replace`;
2. each update names the `seqId` that it follows (`prevSeqId`) — `Heard.follows`, `_apply`; one that
   follows itself says that nothing changed — `_kept_alive`;
3. a checksum, where there is one, is that of the book — `_agrees`;
4. out of step, subscribe the one instrument again — `_out_of_step`;
5. where no snapshot comes on the wire, fetch one over REST: it joins the updates that were heard
   where `prevSeqId <= seqId(snapshot) < seqId` — `_reaches`, `_join`.

`seqId`s grow without counting, so a gap's bounds say where, never how many. They also may start
over (maintenance): the update that says so follows the last one, and all goes on from its number.
Of two books from before and after it the times alone say which is the later one.
"""

from collections.abc import Sequence
from typing import ClassVar, Final

import attrs

from marketprism.clock import SECOND, Timestamp
from marketprism.feeds.actions import Fetch, Fetched, FetchFailed, Output
from marketprism.feeds.comparison import Change, Verdict
from marketprism.feeds.kept_book import FetchedBook, KeptBook
from marketprism.feeds.okx.chain import Backlog, Heard, Snapshot, continued, published
from marketprism.feeds.okx.checksum import checksum
from marketprism.feeds.okx.fetched import fetched_book, unlisted
from marketprism.feeds.okx.messages import Book
from marketprism.feeds.refusals import park, pause_of
from marketprism.orderbook import OrderBook
from marketprism.records import Level
from marketprism.streams.state import Phase

SNAPSHOT_WITHIN: Final = 5 * SECOND
"""From a subscription's acknowledgement; later, the snapshot is fetched over REST."""
DEEPEST: Final = 400
"""Levels a side in the channel, and in a snapshot of as many. The channel keeps to its best ones:
what drops out is told as removed, what moves up as new. So all that is told is known, and only
a fetched snapshot ends before the book may.
"""
STEADY_AFTER: Final = 60 * SECOND
"""In step for so long, the next loss is a new one, not a retry that failed."""


@attrs.define(eq=False)
class BookStream(KeptBook):
    """One book of one connection."""

    window: ClassVar[int | None] = DEEPEST
    behind: bool = False
    """The book is older than what was published, and catches up before it is shown."""
    joining: bool = False
    """The book was fetched, and no update has joined it yet."""
    doubted: int | None = None
    """The number of an update of a time to come, which did not follow."""
    backlog: Backlog = attrs.field(factory=Backlog)
    resubscribe_at: int | None = None
    """Monotonic."""
    in_step_since: int = 0

    @property
    def published(self) -> bool:
        return self.book is not None and not self.behind

    @property
    def in_step(self) -> bool:
        return self.published and not self.joining

    def subscribed(self, now: Timestamp) -> None:
        """The exchange confirmed it: a snapshot is due."""
        self.acknowledged_at = now.monotonic
        if self.book is None:
            self.fetch_at = now.monotonic + SNAPSHOT_WITHIN
        elif self.in_step:
            self.state.phase = Phase.LIVE

    def restart(self) -> None:
        """Its subscription is being renewed: forget the book and whatever is under way."""
        self._forget("resynchronising")
        self.acknowledged_at = None

    def refused(self) -> None:
        """Its subscription cannot be had for now: a snapshot would have nothing to go on with."""
        self.attempt += 1
        self.fetch_at = self.resubscribe_at = None

    def on_event(self, heard: Heard | Snapshot, now: Timestamp, output: Output) -> None:
        """A snapshot or an update of the channel."""
        if isinstance(heard, Snapshot):
            self._replace(heard.native, heard.event_time, now, output)
            return
        if self.state.phase is Phase.PARKED:
            # It speaks: the host that did not know it was wrong, or knows it by now.
            self.state.phase = Phase.ACKNOWLEDGED
            self._later(now, "waiting for a snapshot")
        if self.book is None:
            self.state.duplicates += not self.backlog.add(heard)
        elif heard.ahead and self._strays(heard, self.book):
            self.state.cursor.ahead.count += 1
        elif heard.idle:
            self._kept_alive(heard, self.book, now, output)
        elif heard.follows(self.book, joining=self.joining):
            self._apply(heard, self.book, now, output)
        elif heard.passed(self.book, joining=self.joining):
            self.state.duplicates += 1
        else:
            self._out_of_step("an update was missed", now)

    def tick(self, now: Timestamp, output: Output) -> None:
        super().tick(now, output)
        if self.published and now.monotonic - self.in_step_since > STEADY_AFTER:
            self.failures = 0

    def begin(self) -> Fetch:
        self.resubscribe_at = None
        return super().begin()

    @property
    def waiting(self) -> int:
        return len(self.backlog.updates)

    def _width(self) -> int:
        last = self.backlog.updates[-1]
        return len(last.bids) + len(last.asks)

    def _drop(self) -> None:
        self.backlog = Backlog()

    def _ask_after_all(self, now: Timestamp) -> None:
        """One on the wire is still welcome: it needs nothing of what came before."""
        if self.resubscribe_at is None:
            super()._ask_after_all(now)

    def _replace(
        self, snapshot: Book, event_time: int | None, now: Timestamp, output: Output
    ) -> None:
        """A snapshot on the wire, asked for or not: it is the book."""
        self.auditor.interrupt()
        heard = self.backlog.updates
        self.book = OrderBook(snapshot.bids, snapshot.asks, snapshot.seqId, event_time)
        self.joining = False
        if self._agrees(snapshot, self.book, now):
            self.join(heard, now, output)

    def _read(self, body: bytes) -> FetchedBook:
        return fetched_book(body, self.state.instrument)

    def _unlisted(self, answer: Fetched | FetchFailed) -> str | None:
        return unlisted(answer.body)

    def _not_known(self, why: str, now: Timestamp, output: Output) -> None:
        """It may be about to be listed, or the host may be wrong."""
        if self.waiting:
            self._later(now, why)
            return
        self.attempt += 1
        self.failures += 1
        park(self.state, why, output)
        self.fetch_at = now.monotonic + pause_of(self.source.url, self.refused_retry, self.unknown)
        self.unknown += 1

    def _known(self) -> None:
        self.unknown = 0
        if self.state.phase is Phase.PARKED:
            self.state.phase = Phase.ACKNOWLEDGED

    def _reaches(self, snapshot: FetchedBook) -> bool:
        return self.backlog.reaches(snapshot.last_id, snapshot.event_time or 0)

    def _join(self, snapshot: FetchedBook, now: Timestamp, output: Output) -> None:
        """Step 5."""
        heard, beyond = self.backlog.updates, self.backlog.beyond(snapshot.last_id)
        self.book = self._made(snapshot, now)
        for update in beyond:
            update.applied(self.book)
        self.joining = not beyond
        self.join(heard, now, output)

    def join(
        self, heard: Sequence[Heard], now: Timestamp, output: Output, *, seamless: bool = False
    ) -> None:
        """There is a book: join it to what was published last, or tell that it does not. Where
        it is `seamless`, sight of the book was never lost though its numbers do not join.
        """
        cursor, state, book = self.state.cursor, self.state, self.book
        assert book is not None
        self._drop()
        self.attempt += 1
        self.fetch_at = self.resubscribe_at = None
        known = cursor.last_id
        tail = [] if known == book.last_id else continued(heard, known)
        if tail is not None and (tail[-1].sequence if tail else known) != book.last_id:
            # A fetched book may be ahead of what was heard: what lies between was never told.
            tail = None
        # A server may lag behind the one that was heard last: its time says so, since numbers may
        # have started over between the two.
        self.behind = (
            known is not None
            and tail is None
            and book.event_time is not None
            and cursor.event_time is not None
            and (book.event_time, book.last_id) < (cursor.event_time, known)
        )
        if self.behind:
            state.phase, state.detail = Phase.ACKNOWLEDGED, "catching up with what was published"
            return
        heals_gap = 0
        if known is not None and tail is not None and not cursor.needs_snapshot:
            # Nothing is missing after all: what the snapshot holds is published as it came.
            cursor.gap = None
            for update in tail:
                told = cursor.told
                self._tell(update if told is None else update.applied(told), now, output)
        elif known is not None and not seamless:
            cursor.lose("sequence", f"the book at {book.last_id} does not continue {known}")
            missing = (known + 1, book.last_id) if book.last_id > known else None
            heals_gap = self._close_gap(missing, now, output)
        self.in_step_since = now.monotonic
        self._show(book, heals_gap, (book.last_id, now.wall), now, output)

    def _strays(self, heard: Heard, book: OrderBook) -> bool:
        """Whether an update of a time to come is left aside, as it does not follow. Another that
        follows it shows that it was one.
        """
        if heard.follows(book, joining=self.joining) or heard.sequence <= book.last_id:
            return False
        doubted, self.doubted = self.doubted, heard.sequence
        return heard.previous != doubted

    def _kept_alive(self, heard: Heard, book: OrderBook, now: Timestamp, output: Output) -> None:
        """Nothing changed for a minute: it proves that the stream lives, and where it stands."""
        if heard.sequence == book.last_id or (self.joining and heard.sequence < book.last_id):
            self.state.last_record = now.monotonic
            if self.behind:
                book.event_time = heard.time_after(book.event_time)
                self.join([], now, output)
        elif heard.passed(book, joining=self.joining):
            self.state.duplicates += 1
        else:
            self._out_of_step("an update was missed", now)

    def _apply(self, heard: Heard, book: OrderBook, now: Timestamp, output: Output) -> None:
        followed = book.last_id
        native = heard.native
        self.doubted, heard = None, heard.applied(book)
        self.joining = False
        if not self._agrees(native, book, now):
            return
        if self.behind:
            self.join([heard], now, output)
            return
        self._tell(heard, now, output)
        if self.auditor.trail is None:
            return
        if heard.sequence < followed:
            self.auditor.interrupt()
        else:
            change = Change(heard.sequence, native.bids, native.asks, heard.event_time, now)
            self._conclude(self.auditor.took(change, book), now, output)

    def _conclude(self, verdict: Verdict | None, now: Timestamp, output: Output) -> None:
        if verdict is None or self.book is None:
            return
        heals_gap = self.auditor.conclude(verdict, self.connection, now, output)
        if heals_gap:
            verdict.fresh.write_as(self.book)
            self.book = self.state.cursor.book = verdict.fresh
            self.book.bids_end = self.book.asks_end = None
            self._accepted(self.book.last_id, self.book.event_time, now.wall, now)
            self.send_snapshot(heals_gap, now, output)

    def _agrees(self, said: Book, book: OrderBook, now: Timestamp) -> bool:
        """Whether the checksum, where there is one, is that of the book."""
        if said.checksum == 0 or said.checksum == checksum(book):
            return True
        self._out_of_step("its checksum does not agree", now)
        return False

    def _tell(self, heard: Heard, now: Timestamp, output: Output) -> None:
        self._publish(heard, (None, heard.sequence), (heard.bids, heard.asks), now, output)

    def _as_published(self, levels: Sequence[Level]) -> Sequence[Level]:
        return published(self.state.instrument, levels)

    def _forget(self, why: str) -> None:
        super()._forget(why)
        self.doubted = self.resubscribe_at = None

    def _out_of_step(self, why: str, now: Timestamp) -> None:
        self.state.cursor.lose("sequence", why)
        self.state.resyncs += 1
        self._forget(f"resynchronising: {why}")
        wait = self._backoff if self.failures else 0
        self.failures += 1
        self.resubscribe_at = now.monotonic + wait
