"""How a book is kept in step with Binance's depth stream.

The source is the exchange's page "How to manage a local order book correctly"; its steps are
methods here:

1. open the stream, 2. buffer its events, noting the first one's `U` — `hear`;
3. get a depth snapshot, 4. again while its `lastUpdateId` is older than the first event —
   `_ask`, `answered`, `_too_old`;
5. drop the buffered events that are in it already — `_split`;
6. the snapshot is the book — `_join`; 7. apply what is left, and all that comes — `_apply`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import attrs
import msgspec

from marketprism.clock import MILLISECOND, SECOND, Moment
from marketprism.feeds import decimals
from marketprism.feeds.audit import Auditor
from marketprism.feeds.binance.market import Rule, Source
from marketprism.feeds.binance.messages import (
    DepthSnapshot,
    DepthUpdate,
    Failure,
    read_failure,
    read_snapshot,
)
from marketprism.feeds.comparison import Change, Verdict
from marketprism.feeds.venue import (
    REFUSED_RETRY,
    SAMPLE_BYTES,
    Fetch,
    Fetched,
    FetchFailed,
    Holding,
    Park,
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

MAX_BUFFERED = 3_000
"""Updates that wait for a snapshot: five minutes of a book at its full pace."""
FIRST_RETRY, LONGEST_RETRY = SECOND // 2, 30 * SECOND
FORGONE = 5 * SECOND
"""From dropping what waited for a snapshot to asking for one anew."""
OVERTAKEN = 10 * SECOND
"""So much later than the book, an update is no latecomer."""
RENUMBERED_AFTER = 3
"""So many snapshots behind what was published, and the stream with them: the exchange counts anew.
"""
UNKNOWN_SYMBOL = frozenset({-1121, -4108})
"""Codes of what the exchange does not know, or does not trade (any more, or yet)."""
UNKNOWN_FIRST = 30 * SECOND
"""From the first such answer to the next request."""
Sides = tuple[Sequence[Level], Sequence[Level]]
"""Bids and asks."""


class _Heard(NamedTuple):
    update: DepthUpdate
    wall: int
    ahead: bool
    """Its time is one to come."""


def _read(body: bytes) -> DepthSnapshot | Reject:
    try:
        snapshot = read_snapshot(body)
        snapshot.bids, snapshot.asks = decimals.pairs(snapshot.bids, snapshot.asks)
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError, RecursionError) as error:
        return Reject("unreadable snapshot", str(error), body[:SAMPLE_BYTES])
    return snapshot


def _event_time(update: DepthUpdate) -> int:
    told_at = update.E if update.T is None else update.T
    if told_at is None:
        raise decimals.NotANumber("it has no time")
    return told_at * MILLISECOND


def _applied(heard: _Heard, book: OrderBook | None) -> Sides:
    """Its levels as they are to be published: written as in the book, which takes them."""
    update = heard.update
    if book is None:
        return update.b, update.a
    event_time = book.event_time if heard.ahead else _event_time(update)
    return book.apply(update.b, update.a, update.u, event_time)


@attrs.define(eq=False)
class BookStream:
    """One book of one connection."""

    state: StreamState
    source: Source
    options: OrderbookOptions
    connection: str
    joins: Rule
    """The market's rule for a snapshot, and for what a former connection published."""
    continues: Rule
    """Its rule for the update before."""
    countable: bool
    """The market numbers every change, so that two ids say how many lie between."""
    refused_retry: float = REFUSED_RETRY
    """Seconds between two requests for a book that the exchange does not know."""
    auditor: Auditor = attrs.field(init=False)
    book: OrderBook | None = None
    """None while out of step."""
    chained: bool = False
    """An update is the last thing in the book: the next must continue that one."""
    untimed: bool = False
    """That update's time could not be: its ids are as doubtful."""
    doubted: _Heard | None = None
    """An update of a time to come that continues nothing. It is one if another continues it."""
    buffer: list[_Heard] = attrs.field(factory=list)
    attempt: int = 0
    """Which answer is awaited; earlier ones are not wanted any more."""
    failures: int = 0
    unknown: int = 0
    """So many times in a row the exchange did not know its symbol."""
    behind: int = 0
    retry_at: int | None = None
    acknowledged_at: int | None = None
    """Monotonic: when the exchange confirmed the subscription."""
    snapshot_due: int | None = None
    snapshot_id: int | None = None
    shown: Ends = (None, None)
    """The worst prices of the snapshot that was published last."""

    def __attrs_post_init__(self) -> None:
        source, interval = self.source, self.options.audit_interval
        self.auditor = Auditor(self.state, source.url, source.weight, interval, window=None)

    @property
    def in_step(self) -> bool:
        """There is a book, and it is published."""
        return self.book is not None

    def open(self, subscribe: Send, settle: float) -> Fetch:
        """Steps 1 to 3 for a new subscription: said when the budget grants its snapshot."""
        return self._ask(Priority.FIRST_SNAPSHOT, before=subscribe, settle=settle)

    def hear(self, update: DepthUpdate, now: Moment, turn: Turn) -> None:
        """An event of the stream: buffered while out of step, else applied and published."""
        update.b, update.a = decimals.pairs(update.b, update.a)
        _event_time(update)
        if update.u < update.U:
            raise decimals.NotANumber(f"first id {update.U} above last id {update.u}")
        if self.unknown:
            # What speaks is known.
            self.unknown = 0
            self.state.phase, self.state.detail = Phase.ACKNOWLEDGED, None
            turn.steps.append(self.begin())
        heard = _Heard(update, now.wall, self._is_ahead(_event_time(update), now))
        if heard.ahead and self._doubts(heard):
            return
        before, self.doubted = self._before(update), None
        if (book := self.book) is None:
            self._buffer(heard, before)
        elif update.u <= book.last_id and not self._contradicts(heard, book):
            self.state.duplicates += 1
        elif update.u > book.last_id and self._continues_book(update, book):
            self._apply(heard, now, turn)
        else:
            why = f"the update {update.U}–{update.u} does not follow {book.last_id}"
            self.state.cursor.lose("sequence", why)
            self.restart()
            self.buffer = [*before, heard]
            turn.steps.append(self._ask(Priority.RESYNC))

    def succeed(self, elder: "BookStream") -> None:
        """Go on with the book of a connection that is to end: what comes next continues it, or
        shows that something is missing.
        """
        self.book, self.chained, self.untimed = elder.book, False, elder.untimed
        self.snapshot_due, self.snapshot_id = elder.snapshot_due, elder.snapshot_id
        self.shown = elder.shown
        self.auditor.succeed(elder.auditor)
        self.state.phase, self.state.detail, self.state.waits = Phase.LIVE, None, False

    def begin(self) -> Fetch:
        """Steps 2 and 3 where the subscription was said already."""
        known = self.state.cursor.received is not None
        return self._ask(Priority.RESYNC if known else Priority.FIRST_SNAPSHOT)

    def restart(self) -> None:
        """Out of step: forget the book and whatever is under way."""
        self.book = self.doubted = None
        self.auditor.interrupt()
        self.buffer = []
        self.attempt += 1
        self.failures = self.behind = self.unknown = 0
        self.retry_at = None
        self.state.resyncs += 1
        self.state.phase = Phase.ACKNOWLEDGED
        self.state.detail = "resynchronising"

    def answered(
        self, attempt: int, answer: Fetched | FetchFailed, now: Moment, turn: Turn
    ) -> None:
        """Step 3's answer: a book, or a reason to ask again later."""
        refused = self.state.phase is Phase.PARKED and not self.unknown
        if attempt != self.attempt or self.book is not None or refused:
            return
        if isinstance(answer, FetchFailed):
            self._failed(answer, now, turn)
            return
        snapshot = _read(answer.body)
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
        snapshot = _read(answer.body)
        if isinstance(snapshot, Reject):
            turn.steps.append(snapshot)
            self.auditor.failed(attempt, None, now)
        elif self.book is not None:
            verdict = self.auditor.answered(attempt, self._made(snapshot, now), self.book, now)
            self._conclude(verdict, now, turn)

    def tick(self, now: Moment, turn: Turn) -> None:
        """Ask again when it is time, and publish a snapshot when one is due."""
        if self.retry_at is not None and now.monotonic >= self.retry_at:
            self.retry_at = None
            turn.steps.append(self.begin())
        if (
            self.book is not None
            and self.snapshot_due is not None
            and now.monotonic >= self.snapshot_due
        ):
            interval, news = self.options.snapshot_interval, self.book.last_id != self.snapshot_id
            if interval or news:
                self.snapshot_due = now.monotonic + round(interval * SECOND) if interval else None
            if news:
                self.restate(0, now, turn)

    def restate(self, heals: int, now: Moment, turn: Turn, *, lost: bool = False) -> None:
        """Publish the book as it is now; nothing while out of step, nor what is published (unless
        that was `lost` since), nor where the market has left what is known of it.
        """
        if (book := self.book) is None:
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
                bids=bids,
                asks=asks,
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

    def holding(self) -> Holding:
        """How much is kept; of the updates that wait, the last stands for all."""
        if (book := self.book) is not None:
            return Holding(1, len(book.bids) + len(book.asks))
        if not (waiting := len(self.buffer)):
            return Holding()
        last = self.buffer[-1].update
        return Holding(0, 0, waiting, waiting * (len(last.b) + len(last.a)))

    def forgo(self, now: Moment) -> None:
        """Drop what waits for a snapshot, and the answer that would have joined it."""
        if self.buffer and self.state.phase is not Phase.PARKED:
            self.attempt += 1
            self.retry_at = now.monotonic + FORGONE
            self.state.detail = "waits for memory"
        self.buffer = []

    def _ask(self, priority: Priority, before: Send | None = None, settle: float = 0.0) -> Fetch:
        self.attempt += 1
        self.state.waits = True
        tag = Tag(self.state.instrument.native_id, self.attempt)
        return Fetch(self.source.url, tag, self.source.weight, priority, before, settle)

    def _later(self, now: Moment, why: str) -> None:
        wait = min(FIRST_RETRY << min(self.failures, 10), LONGEST_RETRY)
        self.failures += 1
        self.attempt += 1
        self.retry_at = now.monotonic + wait
        self.state.detail = why

    def _failed(self, answer: FetchFailed, now: Moment, turn: Turn) -> None:
        try:
            failure = read_failure(answer.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            failure = None
        if failure is not None and failure.code in UNKNOWN_SYMBOL:
            self._not_known(failure, now, turn)
            return
        said = "no answer" if answer.status is None else f"status {answer.status}"
        self._later(now, f"no snapshot: {said}")
        if answer.retry_after is not None and self.retry_at is not None:
            self.retry_at = max(self.retry_at, now.monotonic + round(answer.retry_after * SECOND))

    def _not_known(self, failure: Failure, now: Moment, turn: Turn) -> None:
        """It may be listed, or trade again: it is asked for again, and heard if it speaks."""
        why = f"the exchange does not know this symbol ({failure.code})"
        if not self.unknown:
            stream = (self.state.data_type, self.state.instrument.native_id)
            turn.steps.append(Park(stream, why))
        patience = round(self.refused_retry * SECOND)
        self.attempt += 1
        self.retry_at = now.monotonic + (patience if self.unknown else min(UNKNOWN_FIRST, patience))
        self.unknown += 1
        self.state.phase, self.state.detail = Phase.PARKED, why

    def _doubts(self, heard: _Heard) -> bool:
        """Whether an update of a time to come is left aside, since it does not follow. Were its ids
        believed, all that comes after it would count as past.
        """
        update, last_id, rule = heard.update, None, self.continues
        if self.book is not None:
            last_id, rule = self.book.last_id, self.continues if self.chained else self.joins
        elif self.buffer:
            last_id = self.buffer[-1].update.u
        if last_id is not None and (update.u <= last_id or rule(update, last_id)):
            return False
        if self._before(update):
            return False
        self.doubted = heard
        self.state.cursor.ahead.count += 1
        return True

    def _before(self, update: DepthUpdate) -> list[_Heard]:
        """What is in doubt, where this update names it as the one that it continues."""
        if (doubted := self.doubted) is None:
            return []
        named = update.U - 1 if update.pu is None else update.pu
        return [doubted] if named == doubted.update.u else []

    def _is_ahead(self, event_time: int, now: Moment) -> bool:
        return self.state.cursor.clock.is_ahead(event_time, now)

    def _buffer(self, heard: _Heard, before: Sequence[_Heard]) -> None:
        buffer, update = self.buffer, heard.update
        if buffer and update.u <= buffer[-1].update.u:
            self.state.duplicates += 1
            return
        if not buffer or not self.continues(update, buffer[-1].update.u):
            # What went before can only join a snapshot that is newer than all of it.
            buffer[:] = before
        if len(buffer) >= MAX_BUFFERED:
            # The snapshot that is awaited will be newer, or is asked for again.
            self.state.resyncs += 1
            buffer.clear()
        buffer.append(heard)

    def _too_old(self, snapshot: DepthSnapshot, answer: Fetched) -> str | None:
        """Step 4: why this snapshot cannot be joined, or None when it can."""
        if not self.buffer:
            # Silence proves nothing of what came before the subscription stood.
            if self.acknowledged_at is None or answer.asked < self.acknowledged_at:
                return "its snapshot was asked for before the subscription stood"
        elif not self._chains(snapshot.lastUpdateId):
            return "its snapshot is older than the stream"
        last_id = self.state.cursor.last_id
        if last_id is None or snapshot.lastUpdateId >= last_id:
            return None
        # A host may answer with an old book for long: that numbers begin anew the stream must show.
        self.behind += bool(self.buffer)
        if self.behind < RENUMBERED_AFTER:
            return "its snapshot is older than what was published"
        return None

    def _continues_book(self, update: DepthUpdate, book: OrderBook) -> bool:
        rule = self.continues if self.chained else self.joins
        return rule(update, book.last_id)

    def _contradicts(self, heard: _Heard, book: OrderBook) -> bool:
        """An older id at a much later time: one of the two ids is wrong, so the book is in doubt.

        Updates that a snapshot overtook are merely late.
        """
        if not (self.chained or self.untimed) or book.event_time is None or heard.ahead:
            return False
        patience = 0 if self.untimed else OVERTAKEN
        return _event_time(heard.update) > book.event_time + patience

    def _chains(self, last_id: int) -> bool:
        """Whether the buffer, chained in itself, continues a snapshot at `last_id`."""
        kept = [heard.update for heard in self.buffer if heard.update.u > last_id]
        return not kept or self.joins(kept[0], last_id)

    def _split(self, last_id: int) -> tuple[list[_Heard], list[_Heard]]:
        """Step 5: the buffered events that are in the snapshot, and those past it."""
        within = [heard for heard in self.buffer if heard.update.u <= last_id]
        return within, self.buffer[len(within) :]

    def _join(self, snapshot: DepthSnapshot, now: Moment, turn: Turn) -> None:
        cursor, state = self.state.cursor, self.state
        known = cursor.last_id
        within, beyond = self._split(snapshot.lastUpdateId)
        self.book = book = self._made(snapshot, now)
        self.chained = self.untimed = False
        if beyond and snapshot.lastUpdateId >= beyond[0].update.U:
            # The snapshot lies inside this update: what is published ends where the update does.
            self._take(beyond[0])
            within.append(beyond.pop(0))
        if book.exhausted:
            self.book = None
            self._later(now, "the market has left its snapshot")
            return
        heals = 0
        if known is not None and self._unbroken(known, snapshot.lastUpdateId):
            # Nothing is missing after all: what the snapshot holds is published as it came.
            cursor.gap = None
            for heard in within:
                if heard.update.u > known:
                    self._publish(heard, _applied(heard, cursor.told), now, turn)
        elif known is not None:
            renumbered = snapshot.lastUpdateId < known
            gap = cursor.close(
                state.instrument,
                state.data_type,
                now.wall,
                self.connection,
                None if renumbered else (known + 1, book.last_id),
                countable=self.countable,
            )
            if gap is not None:
                turn.records.append(gap)
                heals = gap.started_at
        if not heals and (told := cursor.told) is not None:
            book.write_as(told)
        cursor.book = book
        self.buffer = []
        self.failures = self.behind = self.unknown = 0
        state.phase, state.detail, state.waits = Phase.LIVE, None, False
        since = beyond[0].wall if beyond else now.wall
        self.auditor.proved(snapshot.lastUpdateId, since, now)
        self._accepted(book.last_id, book.event_time, now.wall, now)
        self.restate(heals, now, turn)
        interval = self.options.snapshot_interval
        self.snapshot_due = now.monotonic + round(interval * SECOND) if interval else None
        for heard in beyond:
            self._apply(heard, now, turn)

    def _unbroken(self, known: int, snapshot_id: int) -> bool:
        """Whether what was published last and the snapshot join without a missing id."""
        if snapshot_id < known:
            return False
        tail: Sequence[_Heard] = [heard for heard in self.buffer if heard.update.u > known]
        if snapshot_id == known:
            return not tail or self.joins(tail[0].update, known)
        return bool(tail) and self.joins(tail[0].update, known) and tail[-1].update.u >= snapshot_id

    def _apply(self, heard: _Heard, now: Moment, turn: Turn) -> None:
        """Step 7."""
        self._publish(heard, self._take(heard), now, turn)
        if self.auditor.trail is not None and self.book is not None:
            update = heard.update
            change = Change(update.u, update.b, update.a, _event_time(update), now)
            self._conclude(self.auditor.took(change, self.book), now, turn)

    def _made(self, snapshot: DepthSnapshot, now: Moment) -> OrderBook:
        event_time = None if snapshot.T is None else snapshot.T * MILLISECOND
        if event_time is not None and self._is_ahead(event_time, now):
            event_time = None
        last_id, limit = snapshot.lastUpdateId, self.source.limit
        return OrderBook(snapshot.bids, snapshot.asks, last_id, event_time, limit)

    def _conclude(self, verdict: Verdict | None, now: Moment, turn: Turn) -> None:
        """The fresh book is the book from now on: it reaches as far as a snapshot can."""
        if verdict is None or self.book is None:
            return
        before, self.book = self.book, verdict.fresh
        self.book.write_as(before, self.shown)
        self.state.cursor.book = self.book
        thin = self.auditor.hurried
        heals = self.auditor.conclude(verdict, self.connection, now, turn)
        if heals:
            self._accepted(self.book.last_id, self.book.event_time, now.wall, now)
            self.restate(heals, now, turn)
        elif thin:
            self.snapshot_due = now.monotonic

    def _take(self, heard: _Heard) -> Sides:
        assert self.book is not None
        self.untimed = heard.ahead
        self.chained = True
        return _applied(heard, self.book)

    def _publish(self, heard: _Heard, sides: Sides, now: Moment, turn: Turn) -> None:
        update, wall, ahead = heard
        event_time = _event_time(update)
        if self.options.mode == "updates":
            self.state.records += 1
            turn.records.append(
                OrderBookRecord(
                    self.state.instrument,
                    event_time,
                    wall,
                    update_type="update",
                    bids=sides[0],
                    asks=sides[1],
                    first_update_id=update.U,
                    last_update_id=update.u,
                    prev_update_id=self.state.cursor.last_id,
                )
            )
        self.state.cursor.ahead.count += ahead
        self._accepted(update.u, None if ahead else event_time, wall, now)

    def _accepted(self, last_id: int, event_time: int | None, wall: int, now: Moment) -> None:
        """The exchange said so much, at `wall`. What we tell again is no sign of its life."""
        state, cursor = self.state, self.state.cursor
        cursor.last_id = last_id
        cursor.event_time = event_time or cursor.event_time
        cursor.received = max(wall, cursor.received or 0)
        state.last_record = now.monotonic
