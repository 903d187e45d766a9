"""What a connection knows of its streams, and how they go over to the next one."""

from typing import Any, NamedTuple

from bourse.book import BookStream, Heard
from bourse.messages import Said
from marketprism.clock import MILLISECOND, Timestamp
from marketprism.decimals import NotANumber, levels, unsigned
from marketprism.feeds import continuity, succession
from marketprism.feeds.actions import Output
from marketprism.feeds.published_book import Source
from marketprism.feeds.streams import Streams
from marketprism.feeds.succession import Taken
from marketprism.records import DataType, Trade
from marketprism.settings.exchanges import VenueConfig
from marketprism.streams.recent_ids import RecentIds
from marketprism.streams.state import Phase, StreamState
from marketprism.streams.subscription import Stream

TOPICS = {DataType.TRADE: "trades", DataType.ORDERBOOK: "books"}


class Match(NamedTuple):
    """A trade."""

    name: str
    event_time: int
    price: str
    quantity: str
    side: Any


Event = Heard | Match


class BourseStreams(Streams[BookStream, Event]):
    """The streams of one connection."""

    def __init__(self, name: str, settings: VenueConfig, refused_retry: float) -> None:
        super().__init__(name)
        self._settings = settings
        self._refused_retry = refused_retry

    def _book(self, state: StreamState) -> BookStream:
        market = state.instrument.native_id
        url = f"{self._settings.api.base_url.rstrip('/')}/book?market={market}"
        source, options = Source(url, 1, 1_000), self._settings.orderbook
        return BookStream(state, source, options, self._name, self._refused_retry)

    def read(self, stream: Stream, said: Said, now: Timestamp) -> Event:
        """A message of a topic. Raises NotANumber."""
        time = said.at * MILLISECOND
        if stream[0] is DataType.TRADE:
            if not isinstance(said.id, str) or not said.id or not said.taker:
                raise NotANumber(f"no trade: {said.id!r}, {said.taker!r}")
            return Match(said.id, time, unsigned(said.price), unsigned(said.size), said.taker)
        bids, asks = levels(said.bids, said.asks)
        ahead = self.states[stream].cursor.clock.is_ahead(time, now)
        first = said.kind == "snapshot"
        return Heard(first, said.prev, said.seq, time, now.wall, bids, asks, ahead)

    def accept(self, stream: Stream, event: Event, now: Timestamp, output: Output) -> None:
        state = self.states[stream]
        if isinstance(event, Heard):
            self.books[stream[1]].on_event(event, now, output)
            return
        cursor = state.cursor
        recent = cursor.recent = cursor.recent or RecentIds()
        at = min(event.event_time, cursor.clock.time(now))
        if recent.knows(event.name, at):
            state.duplicates += 1
            return
        recent.add(event.name, at)
        gap = continuity.accept_uncounted(state, event.event_time, now, self._name)
        if gap is not None:
            output.records.append(gap)
        output.records.append(
            Trade(
                state.instrument,
                event.event_time,
                now.wall,
                trade_id=event.name,
                price=event.price,
                quantity=event.quantity,
                side=event.side,
            )
        )

    def listening(self, stream: Stream, now: Timestamp, output: Output) -> None:
        if stream[0] is DataType.ORDERBOOK:
            self.books[stream[1]].subscribed(now)
        super().listening(stream, now, output)


class Succession(succession.Succession[BourseStreams, Event]):
    """By their times; a book goes on with the old connection's."""

    def _place(self, event: Event, now: Timestamp) -> tuple[int, int | None]:
        return event.event_time, event.event_time

    def _go_on(self, stream: Stream, taken: Taken[Event], now: Timestamp, output: Output) -> None:
        state, old = self._new.states[stream], taken.handed
        if taken.joined and taken.before.phase is Phase.LIVE:
            state.phase, state.detail = Phase.LIVE, None
        if not taken.joined:
            state.cursor.lose(*taken.unjoined)
        elif taken.buffered and stream[0] is DataType.TRADE:
            state.cursor.gap = None
        events = taken.buffered
        if isinstance(old, BookStream) and taken.joined and old.book is not None:
            mine = self._new.books[stream[1]]
            old.state, old.acknowledged_at = state, mine.acknowledged_at
            mine.auditor.succeed(old.auditor)
            old.auditor, self._new.books[stream[1]] = mine.auditor, old
            events = [(each, at) for each, at in events if not getattr(each, "is_snapshot", False)]
        for event, at in events:
            self._accept(stream, event, at, output)
        if state.cursor.gap is not None and taken.since is not None:
            self._new.confirmed(stream, taken.since)
            self._new.listening(stream, taken.since, output)
