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

from marketprism.feeds import decimals
from marketprism.feeds.binance.market import Rule, Source
from marketprism.feeds.binance.messages import (
    DepthSnapshot,
    DepthUpdate,
    read_failure,
    read_snapshot,
)
from marketprism.feeds.venue import (
    Fetch,
    Fetched,
    FetchFailed,
    Holding,
    Moment,
    Park,
    Phase,
    Priority,
    Reject,
    Send,
    StreamState,
    Turn,
)
from marketprism.orderbook import OrderBook
from marketprism.records import OrderBookRecord
from marketprism.settings import OrderbookOptions

SECOND = 1_000_000_000
MAX_BUFFERED = 3_000
"""Updates that wait for a snapshot: five minutes of a book at its full pace."""
FIRST_RETRY, LONGEST_RETRY = SECOND // 2, 30 * SECOND
FORGONE = 5 * SECOND
"""From dropping what waited for a snapshot to asking for one anew."""
OVERTAKEN = 10 * SECOND
"""So much later than the book, an update is no latecomer."""
RENUMBERED_AFTER = 3
"""So many snapshots in a row behind what was published: the exchange counts anew."""
INVALID_SYMBOL = -1121


class Tag(NamedTuple):
    """Which answer this is."""

    native_id: str
    attempt: int


class _Heard(NamedTuple):
    update: DepthUpdate
    wall: int


