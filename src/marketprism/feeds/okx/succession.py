"""How the new one of two OKX connections takes streams over from the old one. Pure.

What it hears of a stream that is the old one's still is held back until the two join: a trade by
its id, funding and open interest by their times, a liquidation by the very one that both heard. A
book goes on with the old one's, from the number where that stands, so it needs no snapshot; where
one was heard, the two books have to agree.

Books whose numbers never join go on with the new one's own once it is at the old one's number or
past it. That is no gap when the old one told something at its snapshot's time or later: what both
know overlaps.
"""

from collections.abc import Sequence

from marketprism.clock import Timestamp
from marketprism.feeds import succession
from marketprism.feeds.actions import Output
from marketprism.feeds.okx import channels
from marketprism.feeds.okx.book import BookStream
from marketprism.feeds.okx.chain import Backlog, Heard, Snapshot
from marketprism.feeds.okx.messages import Funding, Interest, Trade, nanoseconds, number
from marketprism.feeds.okx.shadow_book import ShadowBook
from marketprism.feeds.okx.streams import Event, OkxStreams
from marketprism.feeds.sampling import FundingSampling
from marketprism.feeds.succession import Taken
from marketprism.orderbook import OrderBook
from marketprism.records import Liquidation
from marketprism.streams.cursor import Cursor
from marketprism.streams.state import Phase
from marketprism.streams.subscription import Stream

Held = ShadowBook | Event
"""What is held of a stream; what a book tells is put together."""


class Succession(succession.Succession[OkxStreams, Held]):
    """The streams that the new connection has not taken over yet."""

    def hold(self, stream: Stream, event: Held, now: Timestamp) -> bool:
        if not isinstance(event, Heard | Snapshot):
            return super().hold(stream, event, now)
        if stream not in self:
            return False
        self._hold_book(stream, event, now)
        return True

    def _place(self, event: Held, now: Timestamp) -> tuple[int, int | None]:
        match event:
            case Trade():
                return number(event.tradeId), nanoseconds(event.ts)
            case Funding():
                told_at = channels.funding_told_at(event, now)
                return told_at, told_at
            case Interest():
                return nanoseconds(event.ts), nanoseconds(event.ts)
        assert isinstance(event, Liquidation)
        return event.timestamp or 0, None

    def _hold_book(self, stream: Stream, event: Heard | Snapshot, now: Timestamp) -> None:
        book = self._handover.first(stream)
        if book is None:
            book = ShadowBook()
            self._handover.hold(stream, 0, book, now)
        assert isinstance(book, ShadowBook)
        if isinstance(event, Snapshot):
            book.replace(event)
        elif not book.add(event):
            self._new.states[stream].duplicates += 1

    def _reached(self, stream: Stream) -> int | None:
        cursor, native_id = self._new.states[stream].cursor, stream[1]
        match first := self._handover.first(stream):
            case ShadowBook():
                book = self._old.books[native_id]
                return None if _beyond(first, book, cursor) is None else 0
            case Trade():
                # Their ids come in no order: the old one has told this one, or what came later.
                place, told_at = number(first.tradeId), nanoseconds(first.ts)
                later = cursor.event_time is not None and cursor.event_time > told_at
                told = later or channels.recent_trades(cursor).knows(place, told_at)
                return place if told else None
        return super()._reached(stream)

    def _go_on(self, stream: Stream, taken: Taken[Held], now: Timestamp, output: Output) -> None:
        if isinstance(taken.handed, BookStream):
            self._go_on_with_book(taken, taken.handed, now, output)
            return
        state = self._new.states[stream]
        if taken.joined and taken.before.phase is Phase.LIVE:
            state.phase = Phase.LIVE
        events, found = _past(taken.buffered, state.cursor, taken.handed)
        if not taken.joined and not found:
            state.cursor.lose(*taken.unjoined)
        elif taken.buffered:
            # The new one heard all that came after what was published last.
            state.cursor.gap = None
        self._new.go_on_with(stream, taken.handed)
        for event, heard in events:
            self._accept(stream, event, heard, output)
        if state.cursor.gap is not None and taken.since is not None:
            self._new.confirmed(stream, taken.since)
            self._new.listening(stream, taken.since, output)

    def _go_on_with_book(
        self, taken: Taken[Held], old: BookStream, now: Timestamp, output: Output
    ) -> None:
        chain = taken.buffered[0][0] if taken.buffered else ShadowBook()
        assert isinstance(chain, ShadowBook)
        native_id = old.state.instrument.native_id
        mine = self._new.books[native_id]
        state, cursor = mine.state, mine.state.cursor
        if taken.joined and _in_step(old):
            old.state, old.acknowledged_at = state, mine.acknowledged_at
            mine.auditor.succeed(old.auditor)
            old.auditor = mine.auditor
            self._new.books[native_id] = old
            state.phase, state.detail = Phase.LIVE, None
            for update in chain.beyond(cursor.last_id, cursor.event_time) or ():
                old.on_event(update, now, output)
            return
        whole = chain.whole()
        seamless = whole is not None and _overlaps(chain, whole, cursor)
        if not taken.joined and not seamless:
            cursor.lose(*taken.unjoined)
        if whole is not None:
            mine.book = whole
            # Numbers that are another count's tell nothing of what was published.
            updates = [] if chain.foreign else chain.updates
            mine.join(updates, now, output, seamless=seamless)
            return
        mine.backlog = Backlog(list(chain.updates))
        if mine.acknowledged_at is not None:
            mine.subscribed(Timestamp(now.wall, mine.acknowledged_at))


def _past(
    held: Sequence[tuple[Held, Timestamp]], cursor: Cursor, handed: object
) -> tuple[Sequence[tuple[Held, Timestamp]], bool]:
    """What of it the old one may not have told; and whether the last that it told is among it."""
    if isinstance(handed, FundingSampling):
        heard = handed.heard or 0
        return [
            (event, at)
            for event, at in held
            if isinstance(event, Funding) and channels.funding_told_at(event, at) > heard
        ], False
    return held, any(
        isinstance(event, Trade) and number(event.tradeId) == cursor.last_id for event, _ in held
    )


def _in_step(book: BookStream) -> bool:
    """Whether it is what was published."""
    return (
        book.book is not None and not book.behind and book.book.last_id == book.state.cursor.last_id
    )


def _beyond(chain: ShadowBook, old: BookStream, cursor: Cursor) -> Sequence[Heard] | None:
    """The updates past what the old one published; None as long as the two do not join."""
    beyond = chain.beyond(cursor.last_id, cursor.event_time)
    if beyond is None:
        return None
    if old.book is not None and _in_step(old):
        return beyond if chain.agrees(old.book, beyond) else None
    return None if chain.whole() is None else beyond


def _overlaps(chain: ShadowBook, whole: OrderBook, cursor: Cursor) -> bool:
    """Whether the old one spoke at the time of the new one's snapshot, and the book has come to
    where the old one was.
    """
    return (
        chain.snapshot is not None
        and chain.snapshot.event_time is not None
        and cursor.gap is None
        and cursor.last_id is not None
        and whole.last_id >= cursor.last_id
        and cursor.event_time is not None
        and cursor.event_time >= chain.snapshot.event_time
    )
