"""How a book is kept in step with OKX's `books` channel.

The source is the API guide's "WS / Order book channel". A snapshot comes first, then updates that
each name the `seqId` they follow (`prevSeqId`). Out of step, the one instrument is subscribed
again. Where no snapshot comes on the wire, one is fetched over REST: it joins the updates that
were heard where `prevSeqId <= seqId(snapshot) < seqId`.

`seqId`s grow without counting, so a gap's bounds say where, never how many. They also may start
over (maintenance): the update that says so follows the last one, and all goes on from its number.
Of two books from before and after it the times alone say which is the later one.
"""

from collections.abc import Sequence
from typing import Final

import attrs

from marketprism.clock import SECOND, Moment
from marketprism.feeds import decimals
from marketprism.feeds.audit import Auditor
from marketprism.feeds.comparison import Change, Verdict
from marketprism.feeds.http_answers import worded
from marketprism.feeds.okx.chain import Backlog, Heard, Snapshot, continued, published
from marketprism.feeds.okx.checksum import checksum
from marketprism.feeds.okx.messages import (
    UNKNOWN_INSTRUMENT,
    UNREADABLE,
    Book,
    answer_code,
    nanoseconds,
    read_book,
    read_data,
)
from marketprism.feeds.subscribing import park, pause_of
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
    StreamState,
    Tag,
    Turn,
)
from marketprism.orderbook import OrderBook
from marketprism.records import OrderBookRecord
from marketprism.settings import OrderbookOptions

SNAPSHOT_WITHIN: Final = 5 * SECOND
"""From a subscription's acknowledgement; later, the snapshot is fetched over REST."""
BOOKS_WEIGHT: Final = 1
DEEPEST: Final = 400
"""Levels a side in the channel, and in a snapshot of as many. The channel keeps to its best ones:
what drops out is told as removed, what moves up as new. So all that is told is known, and only
a fetched snapshot ends before the book may.
"""
FIRST_RETRY, LONGEST_RETRY = SECOND // 2, 30 * SECOND
FORGONE: Final = 5 * SECOND
"""From dropping what waited for a snapshot to asking for one."""
STEADY_AFTER: Final = 60 * SECOND
"""In step for so long, the next loss is a new one, not a retry that failed."""
CLOCKS_APART: Final = 5 * SECOND
"""How far the times of a fetched snapshot and of updates within it may differ."""


