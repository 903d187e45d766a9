"""What one OKX connection remembers: subscriptions, books, and how far each stream is."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from marketprism.clock import SECOND, Moment
from marketprism.feeds import audit
from marketprism.feeds.decimals import NotANumber
from marketprism.feeds.okx import commands
from marketprism.feeds.okx.heartbeat import Heartbeat
from marketprism.feeds.okx.messages import UNREADABLE, Key, Message, read_message
from marketprism.feeds.okx.streams import (
    CHANNELS,
    Event,
    Streams,
    key_of,
    stream_of,
)
from marketprism.feeds.okx.succession import Succession
from marketprism.feeds.subscribing import Command, Subscriptions, doubted, park
from marketprism.feeds.venue import (
    NO_CURSORS,
    REFUSED_RETRY,
    SAMPLE_BYTES,
    Cursor,
    Fetched,
    FetchFailed,
    Holding,
    Phase,
    Reject,
    Rotate,
    Send,
    Session,
    Stream,
    StreamState,
    Tag,
    Turn,
    Want,
)
from marketprism.records import DataType
from marketprism.settings import VenueConfig

UPGRADE: Final = "64008"
"""A notice 60 s before a server is upgraded."""
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
        self._streams = Streams(name, settings, refused_retry)
        self._succession: Succession | None = None
        rules = commands.rules(settings.limits.subscribe_batch, refused_retry)
        self._subscriptions = Subscriptions[Key](name, rules)
        self._released: set[Key] = set()
        """Those that went over to another connection: what is still heard of them is no news."""
        self._heartbeat = Heartbeat(round(settings.limits.heartbeat * SECOND))
        for want in wants:
            self._streams.add(want, cursors.get(want.stream) or Cursor())

    @property
    def streams(self) -> Mapping[Stream, StreamState]:
        """Those that this connection has, or is about to take over."""
        return self._streams.states

    def opening(self, now: Moment) -> Turn:
        """Everything is subscribed at once; books bring their own snapshots."""
        self._heartbeat.begin(now)
        return Turn(steps=[*self._subscribe(list(self.streams), now)])

    def sent(self, number: int, now: Moment) -> None:
        """Its answer is due from now on."""
        if not self._heartbeat.sent(number, now):
            self._subscriptions.sent(number, now)

    def receive(self, frames: Sequence[bytes], now: Moment) -> Turn:
        """Pushes, answers to commands and notices; what is neither is rejected, nothing else."""
        turn = Turn()
        for frame in frames:
            if frame == b"pong":
                self._heartbeat.answered()
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
            elif message.arg is not None and message.data:
                self._push(message.arg.key, message, sample, now, turn)
            elif message.code not in ("", "0", 0):
                self._refused(message, sample, now, turn)
            else:
                turn.steps.append(Reject("not an event", "neither event nor push", sample))
        self._proceed(now, turn)
        turn.steps += map(commands.said, self._subscriptions.proceed(now))
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
        """Heartbeat; subscriptions, all that are due in one message; due snapshots; time-outs."""
        turn = Turn()
        if (dead := self._heartbeat.failed(now)) is not None:
            turn.steps.append(dead)
        if self._heartbeat.due(now):
            turn.steps.append(self._heartbeat.ping(self._subscriptions.number(), now))
        self._proceed(now, turn)
        self._resubscribe(now, turn)
        for book in self._streams.books.values():
            book.tick(now, turn)
        audit.tick(self._streams.books.values(), now, turn)
        due = self._subscriptions.tick(now)
        for command in due.commands:
            self._lose_sight(command)
            turn.steps.append(commands.said(command))
        if due.unheard:
            channel, subject = due.unheard[0]
            speaks = self._heartbeat.spoke_since(now.monotonic - commands.ANSWER_WITHIN)
            turn.steps.append(doubted(f"{channel} of {subject}", speaks=speaks))
        return turn

    def change(
        self,
        add: Sequence[Want],
        remove: Sequence[Want],
        now: Moment,
        cursors: Mapping[Stream, Cursor] = NO_CURSORS,
    ) -> Turn:
        """Subscribe and unsubscribe on the live connection, without touching other streams."""
        gone = [want.stream for want in remove if want.stream in self.streams]
        for stream in gone:
            if self._succession is not None:
                self._succession.give_up(stream)
            self._streams.remove(stream)
        kept = set(map(key_of, self.streams))
        left = [key for key in dict.fromkeys(map(key_of, gone)) if key not in kept]
        steps = [commands.said(each) for each in self._subscriptions.unsubscribe(left, now)]
        confirmed = any(
            data_type is DataType.LIQUIDATION and state.phase in (Phase.ACKNOWLEDGED, Phase.LIVE)
            for (data_type, _), state in self.streams.items()
        )
        new = [want for want in add if want.stream not in self.streams]
        for want in new:
            self._streams.add(want, cursors.get(want.stream) or Cursor())
        fresh = [want.stream for want in new if key_of(want.stream) not in kept]
        turn = Turn(steps=[*steps, *self._subscribe(fresh, now)])
        if confirmed:
            for want in new:
                if want.data_type is DataType.LIQUIDATION:
                    self._stand(want.stream, now, turn)
        return turn

    def renew(self, stream: Stream, now: Moment) -> Turn:
        """Leave and subscribe again, soon, with others; of liquidations all, as they share a
        subscription. Where the hour's operations are nearly used up, what is out of step needs them
        more, and a book is left as it is. What is asked for anyway needs no renewal.
        """
        key = key_of(stream)
        if key in self._subscriptions.unconfirmed:
            return Turn()
        if stream[0] is not DataType.ORDERBOOK:
            self._subscriptions.renew(key)
        elif self._subscriptions.room(now) >= 2:
            state, book = self.streams[stream], self._streams.books[stream[1]]
            state.cursor.lose("stale", "it was silent, and is asked for anew")
            state.resyncs += 1
            book.restart()
            book.resubscribe_at = now.monotonic
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
        assert isinstance(elder, OkxSession)
        self._succession = Succession(elder, elder._streams, self._streams)

    def release(self, stream: Stream) -> object:
        """It is the younger's from now on: its book, or what was told of it last."""
        handed, key = self._streams.remove(stream), key_of(stream)
        if not self._streams.told_by(key):
            self._released.add(key)
            self._subscriptions.forget(key)
        return handed

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
        keys = list(dict.fromkeys(map(key_of, streams)))
        self._released.difference_update(keys)
        return [commands.said(command) for command in self._subscriptions.subscribe(keys, now)]

    def _resubscribe(self, now: Moment, turn: Turn) -> None:
        due = []
        room = self._subscriptions.room(now)
        for native_id, book in self._streams.books.items():
            if book.resubscribe_at is None or now.monotonic < book.resubscribe_at:
                continue
            key = key_of((DataType.ORDERBOOK, native_id))
            if key in self._subscriptions.unconfirmed or self._subscriptions.leaving(key):
                continue
            if room < 2:
                # The hour's operations are used up; the stream itself still stands.
                book.ask(turn)
                continue
            room -= 2
            book.restart()
            due.append(key)
        if due:
            turn.steps += map(commands.said, self._subscriptions.unsubscribe(due, now))
            turn.steps += map(commands.said, self._subscriptions.subscribe(due, now))

    def _lose_sight(self, command: Command[Key]) -> None:
        """Of what is left, to be asked for anew: what it says meanwhile is not heard."""
        for key in command.topics if command.leaving else ():
            for stream in self._streams.told_by(key):
                if self._succession is None or stream not in self._succession:
                    state = self.streams[stream]
                    state.cursor.lose("stale", "it was silent, and is asked for anew")
                    state.resyncs += 1

    def _push(self, key: Key, message: Message, sample: bytes, now: Moment, turn: Turn) -> None:
        self._heartbeat.spoke_at = now.monotonic
        if self._subscriptions.leaving(key):
            if not commands.begins_anew(self._subscriptions, key, message.action):
                return
            self._confirmed(key, now, turn)
        elif key not in self._subscriptions:
            if key not in self._released:
                why = f"no such subscription: {key}"
                turn.steps.append(Reject("unknown symbol", why, sample))
            return
        equals: Counter[str] = Counter()
        for element in message.data:
            try:
                events = self._read(key, message.action, element, equals, now, turn)
                self._subscriptions.spare(key)
                if self._subscriptions.heard(key):
                    self._confirmed(key, now, turn)
                for stream, event in events:
                    self._happened(stream, event, now, turn)
            except (*UNREADABLE, NotANumber) as error:
                turn.steps.append(_reject(error, bytes(element)))

    def _read(
        self,
        key: Key,
        action: str | None,
        element: msgspec.Raw,
        equals: Counter[str],
        now: Moment,
        turn: Turn,
    ) -> list[tuple[Stream, Event]]:
        """What an element tells. Raises what reading raises."""
        if key.channel != CHANNELS[DataType.LIQUIDATION]:
            stream = stream_of(key)
            return [(stream, self._streams.read(stream, action, element, now))]
        others = self._succession or ()
        records, bad = self._streams.liquidations(element, equals, others, now)
        turn.steps += [_reject(error, detail) for error, detail in bad]
        return [((DataType.LIQUIDATION, each.instrument.native_id), each) for each in records]

    def _happened(self, stream: Stream, event: Event, now: Moment, turn: Turn) -> None:
        if self._succession is None or not self._succession.hold(stream, event, now):
            self._streams.accept(stream, event, now, turn)

    def _event(self, message: Message, event: str, sample: bytes, now: Moment, turn: Turn) -> None:
        if event == "subscribe" and message.arg is not None:
            if self._subscriptions.accepted(message.arg.key):
                self._confirmed(message.arg.key, now, turn)
        elif event == "unsubscribe" and message.arg is not None:
            self._subscriptions.left(message.arg.key)
        elif event == "error":
            self._refused(message, sample, now, turn)
        elif event == "notice" and str(message.code) == UPGRADE:
            turn.steps.append(Rotate("the server announced its upgrade"))
        elif event != "notice" and event not in _IGNORED:
            turn.steps.append(Reject("unknown event", event[:80], sample))

    def _confirmed(self, key: Key, now: Moment, turn: Turn) -> None:
        for stream in self._streams.told_by(key):
            self._stand(stream, now, turn)

    def _stand(self, stream: Stream, now: Moment, turn: Turn) -> None:
        """Its subscription is confirmed."""
        if self._succession is not None and stream in self._succession:
            self._succession.confirmed(stream, now)
        else:
            self._streams.stand(stream, now, turn)

    def _refused(self, message: Message, sample: bytes, now: Moment, turn: Turn) -> None:
        code = str(message.code)
        why = f"{code}: {message.msg}" if code else message.msg
        turn.steps.append(Reject("command refused", why, sample))
        said = None if message.arg is None else message.arg.key
        for key in commands.refused(self._subscriptions, code, said, message.msg, now):
            for stream in self._streams.told_by(key):
                if self._succession is not None:
                    self._succession.refused(stream)
                if stream[0] is DataType.ORDERBOOK:
                    self._streams.books[stream[1]].refused()
                park(self.streams[stream], why, turn)


def _reject(error: Exception, sample: bytes) -> Reject:
    reason = "bad number" if isinstance(error, NotANumber) else "unfit event"
    return Reject(reason, str(error), sample[:SAMPLE_BYTES])
