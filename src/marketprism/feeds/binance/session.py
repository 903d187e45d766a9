"""What one Binance connection remembers: what it asked for, and the streams that it has."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Self

import msgspec

from marketprism import decimals
from marketprism.clock import Timestamp
from marketprism.feeds.actions import Action, Output, Reject, Rotate
from marketprism.feeds.binance import commands
from marketprism.feeds.binance.market import Market
from marketprism.feeds.binance.messages import (
    COIN_MARGINED,
    UNREADABLE,
    ForceOrder,
    ServerShutdown,
    why_unread,
)
from marketprism.feeds.binance.streams import BinanceStreams, Event, stream_of
from marketprism.feeds.binance.succession import Succession
from marketprism.feeds.commands import Command
from marketprism.feeds.conversation import Conversation
from marketprism.feeds.venue import REFUSED_RETRY, SAMPLE_BYTES
from marketprism.records import DataType
from marketprism.settings.exchanges import VenueConfig
from marketprism.streams.cursor import Cursor
from marketprism.streams.state import Phase
from marketprism.streams.subscription import Stream, Subscription

SETTLE_SECONDS = 0.5
"""From a book's subscription to its snapshot's request: time for the exchange to confirm."""


class BinanceSession(Conversation[Stream, BinanceStreams, Event]):
    """One connection's memory; the raw form of the websocket, subscribed by command."""

    def __init__(
        self,
        market: Market,
        settings: VenueConfig,
        name: str,
        subscriptions: Sequence[Subscription],
        cursors: Mapping[Stream, Cursor],
        refused_retry: float = REFUSED_RETRY,
    ) -> None:
        known = BinanceStreams(name, market, settings, refused_retry)
        rules = commands.rules(settings.limits.subscribe_batch, refused_retry)
        super().__init__(name, market.url, known, rules, subscriptions, cursors)
        self._channels = market.channels
        self._read, self._events = market.vocabulary

    def opening(self, now: Timestamp) -> Output:
        """All is subscribed at once, but each book when its snapshot is next in the budget; one
        that comes from another connection needs none.
        """
        return Output(actions=self._subscribe(list(self.streams), now))

    def receive(self, frames: Sequence[bytes], now: Timestamp) -> Output:
        """Events and answers to commands; what is neither is rejected and nothing else."""
        output = Output()
        for frame in frames:
            self._on_frame(frame, None, now, output)
        if self._subscriptions.unconfirmed:
            output.actions += self._said(self._subscriptions.proceed(now))
        return output

    def tick(self, now: Timestamp) -> Output:
        """Due snapshots and retries, of subscriptions too."""
        output = Output()
        self._tick_books(now, output)
        self._proceed(now, output)
        self._ask_again(now, output)
        return output

    def renew(self, stream: Stream, now: Timestamp) -> Output:
        """Leave and subscribe again, with others that are renewed; a book starts over, a trade's
        id tells what was missed.
        """
        data_type, native_id = stream
        if self._subscriptions.renew(stream):
            state = self.streams[stream]
            state.cursor.lose("stale", state.silence(now.monotonic))
            if data_type is DataType.ORDERBOOK:
                self._streams.books[native_id].restart()
                self._streams.books[native_id].acknowledged_at = None
        return Output()

    def _topic(self, stream: Stream) -> Stream:
        return stream

    def _told_by(self, topic: Stream) -> Sequence[Stream]:
        return [topic] if topic in self.streams else []

    def _words(self, topic: Stream) -> str:
        data_type, native_id = topic
        return native_id.lower() + self._channels[data_type]

    def _said(self, asked: Sequence[Command[Stream]]) -> list[Action]:
        actions: list[Action] = []
        for command in asked:
            said, stream = commands.text(command, self._words), command.topics[0]
            if not command.leaving and self._is_by_itself(stream):
                actions.append(self._streams.books[stream[1]].open(said, SETTLE_SECONDS))
            else:
                actions.append(said)
        return actions

    def _is_by_itself(self, topic: Stream) -> bool:
        """A book is subscribed when its snapshot is granted."""
        return topic[0] is DataType.ORDERBOOK and not self._awaits(topic)

    def _speaks(self, since: int) -> bool:
        return any((state.last_record or 0) > since for state in self.streams.values())

    def _follow(self, old: Self) -> Succession:
        return Succession(old, old._streams, self._streams)

    def _on_frame(
        self, frame: bytes, equals: Counter[str] | None, now: Timestamp, output: Output
    ) -> None:
        """One frame; or one event of a frame that holds several, where `equals` counts those."""
        try:
            event = self._read(frame)
            if isinstance(event, list):
                self._hear_all(frame, event, equals, now, output)
            elif event.st == COIN_MARGINED:
                pass
            elif isinstance(event, ServerShutdown):
                output.actions.append(Rotate("the server announced that it shuts down"))
            else:
                self._told(event, frame, equals, now, output)
        except UNREADABLE as error:
            self._no_event(frame, error, now, output)
        except decimals.NotANumber as error:
            output.actions.append(Reject("bad number", str(error), frame[:SAMPLE_BYTES]))

    def _told(
        self,
        event: Event | ForceOrder,
        frame: bytes,
        equals: Counter[str] | None,
        now: Timestamp,
        output: Output,
    ) -> None:
        try:
            if isinstance(event, ForceOrder):
                counted = Counter[str]() if equals is None else equals
                liquidation = self._streams.liquidation(event, counted, now)
                if liquidation is None:
                    return
                event = liquidation
            stream = stream_of(event)
            if self._subscriptions.unconfirmed:
                self._spoke(stream, now, output)
            self._happened(stream, event, now, output)
        except KeyError:
            stream = stream_of(event)
            # The streams of a whole market tell of more than is wanted.
            if equals is None and stream not in self._released:
                detail = f"no such subscription: {stream[1]!r}"
                output.actions.append(Reject("unknown symbol", detail, frame[:SAMPLE_BYTES]))

    def _hear_all(
        self,
        frame: bytes,
        events: Sequence[msgspec.Raw],
        equals: Counter[str] | None,
        now: Timestamp,
        output: Output,
    ) -> None:
        if equals is not None:
            output.actions.append(Reject("not an event", "a list in a list", frame[:SAMPLE_BYTES]))
            return
        equals = Counter()
        for event in events:
            self._on_frame(bytes(event), equals, now, output)

    def _no_event(self, frame: bytes, cause: Exception, now: Timestamp, output: Output) -> None:
        sample = frame[:SAMPLE_BYTES]
        try:
            answer = commands.read_answer(frame)
        except UNREADABLE:
            why = why_unread(frame, cause, self._events)
            output.actions.append(Reject(why, str(cause), sample))
            return
        if answer.error is not None:
            output.actions.append(Reject("command refused", answer.error.words, sample))
            self._refused(answer.number, answer.error, now, output)
            return
        granted = None if answer.number is None else self._subscriptions.granted(answer.number)
        if granted is None:
            output.actions.append(Reject("unknown answer", "an answer to no command", sample))
        for stream in granted or ():
            self._confirmed(stream, now, output)

    def _spoke(self, stream: Stream, now: Timestamp, output: Output) -> None:
        """What speaks is confirmed, whatever became of its command."""
        if self._subscriptions.heard(stream):
            refused = self.streams[stream].phase is Phase.PARKED
            self._confirmed(stream, now, output)
            if refused and stream[0] is DataType.ORDERBOOK and not self._awaits(stream):
                output.actions.append(self._streams.books[stream[1]].begin())

    def _refused(
        self, number: int | None, error: commands.CommandError, now: Timestamp, output: Output
    ) -> None:
        for stream in self._subscriptions.refused(number, now, passes=error.passes):
            self._park(stream, error.words, output)
