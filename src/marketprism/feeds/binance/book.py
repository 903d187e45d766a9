"""How a book is kept in step with Binance's depth stream.

The source is the exchange's page "How to manage a local order book correctly":
https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams#how-to-manage-a-local-order-book-correctly
https://developers.binance.com/docs/derivatives/usds-margined-futures/websocket-market-streams/How-to-manage-a-local-order-book-correctly
Its steps are methods here:

1. open the stream — `open`; 2. buffer its events, noting the first one's `U` — `on_event`,
   `Buffer.add`;
3. get a depth snapshot — `begin`, `answered`; 4. again while its `lastUpdateId` is older than the
   first event — `_too_old`, `Buffer.continues`;
5. drop the buffered events that are in it already — `Buffer.split`;
6. the snapshot is the book — `_join`; 7. apply what is left, and all that comes — `_apply`, as long
   as each continues the one before — `_continues_book`.
"""

import attrs

from marketprism import decimals
from marketprism.clock import MILLISECOND, SECOND, Timestamp
from marketprism.feeds.actions import Fetch, Fetched, FetchFailed, Output, Park, Priority, Send
from marketprism.feeds.binance.depth import Buffer, Heard, event_time
from marketprism.feeds.binance.market import DepthRule, Rule
from marketprism.feeds.binance.messages import UNREADABLE, DepthUpdate
from marketprism.feeds.binance.rest_messages import read_failure, read_snapshot
from marketprism.feeds.comparison import Change, Verdict
from marketprism.feeds.kept_book import FetchedBook, KeptBook
from marketprism.feeds.published_book import Sides
from marketprism.orderbook import OrderBook
from marketprism.streams.state import Phase

OVERTAKEN = 10 * SECOND
"""So much later than the book, an update is no latecomer."""
RENUMBERED_AFTER = 3
"""So many snapshots behind what was published, and the stream with them: the exchange counts anew.
"""
UNKNOWN_SYMBOL = frozenset({-1121, -4108})
"""Codes of what the exchange does not know, or does not trade (any more, or yet)."""
UNKNOWN_FIRST = 30 * SECOND
"""From the first such answer to the next request."""