@attrs.define(eq=False)
class BookStream:
    """One book of one connection."""

    state: StreamState
    url: str
    """Where a snapshot can be fetched."""
    options: OrderbookOptions
    connection: str
    refused_retry: float = REFUSED_RETRY
    """Seconds between two attempts to fetch a book that OKX says there is not, after the first."""
    auditor: Auditor = attrs.field(init=False)
    book: OrderBook | None = None
    """None while out of step. Native quantities: they are what checksums are of."""
    behind: bool = False
    """The book is older than what was published, and catches up before it is shown."""
    joining: bool = False
    """The book was fetched, and no update has joined it yet."""
    doubted: int | None = None
    """The number of an update of a time to come, which did not follow."""
    backlog: Backlog = attrs.field(factory=Backlog)
    attempt: int = 0
    """Which answer is awaited; earlier ones are not wanted any more."""
    failures: int = 0
    unknown: int = 0
    """So many times in a row OKX did not know the instrument."""
    acknowledged_at: int | None = None
    fetch_at: int | None = None
    resubscribe_at: int | None = None
    in_step_since: int = 0
    snapshot_due: int | None = None
    snapshot_id: int | None = None

    def __attrs_post_init__(self) -> None:
        interval = self.options.audit_interval
        self.auditor = Auditor(self.state, self.url, BOOKS_WEIGHT, interval, DEEPEST)

    @property
    def in_step(self) -> bool:
        """There is a book, the stream goes on from it, and it is published."""
        return self.book is not None and not self.behind and not self.joining

    def subscribed(self, now: Moment) -> None:
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

    def hear(self, heard: Heard | Snapshot, now: Moment, turn: Turn) -> None:
        """A snapshot or an update of the channel."""
        if isinstance(heard, Snapshot):
            self._replace(heard.native, heard.event_time, now, turn)
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
            self._kept_alive(heard, self.book, now, turn)
        elif self._follows(heard, self.book):
            self._apply(heard, self.book, now, turn)
        elif self._passed(heard, self.book):
            self.state.duplicates += 1
        else:
            self._out_of_step("an update was missed", now)

    def answered(
        self, attempt: int, answer: Fetched | FetchFailed, now: Moment, turn: Turn
    ) -> None:
        """A fetched snapshot, or a reason to ask again later."""
        if attempt != self.attempt or self.book is not None:
            return
        if answer_code(answer.body) == UNKNOWN_INSTRUMENT:
            self._not_known(now, turn)
            return
        self.unknown = 0
        if self.state.phase is Phase.PARKED:
            self.state.phase = Phase.ACKNOWLEDGED
        if isinstance(answer, FetchFailed):
            status = answer.status
            said = "no answer" if status is None else worded(status, answer.meaning)
            self._later(now, f"no snapshot: {said}", answer.retry_after)
        else:
            self._fetched(answer, now, turn)

    def audited(self, attempt: int, answer: Fetched | FetchFailed, now: Moment, turn: Turn) -> None:
        """A fresh snapshot to compare the book with, or why there is none."""
        self.auditor.waiting -= 1
        if isinstance(answer, FetchFailed):
            self.auditor.failed(attempt, answer, now)
            return
        try:
            snapshot, event_time = self._read(answer.body)
        except (*UNREADABLE, ValueError) as error:
            turn.steps.append(Reject("unreadable snapshot", str(error), answer.body[:SAMPLE_BYTES]))
            self.auditor.failed(attempt, None, now)
            return
        if self.book is not None:
            fresh = OrderBook(
                snapshot.bids, snapshot.asks, snapshot.seqId, event_time, limit=DEEPEST
            )
            self._conclude(self.auditor.answered(attempt, fresh, self.book, now), now, turn)

    def tick(self, now: Moment, turn: Turn) -> None:
        """Fetch a snapshot when none came, and publish one when it is due."""
        if self.fetch_at is not None and now.monotonic >= self.fetch_at:
            self.ask(turn)
        if self.book is None or self.behind:
            return
        if now.monotonic - self.in_step_since > STEADY_AFTER:
            self.failures = 0
        if self.snapshot_due is not None and now.monotonic >= self.snapshot_due:
            self.snapshot_due = now.monotonic + round(self.options.snapshot_interval * SECOND)
            if self.book.last_id != self.snapshot_id:
                self.restate(0, now, turn)

    def ask(self, turn: Turn) -> None:
        """Fetch a snapshot over REST."""
        self.fetch_at = self.resubscribe_at = None
        self.attempt += 1
        tag = Tag(self.state.instrument.native_id, self.attempt)
        known = self.state.cursor.received is not None
        priority = Priority.RESYNC if known else Priority.FIRST_SNAPSHOT
        turn.steps.append(Fetch(self.url, tag, BOOKS_WEIGHT, priority))

    def restate(self, heals: int, now: Moment, turn: Turn, *, lost: bool = False) -> None:
        """Publish the book as it is now; nothing while out of step, nor what is published, unless
        that was `lost` since.
        """
        if (book := self.book) is None or self.behind:
            return
        if not heals and not lost and book.last_id == self.state.cursor.snapshot_id:
            return
        bids, asks = book.top(self.options.depth)
        instrument = self.state.instrument
        turn.records.append(
            OrderBookRecord(
                instrument,
                book.event_time,
                now.wall,
                update_type="snapshot",
                bids=published(instrument, bids),
                asks=published(instrument, asks),
                first_update_id=None,
                last_update_id=book.last_id,
                heals=heals,
            )
        )
        self.snapshot_id = book.last_id
        if not heals:
            self.state.cursor.snapshot_id = book.last_id
        self.state.records += 1

    def holding(self) -> Holding:
        """How much is kept; of the updates that wait, the last stands for all."""
        levels = 0 if self.book is None else len(self.book.bids) + len(self.book.asks)
        held = Holding(int(self.book is not None), levels)
        if not (updates := self.backlog.updates):
            return held
        width = len(updates[-1].bids) + len(updates[-1].asks)
        return held._replace(updates=len(updates), heard_levels=len(updates) * width)

    def forgo(self, now: Moment) -> None:
        """Drop what waits for a snapshot, and the answer that would have joined it. One on the
        wire is still welcome: it needs nothing of what came before.
        """
        if self.backlog.updates and self.state.phase is not Phase.PARKED:
            self.attempt += 1
            self.state.detail = "waits for memory"
            if self.resubscribe_at is None:
                self.fetch_at = now.monotonic + FORGONE
        self.backlog = Backlog()

    def _replace(self, snapshot: Book, event_time: int | None, now: Moment, turn: Turn) -> None:
        """A snapshot on the wire, asked for or not: it is the book."""
        self.auditor.interrupt()
        heard = self.backlog.updates
        self.book = OrderBook(snapshot.bids, snapshot.asks, snapshot.seqId, event_time)
        self.joining = False
        if self._agrees(snapshot, self.book, now):
            self.settle(heard, now, turn)

    def _fetched(self, answer: Fetched, now: Moment, turn: Turn) -> None:
        try:
            snapshot, event_time = self._read(answer.body)
        except (*UNREADABLE, ValueError) as error:
            turn.steps.append(Reject("unreadable snapshot", str(error), answer.body[:SAMPLE_BYTES]))
            self._later(now, f"its snapshot cannot be read: {error}")
            return
        heard = self.backlog.updates
        if not heard and (self.acknowledged_at is None or answer.asked < self.acknowledged_at):
            # Silence proves nothing of what came before the subscription stood.
            self._later(now, "its snapshot was asked for before the subscription stood")
            return
        if not self.backlog.reaches(snapshot.seqId, event_time):
            self._later(now, "its snapshot is older than the stream")
            return
        ahead = self.state.cursor.clock.is_ahead(event_time, now)
        time = None if ahead else event_time
        book = OrderBook(snapshot.bids, snapshot.asks, snapshot.seqId, time)
        beyond = self.backlog.beyond(snapshot.seqId)
        for update in beyond:
            update.applied(book)
        self.book = book
        self.joining = not beyond
        self.settle(heard, now, turn)

    def _not_known(self, now: Moment, turn: Turn) -> None:
        """It may be about to be listed, or the host may be wrong: it is asked again, slowly."""
        why = f"{UNKNOWN_INSTRUMENT}: the exchange does not know this instrument"
        if self.backlog.updates:
            self._later(now, why)
            return
        self.attempt += 1
        self.failures += 1
        park(self.state, why, turn)
        self.fetch_at = now.monotonic + pause_of(self.url, self.refused_retry, self.unknown)
        self.unknown += 1

    def _read(self, body: bytes) -> tuple[Book, int]:
        """A fetched snapshot, and its time. Raises ValueError, and what decoding raises."""
        data = read_data(body)
        if len(data) != 1:
            raise ValueError(f"{len(data)} books, where one was asked for")
        snapshot = read_book(data[0])
        snapshot.bids, snapshot.asks = decimals.levels(snapshot.bids, snapshot.asks)
        published(self.state.instrument, [*snapshot.bids, *snapshot.asks])
        return snapshot, nanoseconds(snapshot.ts)

    def settle(
        self, heard: Sequence[Heard], now: Moment, turn: Turn, *, seamless: bool = False
    ) -> None:
        """There is a book: join it to what was published last, or tell that it does not. Where
        it is `seamless`, sight of the book was never lost though its numbers do not join.
        """
        cursor, state, book = self.state.cursor, self.state, self.book
        assert book is not None
        self.backlog = Backlog()
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
        heals = 0
        if known is not None and tail is not None:
            # Nothing is missing after all: what the snapshot holds is published as it came.
            cursor.gap = None
            for update in tail:
                told = cursor.told
                written = update if told is None else update.applied(told)
                self._publish(written, now, turn)
        elif known is not None and not seamless:
            cursor.lose("sequence", f"the book at {book.last_id} does not continue {known}")
            bounds = (known + 1, book.last_id) if book.last_id > known else None
            gap = cursor.close(state.instrument, state.data_type, now.wall, self.connection, bounds)
            if gap is not None:
                turn.records.append(gap)
                heals = gap.started_at
        if not heals and (told := cursor.told) is not None:
            book.write_as(told)
        cursor.book = book
        state.phase, state.detail = Phase.LIVE, None
        self.auditor.proved(book.last_id, now.wall, now)
        self.in_step_since = now.monotonic
        self._accepted(book.last_id, book.event_time, now.wall, now)
        self.restate(heals, now, turn)
        interval = self.options.snapshot_interval
        self.snapshot_due = now.monotonic + round(interval * SECOND) if interval else None

    def _follows(self, heard: Heard, book: OrderBook) -> bool:
        if heard.previous == book.last_id:
            return heard.sequence != heard.previous
        return self.joining and heard.previous <= book.last_id < heard.sequence

    def _strays(self, heard: Heard, book: OrderBook) -> bool:
        """Whether an update of a time to come is left aside, as it does not follow. Another that
        follows it shows that it was one.
        """
        if self._follows(heard, book) or heard.sequence <= book.last_id:
            return False
        doubted, self.doubted = self.doubted, heard.sequence
        return heard.previous != doubted

    def _passed(self, heard: Heard, book: OrderBook) -> bool:
        """In the book already. An older number at a later time is a doubt, not a repetition."""
        latest = (book.event_time or 0) + (CLOCKS_APART if self.joining else 0)
        return heard.sequence <= book.last_id and (heard.ahead or heard.event_time <= latest)

    def _kept_alive(self, heard: Heard, book: OrderBook, now: Moment, turn: Turn) -> None:
        """Nothing changed for a minute: it proves that the stream lives, and where it stands."""
        if heard.sequence == book.last_id or (self.joining and heard.sequence < book.last_id):
            self.state.last_record = now.monotonic
            if self.behind:
                book.event_time = heard.time_after(book.event_time)
                self.settle([], now, turn)
        elif self._passed(heard, book):
            self.state.duplicates += 1
        else:
            self._out_of_step("an update was missed", now)

    def _apply(self, heard: Heard, book: OrderBook, now: Moment, turn: Turn) -> None:
        followed = book.last_id
        native = heard.native
        self.doubted, heard = None, heard.applied(book)
        self.joining = False
        if not self._agrees(native, book, now):
            return
        if self.behind:
            self.settle([heard], now, turn)
            return
        self._publish(heard, now, turn)
        if self.auditor.trail is None:
            return
        if heard.sequence < followed:
            self.auditor.interrupt()
        else:
            change = Change(heard.sequence, native.bids, native.asks, heard.event_time, now)
            self._conclude(self.auditor.took(change, book), now, turn)

    def _conclude(self, verdict: Verdict | None, now: Moment, turn: Turn) -> None:
        if verdict is None or self.book is None:
            return
        heals = self.auditor.conclude(verdict, self.connection, now, turn)
        if heals:
            verdict.fresh.write_as(self.book)
            self.book = self.state.cursor.book = verdict.fresh
            self.book.bids_end = self.book.asks_end = None
            self._accepted(self.book.last_id, self.book.event_time, now.wall, now)
            self.restate(heals, now, turn)

    def _agrees(self, said: Book, book: OrderBook, now: Moment) -> bool:
        """Whether the checksum, where there is one, is that of the book."""
        if said.checksum == 0 or said.checksum == checksum(book):
            return True
        self._out_of_step("its checksum does not agree", now)
        return False

    def _publish(self, heard: Heard, now: Moment, turn: Turn) -> None:
        if self.options.mode == "updates":
            self.state.records += 1
            turn.records.append(
                OrderBookRecord(
                    self.state.instrument,
                    heard.event_time,
                    heard.wall,
                    update_type="update",
                    bids=heard.bids,
                    asks=heard.asks,
                    first_update_id=None,
                    last_update_id=heard.sequence,
                    prev_update_id=self.state.cursor.last_id,
                )
            )
        self.state.cursor.ahead.count += heard.ahead
        self._accepted(heard.sequence, heard.time_after(None), heard.wall, now)

    def _forget(self, why: str) -> None:
        self.book = self.doubted = None
        self.auditor.interrupt()
        self.backlog = Backlog()
        self.attempt += 1
        self.fetch_at = self.resubscribe_at = None
        self.state.phase, self.state.detail = Phase.ACKNOWLEDGED, why

    def _out_of_step(self, why: str, now: Moment) -> None:
        self.state.cursor.lose("sequence", why)
        self.state.resyncs += 1
        self._forget(f"resynchronising: {why}")
        wait = min(FIRST_RETRY << min(self.failures, 10), LONGEST_RETRY) if self.failures else 0
        self.failures += 1
        self.resubscribe_at = now.monotonic + wait

    def _later(self, now: Moment, why: str, least: float | None = None) -> None:
        wait = min(FIRST_RETRY << min(self.failures, 10), LONGEST_RETRY)
        self.failures += 1
        self.attempt += 1
        self.fetch_at = now.monotonic + max(wait, round((least or 0.0) * SECOND))
        self.state.detail = why

    def _accepted(self, last_id: int, event_time: int | None, wall: int, now: Moment) -> None:
        """The exchange said so much, at `wall`. What we tell again is no sign of its life."""
        state, cursor = self.state, self.state.cursor
        cursor.last_id = last_id
        cursor.event_time = event_time or cursor.event_time
        cursor.received = max(wall, cursor.received or 0)
        state.last_record = now.monotonic
