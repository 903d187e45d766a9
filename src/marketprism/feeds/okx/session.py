"""What one OKX connection remembers: subscriptions, books, and how far each stream is."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from marketprism.errors import Lost
from marketprism.feeds import audit
from marketprism.feeds.decimals import NotANumber
from marketprism.feeds.okx.book import SECOND, Tag
from marketprism.feeds.okx.messages import UNREADABLE, Key, Message, read_message
from marketprism.feeds.okx.streams import (
    CHANNELS,
    LIQUIDATED,
    Event,
    Streams,
    argument,
    stream_of,
)
from marketprism.feeds.okx.subscriptions import Subscriptions
from marketprism.feeds.okx.succession import Succession
from marketprism.feeds.venue import (
    REFUSED_RETRY,
    Close,
    Cursor,
    Fetched,
    FetchFailed,
    Holding,
    Moment,
    Park,
    Phase,
    Reject,
    Rotate,
    Send,
    Session,
    Stream,
    StreamState,
    Turn,
    Want,
)
from marketprism.records import DataType
from marketprism.settings import VenueConfig

PONG_WITHIN: Final = 10 * SECOND
SAMPLE_BYTES: Final = 200
KEPT_FOR_BOOKS: Final = 120
"""Operations of an hour that no renewal of another stream may use."""
UPGRADE: Final = "64008"
"""A notice 60 s before a server is upgraded."""
TOO_MANY_REQUESTS: Final = "60014"
_IGNORED: Final = frozenset({"channel-conn-count", "login"})


class OkxSession:
    """One connection's memory."""

    def __init__(
        self,
        name: str,
        settings: VenueConfig,
        wants: Sequence[Want],
        cursors: Mapping[Stream, Cursor],
        refused_retry: float = REFUSED_RETRY,
    ) -> None:
        self.name = name
        self.url = settings.api.ws_url.rstrip("/") + "/ws/v5/public"
        self._settings = settings
        self._streams = Streams(name, settings)
        self._succession: Succession | None = None
        self._subscriptions = Subscriptions(settings.limits.subscribe_batch)
        self._ping_at: int | None = None
        self._pong_by: int | None = None
        for want in wants:
            self._streams.add(want, cursors.get(want.stream) or Cursor())

    @property
    def streams(self) -> Mapping[Stream, StreamState]:
        """Those that this connection has, or is about to take over."""
        return self._streams.states

    def opening(self, now: Moment) -> Turn:
        """Everything is subscribed at once; books bring their own snapshots."""
        if heartbeat := self._settings.limits.heartbeat:
            self._ping_at = now.monotonic + round(heartbeat * SECOND)
        return Turn(steps=[*self._subscribe(list(self.streams), now)])

    def sent(self, number: int, now: Moment) -> None:
        """No command has a number that is awaited."""

    def receive(self, frames: Sequence[bytes], now: Moment) -> Turn:
        """Pushes, answers to commands and notices; what is neither is rejected, nothing else."""
        turn = Turn()
        for frame in frames:
            if frame == b"pong":
                self._pong_by = None
                continue
            sample = frame[:SAMPLE_BYTES]
            try:
                message = read_message(frame)
            except UNREADABLE as error:
                told = isinstance(error, msgspec.ValidationError)
                reason = "not an event" if told else "not JSON"
                turn.steps.append(Reject(reason, str(error), sample))
                continue
            if message.event is not None:
                self._event(message, message.event, sample, now, turn)
            elif message.arg is None or not message.data:
                turn.steps.append(Reject("not an event", "neither event nor push", sample))
            else:
                self._push(message.arg.key, message, sample, now, turn)
        self._proceed(now, turn)
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
        """Heartbeat; resubscriptions, all that are due in one message; due snapshots; time-outs."""
        turn = Turn()
        self._beat(now, turn)
        self._proceed(now, turn)
        self._resubscribe(now, turn)
        for book in self._streams.books.values():
            book.tick(now, turn)
        audit.tick(self._streams.books.values(), now, turn)
        again, unheard = self._subscriptions.overdue(now)
        turn.steps += again
        if unheard:
            turn.steps.append(Close(Lost("a subscription was not answered")))
        return turn

    def change(self, add: Sequence[Want], remove: Sequence[Want], now: Moment) -> Turn:
        """Subscribe and unsubscribe on the live connection, without touching other streams."""
        gone = [want.stream for want in remove if want.stream in self.streams]
        for stream in gone:
            if self._succession is not None:
                self._succession.give_up(stream)
            self._streams.remove(stream)
        kept = {argument(stream).key for stream in self.streams}
        left = list({a.key: a for a in map(argument, gone) if a.key not in kept}.values())
        for arg in left:
            self._subscriptions.topics[arg.key].wanted = False
        steps = self._subscriptions.unsubscribe(left, now)
        new = [want for want in add if want.stream not in self.streams]
        for want in new:
            self._streams.add(want, Cursor())
        fresh = [want.stream for want in new if argument(want.stream).key not in kept]
        turn = Turn(steps=[*steps, *self._subscribe(fresh, now)])
        if Key(CHANNELS[DataType.LIQUIDATION], LIQUIDATED) in kept:
            for want in new:
                if want.data_type is DataType.LIQUIDATION:
                    self._stand(want.stream, now, turn)
        return turn

    def renew(self, stream: Stream, now: Moment) -> Turn:
        """Leave and subscribe again; of liquidations all, as they share a subscription. Where the
        hour's operations are nearly used up, it is left as it is: what is out of step needs them.
        """
        arg = argument(stream)
        book = stream[0] is DataType.ORDERBOOK
        if self._subscriptions.room(now) < (2 if book else KEPT_FOR_BOOKS):
            return Turn()
        for other in self._streams.told_by(arg.key):
            if self._succession is None or other not in self._succession:
                state = self.streams[other]
                state.cursor.lose("stale")
                state.resyncs += 1
        if book:
            self._streams.books[stream[1]].restart()
        known = arg.key in self._subscriptions.topics
        steps = self._subscriptions.unsubscribe([arg], now) if known else []
        return Turn(steps=[*steps, *self._subscriptions.subscribe([arg], now)])

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
        assert isinstance(elder, OkxSession)
        self._succession = Succession(elder, elder._streams, self._streams)

    def release(self, stream: Stream) -> object:
        """It is the younger's from now on: its book, or what was told of it last."""
        return self._streams.remove(stream)

    def inherit(self, now: Moment) -> Turn:
        """The elder's connection has ended: go on with all that is left."""
        turn = Turn()
        if self._succession is not None:
            self._succession.inherit(now, turn)
            self._succession = None
        return turn

    def _proceed(self, now: Moment, turn: Turn) -> None:
        if self._succession is not None:
            self._succession.proceed(now, turn)
            self._succession = self._succession or None

    def _subscribe(self, streams: Sequence[Stream], now: Moment) -> list[Send]:
        args = {arg.key: arg for arg in map(argument, streams)}
        return self._subscriptions.subscribe(list(args.values()), now)

    def _beat(self, now: Moment, turn: Turn) -> None:
        """OKX ends a connection on which nothing passes for 30 s, so it is asked in time."""
        if self._pong_by is not None and now.monotonic > self._pong_by:
            turn.steps.append(Close(Lost("a ping was not answered")))
        elif self._ping_at is not None and now.monotonic >= self._ping_at:
            self._ping_at = now.monotonic + round(self._settings.limits.heartbeat * SECOND)
            self._pong_by = now.monotonic + PONG_WITHIN
            turn.steps.append(Send("ping"))

    def _resubscribe(self, now: Moment, turn: Turn) -> None:
        due = []
        room = self._subscriptions.room(now)
        for native_id, book in self._streams.books.items():
            if book.resubscribe_at is None or now.monotonic < book.resubscribe_at:
                continue
            arg = argument((DataType.ORDERBOOK, native_id))
            topic = self._subscriptions.topics[arg.key]
            if topic.asks or topic.leaves:
                continue
            if room < 2:
                # The hour's operations are used up; the stream itself still stands.
                book.ask(turn)
                continue
            room -= 2
            book.restart()
            due.append(arg)
        if due:
            turn.steps += self._subscriptions.unsubscribe(due, now)
            turn.steps += self._subscriptions.subscribe(due, now)

    def _push(self, key: Key, message: Message, sample: bytes, now: Moment, turn: Turn) -> None:
        topic = self._subscriptions.topics.get(key)
        if topic is None:
            turn.steps.append(Reject("unknown symbol", f"no such subscription: {key}", sample))
            return
        if topic.leaves:
            return
        equals: Counter[str] = Counter()
        for element in message.data:
            try:
                if key.channel == CHANNELS[DataType.LIQUIDATION]:
                    self._liquidations(element, equals, now, turn)
                elif (stream := stream_of(key)) in self.streams:
                    event = self._streams.read(stream, message.action, element, now)
                    self._happened(stream, event, now, turn)
            except (*UNREADABLE, NotANumber) as error:
                turn.steps.append(_reject(error, bytes(element)))

    def _liquidations(
        self, element: msgspec.Raw, equals: Counter[str], now: Moment, turn: Turn
    ) -> None:
        others = self._succession or ()
        records, bad = self._streams.liquidations(element, equals, others, now)
        for record in records:
            stream = (DataType.LIQUIDATION, record.instrument.native_id)
            self._happened(stream, record, now, turn)
        turn.steps += [_reject(error, detail) for error, detail in bad]

    def _happened(self, stream: Stream, event: Event, now: Moment, turn: Turn) -> None:
        if self._succession is None or not self._succession.hold(stream, event, now):
            self._streams.accept(stream, event, now, turn)

    def _event(self, message: Message, event: str, sample: bytes, now: Moment, turn: Turn) -> None:
        code = str(message.code)
        if event == "subscribe" and message.arg is not None:
            topic, sends = self._subscriptions.confirmed(message.arg, now)
            turn.steps += sends
            if topic is not None:
                for stream in self._streams.told_by(topic.arg.key):
                    self._stand(stream, now, turn)
        elif event == "unsubscribe" and message.arg is not None:
            self._subscriptions.left(message.arg)
        elif event == "error":
            self._refused(message, code, sample, now, turn)
        elif event == "notice" and code == UPGRADE:
            turn.steps.append(Rotate("the server announced its upgrade"))
        elif event != "notice" and event not in _IGNORED:
            turn.steps.append(Reject("unknown event", event[:80], sample))

    def _stand(self, stream: Stream, now: Moment, turn: Turn) -> None:
        """Its subscription is confirmed."""
        if self._succession is not None and stream in self._succession:
            self._succession.confirmed(stream, now)
        else:
            self._streams.stand(stream, now, turn)

    def _refused(self, message: Message, code: str, sample: bytes, now: Moment, turn: Turn) -> None:
        why = f"{code}: {message.msg}" if code else message.msg
        turn.steps.append(Reject("command refused", why, sample))
        if code == TOO_MANY_REQUESTS:
            turn.steps.append(Close(Lost(why)))
            return
        guilty, sends = self._subscriptions.refused(message.arg, message.msg, now)
        turn.steps += sends
        for stream in self._streams.told_by(guilty.arg.key) if guilty is not None else ():
            if self._succession is not None:
                self._succession.give_up(stream)
            state = self.streams[stream]
            state.phase, state.detail = Phase.PARKED, why
            turn.steps.append(Park(stream, why))


def _reject(error: Exception, sample: bytes) -> Reject:
    reason = "bad number" if isinstance(error, NotANumber) else "unfit event"
    return Reject(reason, str(error), sample[:SAMPLE_BYTES])