@attrs.define(eq=False)
class BookStream(KeptBook):
    """One book of one connection."""

    rule: DepthRule = attrs.field(kw_only=True)
    chained: bool = False
    """An update is the last thing in the book: the next must continue that one."""
    untimed: bool = False
    """That update's time could not be: its ids are as doubtful."""
    doubted: Heard | None = None
    """An update of a time to come that continues nothing. It is one if another continues it."""
    buffer: Buffer = attrs.field(init=False)
    behind: int = 0
    """So many snapshots in a row were older than what was published."""

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        self.buffer = Buffer(self.state, self.rule)

    def open(self, subscribe: Send, after_send: float) -> Fetch:
        """Steps 1 to 3 for a new subscription: said when the budget grants its snapshot."""
        return self._fetch(Priority.FIRST_SNAPSHOT, subscribe, after_send)

    def on_event(self, update: DepthUpdate, now: Timestamp, output: Output) -> None:
        """An event of the stream: buffered while out of step, else applied and published."""
        update.b, update.a = decimals.pairs(update.b, update.a)
        told_at = event_time(update)
        if update.u < update.U:
            raise decimals.NotANumber(f"first id {update.U} above last id {update.u}")
        if self.unknown:
            # What speaks is known.
            self.unknown = 0
            self.state.phase, self.state.detail = Phase.ACKNOWLEDGED, None
            output.actions.append(self.begin())
        heard = Heard(update, now.wall, told_at, self._is_ahead(told_at, now))
        if heard.ahead and self._doubts(heard):
            return
        before, self.doubted = self._before(update), None
        if (book := self.book) is None:
            self.buffer.add(heard, before)
        elif update.u <= book.last_id and not self._contradicts(heard, book):
            self.state.duplicates += 1
        elif update.u > book.last_id and self._continues_book(update, book):
            self._apply(heard, book, now, output)
        else:
            why = f"the update {update.U}–{update.u} does not follow {book.last_id}"
            self.state.cursor.lose("sequence", why)
            self.restart()
            self.buffer.updates = [*before, heard]
            output.actions.append(self._fetch(Priority.RESYNC))

    def succeed(self, old: "BookStream") -> None:
        """Go on with the book of a connection that is to end: what comes next continues it, or
        shows that something is missing.
        """
        self.book, self.chained, self.untimed = old.book, False, old.untimed
        self.snapshot_due, self.snapshot_id = old.snapshot_due, old.snapshot_id
        self.shown = old.shown
        self.auditor.succeed(old.auditor)
        self.state.phase, self.state.detail, self.state.waits = Phase.LIVE, None, False

    def restart(self) -> None:
        """Out of step: what comes next begins anew."""
        self._forget("resynchronising")
        self.failures = self.behind = self.unknown = 0
        self.state.resyncs += 1

    @property
    def waiting(self) -> int:
        return len(self.buffer.updates)

    def _width(self) -> int:
        last = self.buffer.updates[-1].update
        return len(last.b) + len(last.a)

    def _drop(self) -> None:
        self.buffer.updates = []

    def _forget(self, why: str) -> None:
        super()._forget(why)
        self.doubted = None

    def _fetch(
        self, priority: Priority, before: Send | None = None, after_send: float = 0.0
    ) -> Fetch:
        # Without an answer it cannot speak.
        self.state.waits = True
        return super()._fetch(priority, before, after_send)

    def _read(self, body: bytes) -> FetchedBook:
        snapshot = read_snapshot(body)
        bids, asks = decimals.pairs(snapshot.bids, snapshot.asks)
        event_time = None if snapshot.T is None else snapshot.T * MILLISECOND
        return FetchedBook(bids, asks, snapshot.lastUpdateId, event_time)

    def _unlisted(self, answer: Fetched | FetchFailed) -> str | None:
        if isinstance(answer, Fetched):
            return None
        try:
            code = read_failure(answer.body).code
        except UNREADABLE:
            return None
        unknown = code in UNKNOWN_SYMBOL
        return f"the exchange does not know this symbol ({code})" if unknown else None

    def _not_known(self, why: str, now: Timestamp, output: Output) -> None:
        """It is heard if it speaks."""
        if not self.unknown:
            stream = (self.state.data_type, self.state.instrument.native_id)
            output.actions.append(Park(stream, why))
        patience = round(self.refused_retry * SECOND)
        self.attempt += 1
        self.fetch_at = now.monotonic + (patience if self.unknown else min(UNKNOWN_FIRST, patience))
        self.unknown += 1
        self.state.phase, self.state.detail = Phase.PARKED, why

    def _known(self) -> None:
        """Only what speaks is known."""

    def _doubts(self, heard: Heard) -> bool:
        """Whether an update of a time to come is left aside, since it does not follow. Were its ids
        believed, all that comes after it would count as past.
        """
        update, last_id, rule = heard.update, None, self.rule.continues
        if self.book is not None:
            last_id, rule = self.book.last_id, self._rule
        elif self.waiting:
            last_id = self.buffer.updates[-1].update.u
        if last_id is not None and (update.u <= last_id or rule(update, last_id)):
            return False
        if self._before(update):
            return False
        self.doubted = heard
        self.state.cursor.ahead.count += 1
        return True

    def _before(self, update: DepthUpdate) -> list[Heard]:
        """What is in doubt, where this update names it as the one that it continues."""
        if (doubted := self.doubted) is None:
            return []
        named = update.U - 1 if update.pu is None else update.pu
        return [doubted] if named == doubted.update.u else []

    def _too_old(self, snapshot: FetchedBook, answer: Fetched) -> str | None:
        """Step 4: why this snapshot cannot be joined, or None when it can."""
        if (why := super()._too_old(snapshot, answer)) is not None:
            return why
        last_id = self.state.cursor.last_id
        if last_id is None or snapshot.last_id >= last_id:
            return None
        # A host may answer with an old book for long: that numbers begin anew the stream must show.
        self.behind += bool(self.waiting)
        if self.behind < RENUMBERED_AFTER:
            return "its snapshot is older than what was published"
        return None

    def _reaches(self, snapshot: FetchedBook) -> bool:
        return self.buffer.continues(snapshot.last_id)

    @property
    def _rule(self) -> Rule:
        """What an update must fulfil that the book takes next."""
        return self.rule.continues if self.chained else self.rule.joins

    def _continues_book(self, update: DepthUpdate, book: OrderBook) -> bool:
        return self._rule(update, book.last_id)

    def _contradicts(self, heard: Heard, book: OrderBook) -> bool:
        """An older id at a much later time: one of the two ids is wrong, so the book is in doubt.

        Updates that a snapshot overtook are merely late.
        """
        if not (self.chained or self.untimed) or book.event_time is None or heard.ahead:
            return False
        patience = 0 if self.untimed else OVERTAKEN
        return heard.event_time > book.event_time + patience

    def _join(self, snapshot: FetchedBook, now: Timestamp, output: Output) -> None:
        """Step 6."""
        cursor = self.state.cursor
        known, snapshot_id = cursor.last_id, snapshot.last_id
        within, beyond = self.buffer.split(snapshot_id)
        self.book = book = self._made(snapshot, now, self.source.limit)
        self.chained = self.untimed = False
        if beyond and snapshot_id >= beyond[0].update.U:
            # The snapshot lies inside this update: what is published ends where the update does.
            self._take(beyond[0], book)
            within.append(beyond.pop(0))
        if book.exhausted:
            self.book = None
            self._later(now, "the market has left its snapshot")
            return
        heals_gap = 0
        joins = known is not None and self.buffer.bridges(known, snapshot_id)
        if known is not None and joins and not cursor.needs_snapshot:
            # Nothing is missing after all: what the snapshot holds is published as it came.
            cursor.gap = None
            for heard in within:
                if heard.update.u > known:
                    self._tell(heard, heard.applied(cursor.told), now, output)
        elif known is not None:
            missing = (known + 1, book.last_id) if book.last_id > known <= snapshot_id else None
            heals_gap = self._close_gap(missing, now, output, countable=self.rule.countable)
        self._drop()
        self.failures = self.behind = self.unknown = 0
        since = beyond[0].wall if beyond else now.wall
        self._show(book, heals_gap, (snapshot_id, since), now, output)
        for heard in beyond:
            self._apply(heard, book, now, output)

    def _apply(self, heard: Heard, book: OrderBook, now: Timestamp, output: Output) -> None:
        """Step 7."""
        self._tell(heard, self._take(heard, book), now, output)
        if self.auditor.trail is not None:
            update = heard.update
            change = Change(update.u, update.b, update.a, heard.event_time, now)
            self._conclude(self.auditor.took(change, book), now, output)

    def _take(self, heard: Heard, book: OrderBook) -> Sides:
        self.untimed = heard.ahead
        self.chained = True
        return heard.applied(book)

    def _tell(self, heard: Heard, sides: Sides, now: Timestamp, output: Output) -> None:
        self._publish(heard, (heard.update.U, heard.update.u), sides, now, output)

    def _conclude(self, verdict: Verdict | None, now: Timestamp, output: Output) -> None:
        """The fresh book is the book from now on: it reaches as far as a snapshot can."""
        if verdict is None or self.book is None:
            return
        before, self.book = self.book, verdict.fresh
        self.book.write_as(before, self.shown)
        self.state.cursor.book = self.book
        thin = self.auditor.schedule.hurried
        heals_gap = self.auditor.conclude(verdict, self.connection, now, output)
        if heals_gap:
            self._accepted(self.book.last_id, self.book.event_time, now.wall, now)
            self.send_snapshot(heals_gap, now, output)
        elif thin:
            self.snapshot_due = now.monotonic