def _event_time(update: DepthUpdate) -> int:
    return (update.E if update.T is None else update.T) * 1_000_000


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
    book: OrderBook | None = None
    """None while out of step."""
    chained: bool = False
    """An update is the last thing in the book: the next must continue that one."""
    buffer: list[_Heard] = attrs.field(factory=list)
    attempt: int = 0
    """Which answer is awaited; earlier ones are not wanted any more."""
    failures: int = 0
    behind: int = 0
    retry_at: int | None = None
    acknowledged_at: int | None = None
    """Monotonic: when the exchange confirmed the subscription."""
    snapshot_due: int | None = None
    snapshot_id: int | None = None

    def open(self, subscribe: Send, settle: float) -> Fetch:
        """Steps 1 to 3 for a new subscription: said when the budget grants its snapshot."""
        return self._ask(Priority.FIRST_SNAPSHOT, before=subscribe, settle=settle)

    def hear(self, update: DepthUpdate, now: Moment, turn: Turn) -> None:
        """An event of the stream: buffered while out of step, else applied and published."""
        decimals.pairs(update.b, update.a)
        if update.u < update.U:
            raise decimals.NotANumber(f"first id {update.U} above last id {update.u}")
        if (book := self.book) is None:
            self._buffer(update, now, turn)
        elif update.u <= book.last_id and not self._contradicts(update, book):
            self.state.duplicates += 1
        elif update.u > book.last_id and self._continues_book(update, book):
            self._apply(_Heard(update, now.wall), now, turn)
        else:
            self.state.cursor.lose("sequence")
            self.restart()
            self.buffer = [_Heard(update, now.wall)]
            turn.steps.append(self._ask(Priority.RESYNC))

    def restart(self) -> None:
        """Out of step: forget the book and whatever is under way."""
        self.book = None
        self.buffer = []
        self.attempt += 1
        self.failures = self.behind = 0
        self.retry_at = None
        self.state.resyncs += 1
        self.state.phase = Phase.ACKNOWLEDGED
        self.state.detail = "resynchronising"

    def answered(
        self, attempt: int, answer: Fetched | FetchFailed, now: Moment, turn: Turn
    ) -> None:
        """Step 3's answer: a book, or a reason to ask again later."""
        if attempt != self.attempt or self.book is not None or self.state.phase is Phase.PARKED:
            return
        if isinstance(answer, FetchFailed):
            self._failed(answer, now, turn)
            return
        try:
            snapshot = read_snapshot(answer.body)
            decimals.pairs(snapshot.bids, snapshot.asks)
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError, RecursionError) as error:
            turn.steps.append(Reject("unreadable snapshot", str(error), answer.body[:200]))
            self._later(now, f"its snapshot cannot be read: {error}")
            return
        if (why := self._too_old(snapshot, answer)) is not None:
            self._later(now, why)
        else:
            self._join(snapshot, now, turn)

    def tick(self, now: Moment, turn: Turn) -> None:
        """Ask again when it is time, and publish a snapshot when one is due."""
        if self.retry_at is not None and now.monotonic >= self.retry_at:
            self.retry_at = None
            known = self.state.cursor.received is not None
            turn.steps.append(self._ask(Priority.RESYNC if known else Priority.FIRST_SNAPSHOT))
        if (
            self.book is not None
            and self.snapshot_due is not None
            and now.monotonic >= self.snapshot_due
        ):
            self.snapshot_due = now.monotonic + round(self.options.snapshot_interval * SECOND)
            if self.book.last_id != self.snapshot_id:
                self.restate(0, now, turn)

    def restate(self, heals: int, now: Moment, turn: Turn) -> None:
        """Publish the book as it is now; nothing while out of step."""
        if (book := self.book) is None:
            return
        bids, asks = book.top(self.options.depth)
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
        self.state.records += 1
        self._accepted(book.last_id, book.event_time, now.wall, now)

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
        if answer.status == 400 and failure is not None and failure.code == INVALID_SYMBOL:
            self.state.phase = Phase.PARKED
            self.state.detail = "the exchange does not know this symbol"
            stream = (self.state.data_type, self.state.instrument.native_id)
            turn.steps.append(Park(stream, self.state.detail))
            return
        said = "no answer" if answer.status is None else f"status {answer.status}"
        self._later(now, f"no snapshot: {said}")
        if answer.retry_after is not None and self.retry_at is not None:
            self.retry_at = max(self.retry_at, now.monotonic + round(answer.retry_after * SECOND))

    def _buffer(self, update: DepthUpdate, now: Moment, turn: Turn) -> None:
        buffer = self.buffer
        if buffer and update.u <= buffer[-1].update.u:
            self.state.duplicates += 1
            return
        if buffer and not self.continues(update, buffer[-1].update.u):
            # What went before can only join a snapshot that is newer than all of it.
            buffer.clear()
        if len(buffer) >= MAX_BUFFERED:
            self.restart()
            buffer = self.buffer
            turn.steps.append(self._ask(Priority.RESYNC))
        buffer.append(_Heard(update, now.wall))

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
        self.behind += 1
        if self.behind < RENUMBERED_AFTER:
            return "its snapshot is older than what was published"
        return None

    def _continues_book(self, update: DepthUpdate, book: OrderBook) -> bool:
        rule = self.continues if self.chained else self.joins
        return rule(update, book.last_id)

    def _contradicts(self, update: DepthUpdate, book: OrderBook) -> bool:
        """An older id at a much later time: one of the two ids is wrong, so the book is in doubt.

        Updates that a snapshot overtook are merely late.
        """
        return (
            self.chained
            and book.event_time is not None
            and _event_time(update) > book.event_time + OVERTAKEN
        )

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
        known, event_time = cursor.last_id, snapshot.T
        within, beyond = self._split(snapshot.lastUpdateId)
        self.book = book = OrderBook(
            snapshot.bids,
            snapshot.asks,
            snapshot.lastUpdateId,
            None if event_time is None else event_time * 1_000_000,
        )
        self.chained = False
        if beyond and snapshot.lastUpdateId >= beyond[0].update.U:
            # The snapshot lies inside this update: what is published ends where the update does.
            self._take(beyond[0].update)
            within.append(beyond.pop(0))
        heals = 0
        if known is not None and self._unbroken(known, snapshot.lastUpdateId):
            # Nothing is missing after all: what the snapshot holds is published as it came.
            cursor.gap = None
            for heard in within:
                if heard.update.u > known:
                    self._publish(heard, now, turn)
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
                state.gaps += 1
                turn.records.append(gap)
                heals = gap.started_at
        self.buffer = []
        self.failures = self.behind = 0
        state.phase, state.detail = Phase.LIVE, None
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
        self._take(heard.update)
        self._publish(heard, now, turn)

    def _take(self, update: DepthUpdate) -> None:
        assert self.book is not None
        self.book.apply(update.b, update.a, update.u, _event_time(update))
        self.chained = True

    def _publish(self, heard: _Heard, now: Moment, turn: Turn) -> None:
        update, wall = heard
        event_time = _event_time(update)
        if self.options.mode == "updates":
            self.state.records += 1
            turn.records.append(
                OrderBookRecord(
                    self.state.instrument,
                    event_time,
                    wall,
                    update_type="update",
                    bids=update.b,
                    asks=update.a,
                    first_update_id=update.U,
                    last_update_id=update.u,
                    # What was published last; the exchange's own `pu` where that was an update.
                    prev_update_id=None if update.pu is None else self.state.cursor.last_id,
                )
            )
        self._accepted(update.u, event_time, wall, now)

    def _accepted(self, last_id: int, event_time: int | None, wall: int, now: Moment) -> None:
        state, cursor = self.state, self.state.cursor
        cursor.last_id = last_id
        cursor.event_time = event_time or cursor.event_time
        cursor.received = max(wall, cursor.received or 0)
        state.last_record = now.monotonic
