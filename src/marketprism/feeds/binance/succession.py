"""How the streams of a Binance connection that is to end go on on the next one.

A book is handed over itself, so no snapshot is asked for.
"""

from marketprism.clock import Timestamp
from marketprism.feeds import succession
from marketprism.feeds.actions import Output
from marketprism.feeds.binance.book import BookStream
from marketprism.feeds.binance.messages import AggregateTrade, Trade
from marketprism.feeds.binance.streams import BinanceStreams, Event, position, told_at
from marketprism.feeds.succession import Taken
from marketprism.records import DataType, Liquidation
from marketprism.streams.cursor import Cursor
from marketprism.streams.state import Phase
from marketprism.streams.subscription import Stream


class Succession(succession.Succession[BinanceStreams, Event]):
    """The streams that the new connection has not taken over yet."""

    def _place(self, event: Event, now: Timestamp) -> tuple[int, int | None]:
        return position(event), None if isinstance(event, Liquidation) else told_at(event)

    def _reached(self, stream: Stream) -> int | None:
        if stream[0] is DataType.TRADE:
            return self._new.states[stream].cursor.last_id
        if stream[0] is DataType.ORDERBOOK:
            book = self._old.books[stream[1]]
            return None if book.book is None else book.state.cursor.last_id
        return super()._reached(stream)

    def _go_on(self, stream: Stream, taken: Taken[Event], now: Timestamp, output: Output) -> None:
        state, held = self._new.states[stream], taken.buffered
        if not taken.joined:
            state.cursor.lose(*taken.unjoined)
        elif taken.before.phase is Phase.LIVE:
            state.phase = Phase.LIVE
        if taken.joined and stream[0] is DataType.TRADE:
            # By the times of those past, the cursor might take them for a new numbering.
            held = [each for each in held if not _published(each[0], state.cursor)]
            state.duplicates += len(taken.buffered) - len(held)
        self._new.go_on_with(stream, taken.handed)
        if isinstance(taken.handed, BookStream):
            self._go_on_with_book(stream, taken.handed, output, joined=taken.joined)
        for event, heard in held:
            self._accept(stream, event, heard, output)
        if state.cursor.gap is not None and taken.since is not None:
            self._new.listening(stream, taken.since, output)

    def _go_on_with_book(
        self, stream: Stream, old: BookStream, output: Output, *, joined: bool
    ) -> None:
        book = self._new.books[stream[1]]
        if joined and old.book is not None:
            book.succeed(old)
        elif book.state.phase is not Phase.PARKED:
            output.actions.append(book.begin())


def _published(event: Event, cursor: Cursor) -> bool:
    """Whether a trade is one that the old one told, by its number; of two aggregates of one number,
    by the trades in it.
    """
    assert isinstance(event, Trade | AggregateTrade)
    part = event.l if isinstance(event, AggregateTrade) else 0
    return (position(event), part) <= (cursor.last_id or 0, cursor.last_trade_id or 0)
