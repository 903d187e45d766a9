"""What one Binance connection remembers: what it asked for, and the streams that it has."""

from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from marketprism.clock import Moment
from marketprism.errors import Lost
from marketprism.feeds import audit, decimals
from marketprism.feeds.binance import commands
from marketprism.feeds.binance.market import Market
from marketprism.feeds.binance.messages import (
    COIN_MARGINED,
    UNREADABLE,
    ForceOrder,
    ServerShutdown,
    why_unread,
)
from marketprism.feeds.binance.streams import Event, Streams, stream_of
from marketprism.feeds.binance.succession import Succession
from marketprism.feeds.subscribing import Command, Subscriptions
from marketprism.feeds.venue import (
    NO_CURSORS,
    REFUSED_RETRY,
    SAMPLE_BYTES,
    Close,
    Cursor,
    Fetched,
    FetchFailed,
    Holding,
    Park,
    Phase,
    Reject,
    Rotate,
    Session,
    Step,
    Stream,
    StreamState,
    Tag,
    Turn,
    Want,
)
from marketprism.records import DataType
from marketprism.settings import VenueConfig

SETTLE_SECONDS = 0.5
"""From a book's subscription to its snapshot's request: time for the exchange to confirm."""


class BinanceSession:
    """One connection's memory; the raw form of the websocket, subscribed by command."""

    def __init__(
        self,
        name: str,
        market: Market,
        settings: VenueConfig,
        wants: Sequence[Want],
        cursors: Mapping[Stream, Cursor],
        refused_retry: float = REFUSED_RETRY,
    ) -> None:
        self.name = name
        self.url = market.url
        self._market = market
        self._read, self._events = market.vocabulary
        self._streams = Streams(name, market, settings, refused_retry)
        rules = commands.rules(settings.limits.subscribe_batch, refused_retry)
        self._subscriptions = Subscriptions[Stream](name, rules, self._waits_for_budget)
        self._succession: Succession | None = None
        self._released: set[Stream] = set()
        """Those that went over to another connection: what is still heard of them is no news."""
        for want in wants:
            self._streams.add(want, cursors.get(want.stream) or Cursor())

    @property
    def streams(self) -> Mapping[Stream, StreamState]:
        """Those that this connection has, or is about to take over."""
        return self._streams.states

    def opening(self, now: Moment) -> Turn:
        """All is subscribed at once, but each book when its snapshot is next in the budget; one
        that comes from another connection needs none.
        """
        return Turn(steps=self._said(self._subscriptions.subscribe(list(self.streams), now)))

    def sent(self, number: int, now: Moment) -> None:
        self._subscriptions.sent(number, now)

    def receive(self, frames: Sequence[bytes], now: Moment) -> Turn:
        """Events and answers to commands; what is neither is rejected and nothing else."""
        turn = Turn()
        for frame in frames:
            self._hear(frame, None, now, turn)
        if self._subscriptions.unconfirmed:
            turn.steps += self._said(self._subscriptions.proceed(now))
        return turn

    def reply(self, tag: object, answer: Fetched | FetchFailed, now: Moment) -> Turn:
        """A snapshot, or why there is none."""
        turn = Turn()
        if isinstance(tag, audit.Tag):
            if (book := self._streams.books.get(tag.native_id)) is not None:
                book.audited(tag.attempt, answer, now, turn)
            return turn
        assert isinstance(tag, Tag)
        if (book := self._streams.books.get(tag.native_id)) is not None:
            book.answered(tag.attempt, answer, now, turn)
        return turn

    def tick(self, now: Moment) -> Turn:
        """Due snapshots and retries, of subscriptions too."""
        turn = Turn()
        for book in self._streams.books.values():
            book.tick(now, turn)
        audit.tick(self._streams.books.values(), now, turn)
        if self._succession is not None:
            self._succession.proceed(now, turn)
            self._succession = self._succession or None
        due = self._subscriptions.tick(now)
        turn.steps += self._said(due.commands)
        if due.unheard:
            turn.steps.append(self._doubt(due.unheard, now))
        return turn

    def change(
        self,
        add: Sequence[Want],
        remove: Sequence[Want],
        now: Moment,
        cursors: Mapping[Stream, Cursor] = NO_CURSORS,
    ) -> Turn:
        """Subscribe and unsubscribe on the live connection, without touching other streams."""
        turn = Turn()
        gone = [want.stream for want in remove if want.stream in self.streams]
        turn.steps += self._said(self._subscriptions.unsubscribe(gone, now))
        for stream in gone:
            if self._succession is not None:
                self._succession.give_up(stream)
            self._streams.remove(stream)
        new = [want for want in add if want.stream not in self.streams]
        for want in new:
            self._released.discard(want.stream)
            self._streams.add(want, cursors.get(want.stream) or Cursor())
        asked = self._subscriptions.subscribe([want.stream for want in new], now)
        turn.steps += self._said(asked)
        return turn

    def renew(self, stream: Stream, now: Moment) -> Turn:
        """Leave and subscribe again, with others that are renewed; a book starts over, a trade's
        id tells what was missed.
        """
        data_type, native_id = stream
        if self._subscriptions.renew(stream):
            self.streams[stream].cursor.lose("stale", "it was silent, and is asked for anew")
            if data_type is DataType.ORDERBOOK:
                self._streams.books[native_id].restart()
                self._streams.books[native_id].acknowledged_at = None
        return Turn()

    def restate(self, stream: Stream, heals: int, now: Moment) -> Turn:
        """A snapshot from the local book."""
        turn = Turn()
        if (book := self._streams.books.get(stream[1])) is not None:
            book.restate(heals, now, turn, lost=True)
        return turn

    def holding(self) -> Holding:
        """Books, and what waits for their snapshots."""
        each = [book.holding() for book in self._streams.books.values()]
        return Holding(*map(sum, zip(*each, strict=True))) if each else Holding()

    def forgo(self, now: Moment) -> None:
        """Every book that is out of step does."""
        for book in self._streams.books.values():
            book.forgo(now)

    def adopt(self, elder: Session) -> None:
        """Take over from the session of a connection that is to end, stream by stream."""
        assert isinstance(elder, BinanceSession)
        self._succession = Succession(elder, elder._streams, self._streams)

    def release(self, stream: Stream) -> object:
        """It is the younger's from now on: its book, or what was said of it last."""
        self._released.add(stream)
        self._subscriptions.forget(stream)
        return self._streams.remove(stream)

    def inherit(self, now: Moment) -> Turn:
        """The elder's connection has ended: go on with all that is left."""
        turn = Turn()
        if self._succession is not None:
            self._succession.inherit(now, turn)
            self._succession = None
        return turn

    def _channel(self, stream: Stream) -> str:
        data_type, native_id = stream
        return native_id.lower() + self._market.channels[data_type]

    def _said(self, asked: Sequence[Command[Stream]]) -> list[Step]:
        """What to do for these to be said."""
        steps: list[Step] = []
        for command in asked:
            said, stream = commands.text(command, self._channel), command.topics[0]
            if not command.leaving and self._waits_for_budget(stream):
                steps.append(self._streams.books[stream[1]].open(said, SETTLE_SECONDS))
            else:
                steps.append(said)
        return steps

    def _waits_for_budget(self, stream: Stream) -> bool:
        """Whether a stream is subscribed when its snapshot is granted, by itself."""
        return stream[0] is DataType.ORDERBOOK and not self._awaits(stream)

    def _doubt(self, unheard: Sequence[Stream], now: Moment) -> Step:
        """What becomes of a connection that twice did not answer for these."""
        words = f"{self._channel(unheard[0])} was asked for twice and not answered"
        since = now.monotonic - commands.ANSWER_WITHIN
        if any((state.last_record or 0) > since for state in self.streams.values()):
            # Those that speak lose nothing where another takes over.
            return Rotate(words)
        return Close(Lost(words))

    def _awaits(self, stream: Stream) -> bool:
        """Whether a stream is another connection's still."""
        return self._succession is not None and stream in self._succession

    def _hear(self, frame: bytes, equals: Counter[str] | None, now: Moment, turn: Turn) -> None:
        """One frame; or one event of a frame that holds several, where `equals` counts those."""
        try:
            event = self._read(frame)
            if isinstance(event, list):
                self._hear_all(frame, event, equals, now, turn)
            elif event.st == COIN_MARGINED:
                pass
            elif isinstance(event, ServerShutdown):
                turn.steps.append(Rotate("the server announced that it shuts down"))
            else:
                self._happened(event, frame, equals, now, turn)
        except UNREADABLE as error:
            self._no_event(frame, error, now, turn)
        except decimals.NotANumber as error:
            turn.steps.append(Reject("bad number", str(error), frame[:SAMPLE_BYTES]))

    def _happened(
        self,
        event: Event | ForceOrder,
        frame: bytes,
        equals: Counter[str] | None,
        now: Moment,
        turn: Turn,
    ) -> None:
        try:
            if isinstance(event, ForceOrder):
                counted = Counter[str]() if equals is None else equals
                liquidation = self._streams.liquidation(event, counted, now)
                if liquidation is None:
                    return
                event = liquidation
            if self._subscriptions.unconfirmed:
                self._spoke(stream_of(event), now, turn)
            if self._succession is None or not self._succession.hold(event, now):
                self._streams.accept(event, now, turn)
        except KeyError as error:
            # The streams of a whole market tell of more than is wanted.
            if equals is None and stream_of(event) not in self._released:
                detail = f"no such subscription: {error}"
                turn.steps.append(Reject("unknown symbol", detail, frame[:SAMPLE_BYTES]))

    def _hear_all(
        self,
        frame: bytes,
        events: Sequence[msgspec.Raw],
        equals: Counter[str] | None,
        now: Moment,
        turn: Turn,
    ) -> None:
        if equals is not None:
            turn.steps.append(Reject("not an event", "a list in a list", frame[:SAMPLE_BYTES]))
            return
        equals = Counter()
        for event in events:
            self._hear(bytes(event), equals, now, turn)

    def _no_event(self, frame: bytes, cause: Exception, now: Moment, turn: Turn) -> None:
        sample = frame[:SAMPLE_BYTES]
        try:
            answer = commands.read_answer(frame)
        except UNREADABLE:
            why = why_unread(frame, cause, self._events)
            turn.steps.append(Reject(why, str(cause), sample))
            return
        if answer.error is not None:
            turn.steps.append(Reject("command refused", answer.error.words, sample))
            self._refused(answer.number, answer.error, now, turn)
            return
        granted = None if answer.number is None else self._subscriptions.granted(answer.number)
        if granted is None:
            turn.steps.append(Reject("unknown answer", "an answer to no command", sample))
        for stream in granted or ():
            self._confirmed(stream, now, turn)

    def _spoke(self, stream: Stream, now: Moment, turn: Turn) -> None:
        """What speaks is confirmed, whatever became of its command."""
        if self._subscriptions.heard(stream):
            refused = self.streams[stream].phase is Phase.PARKED
            self._confirmed(stream, now, turn)
            if refused and stream[0] is DataType.ORDERBOOK and not self._awaits(stream):
                turn.steps.append(self._streams.books[stream[1]].begin())

    def _confirmed(self, stream: Stream, now: Moment, turn: Turn) -> None:
        if stream not in self.streams:
            return
        self._streams.confirmed(stream, now)
        if self._succession is not None and stream in self._succession:
            self._succession.confirmed(stream, now)
        else:
            self._streams.listening(stream, now, turn)

    def _refused(
        self, number: int | None, error: commands.CommandError, now: Moment, turn: Turn
    ) -> None:
        """What cannot be had now is asked for again; meanwhile the board says why."""
        for stream in self._subscriptions.refused(number, now, passes=error.passes):
            if self._succession is not None:
                self._succession.refused(stream)
            state = self.streams[stream]
            if state.phase is not Phase.PARKED or state.detail != error.words:
                turn.steps.append(Park(stream, error.words))
            state.phase, state.detail = Phase.PARKED, error.words
