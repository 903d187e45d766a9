"""How the streams of a Binance connection that is to end go on on the next one.

What the younger holds of a stream goes through its ordinary path once the two have joined: there
the past is dropped by the cursor. A book is handed over itself, so no snapshot is asked for; what
was said of funding rates and of liquidations goes along, since no id tells what of them is new.
"""

from collections import deque

import msgspec

from marketprism.clock import Moment
from marketprism.feeds import decimals, handover
from marketprism.feeds.binance.book import BookStream
from marketprism.feeds.binance.messages import AggregateTrade, Trade
from marketprism.feeds.binance.streams import Event, Streams, position, stream_of, told_at
from marketprism.feeds.handover import Unjoined
from marketprism.feeds.sampling import FundingSampling
from marketprism.feeds.venue import SAMPLE_BYTES, Cursor, Phase, Reject, Session, Stream, Turn
from marketprism.records import DataType, Liquidation


class Succession(handover.Succession[Event]):
    """The streams that the younger connection has not taken over yet."""

    def __init__(self, elder: Session, old: Streams, new: Streams) -> None:
        super().__init__(elder, new.states)
        self._old = old
        self._new = new

    def hold(self, event: Event, now: Moment) -> bool:
        """Whether an event is held back: it is of a stream that is the elder's still."""
        stream = stream_of(event)
        if stream not in self._handover:
            return False
        # What bears a time to come tells nothing of where the stream stands.
        clock = self._new.states[stream].cursor.clock
        counts = stream[0] is DataType.LIQUIDATION or not clock.is_ahead(told_at(event), now)
        self._handover.hold(stream, position(event) if counts else None, event, now)
        return True

    def _reached(self, stream: Stream) -> int | None:
        if stream[0] is DataType.LIQUIDATION:
            # Their times are not in order: what the elder has told, it has told by id.
            first = self._handover.first(stream)
            assert isinstance(first, Liquidation)
            told = first.liquidation_id in self._old.liquidated[stream[1]]
            return position(first) if told else None
        return self._old.reached(stream)

    def _take(self, stream: Stream, unjoined: Unjoined, now: Moment, turn: Turn) -> None:
        before, state = self._old.states[stream], self._new.states[stream]
        joined = self._handover.joined(stream, self._reached)
        since = self._handover.since(stream)
        held, handed = self._handover.take(stream)
        state.last_record = before.last_record
        if not joined:
            state.cursor.lose(*unjoined)
        elif before.phase is Phase.LIVE:
            state.phase = Phase.LIVE
        if joined and stream[0] is DataType.TRADE:
            # By the times of those past, the cursor might take them for a new numbering.
            count = len(held)
            held = [each for each in held if not _published(each[0], state.cursor)]
            state.duplicates += count - len(held)
        self._hand_on(stream, handed, turn, joined=joined)
        for event, heard in held:
            try:
                self._new.accept(event, heard, turn)
            except decimals.NotANumber as error:
                sample = msgspec.json.encode(event)[:SAMPLE_BYTES]
                turn.steps.append(Reject("bad number", str(error), sample))
        if state.cursor.gap is not None and since is not None:
            self._new.listening(stream, since, turn)

    def _hand_on(self, stream: Stream, handed: object, turn: Turn, *, joined: bool) -> None:
        """What the elder knew of a stream beyond its cursor."""
        native_id = stream[1]
        if isinstance(handed, BookStream):
            book = self._new.books[native_id]
            if joined and handed.book is not None:
                book.succeed(handed)
            elif self._new.states[stream].phase is not Phase.PARKED:
                turn.steps.append(book.begin())
        elif isinstance(handed, FundingSampling):
            self._new.funding[native_id] = handed
        elif isinstance(handed, deque):
            self._new.liquidated[native_id] = handed


def _published(event: Event, cursor: Cursor) -> bool:
    """Whether a trade is one that the elder told, by its number; of two aggregates of one number,
    by the trades in it.
    """
    assert isinstance(event, Trade | AggregateTrade)
    part = event.l if isinstance(event, AggregateTrade) else 0
    return (position(event), part) <= (cursor.last_id or 0, cursor.last_trade_id or 0)
