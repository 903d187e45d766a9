"""What one OKX connection remembers: subscriptions, books, and how far each stream is."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final, Self

import msgspec

from marketprism.clock import SECOND, Timestamp
from marketprism.decimals import NotANumber
from marketprism.feeds.actions import Action, Output, Reject, Rotate
from marketprism.feeds.commands import Command
from marketprism.feeds.conversation import Conversation
from marketprism.feeds.okx import commands
from marketprism.feeds.okx.heartbeat import Heartbeat
from marketprism.feeds.okx.messages import UNREADABLE, Key, Message, read_message
from marketprism.feeds.okx.streams import CHANNELS, Event, OkxStreams, key_of, stream_of
from marketprism.feeds.okx.succession import Held, Succession
from marketprism.feeds.venue import REFUSED_RETRY, SAMPLE_BYTES
from marketprism.records import DataType
from marketprism.settings.exchanges import VenueConfig
from marketprism.streams.cursor import Cursor
from marketprism.streams.subscription import Stream, Subscription

UPGRADE: Final = "64008"
"""A notice 60 s before a server is upgraded."""
_IGNORED: Final = frozenset({"channel-conn-count", "login"})


class OkxSession(Conversation[Key, OkxStreams, Held]):
    """One connection's memory."""

    def __init__(
        self,
        settings: VenueConfig,
        name: str,
        subscriptions: Sequence[Subscription],
        cursors: Mapping[Stream, Cursor],
        refused_retry: float = REFUSED_RETRY,
    ) -> None:
        known = OkxStreams(name, settings, refused_retry)
        rules = commands.rules(settings.limits.subscribe_batch, refused_retry)
        url = settings.api.ws_url.rstrip("/") + "/ws/v5/public"
        super().__init__(name, url, known, rules, subscriptions, cursors)
        self._heartbeat = Heartbeat(round(settings.limits.heartbeat * SECOND))

    def opening(self, now: Timestamp) -> Output:
        """Everything is subscribed at once; books bring their own snapshots."""
        self._heartbeat.begin(now)
        return Output(actions=self._subscribe(list(self.streams), now))

    def sent(self, number: int, now: Timestamp) -> None:
        """Its answer is due from now on."""
        if not self._heartbeat.sent(number, now):
            self._subscriptions.sent(number, now)

    def receive(self, frames: Sequence[bytes], now: Timestamp) -> Output:
        """Pushes, answers to commands and notices; what is neither is rejected, nothing else."""
        output = Output()
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
                output.actions.append(Reject(reason, str(error), sample))
                continue
            if message.event is not None:
                self._event(message, message.event, sample, now, output)
            elif message.arg is not None and message.data:
                self._push(message.arg.key, message, sample, now, output)
            elif message.code not in ("", "0", 0):
                self._refused(message, sample, now, output)
            else:
                output.actions.append(Reject("not an event", "neither event nor push", sample))
        self._proceed(now, output)
        output.actions += self._said(self._subscriptions.proceed(now))
        return output

    def tick(self, now: Timestamp) -> Output:
        """Heartbeat; subscriptions, all that are due in one message; due snapshots; time-outs."""
        output = Output()
        if (dead := self._heartbeat.failed(now)) is not None:
            output.actions.append(dead)
        if self._heartbeat.due(now):
            output.actions.append(self._heartbeat.ping(self._subscriptions.number(), now))
        self._proceed(now, output)
        self._resubscribe(now, output)
        self._tick_books(now, output)
        self._ask_again(now, output)
        return output

    def renew(self, stream: Stream, now: Timestamp) -> Output:
        """Leave and subscribe again, soon, with others; of liquidations all, as they share a
        subscription. Where the hour's operations are nearly used up, what is out of step needs them
        more, and a book is left as it is. What is asked for anyway needs no renewal.
        """
        key = key_of(stream)
        if key in self._subscriptions.unconfirmed:
            return Output()
        if stream[0] is not DataType.ORDERBOOK:
            self._subscriptions.renew(key)
        elif self._subscriptions.room(now) >= 2:
            state, book = self.streams[stream], self._streams.books[stream[1]]
            state.cursor.lose("stale", state.silence(now.monotonic))
            state.resyncs += 1
            book.restart()
            book.resubscribe_at = now.monotonic
        return Output()

    def _topic(self, stream: Stream) -> Key:
        return key_of(stream)

    def _told_by(self, topic: Key) -> Sequence[Stream]:
        return self._streams.told_by(topic)

    def _words(self, topic: Key) -> str:
        return f"{topic.channel} of {topic.subject}"

    def _said(self, asked: Sequence[Command[Key]]) -> list[Action]:
        return list(map(commands.said, asked))

    def _speaks(self, since: int) -> bool:
        return self._heartbeat.spoke_since(since)

    def _follow(self, old: Self) -> Succession:
        return Succession(old, old._streams, self._streams)

    def _resubscribe(self, now: Timestamp, output: Output) -> None:
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
                output.actions.append(book.begin())
                continue
            room -= 2
            book.restart()
            due.append(key)
        if due:
            output.actions += self._said(self._subscriptions.unsubscribe(due, now))
            output.actions += self._said(self._subscriptions.subscribe(due, now))

    def _lose_sight(self, stream: Stream, now: Timestamp) -> None:
        if not self._awaits(stream):
            state = self.streams[stream]
            state.cursor.lose("stale", state.silence(now.monotonic))
            state.resyncs += 1

    def _push(
        self, key: Key, message: Message, sample: bytes, now: Timestamp, output: Output
    ) -> None:
        self._heartbeat.spoke_at = now.monotonic
        if self._subscriptions.leaving(key):
            if not commands.begins_anew(self._subscriptions, key, message.action):
                return
            self._confirmed(key, now, output)
        elif key not in self._subscriptions:
            if key not in self._released:
                why = f"no such subscription: {key}"
                output.actions.append(Reject("unknown symbol", why, sample))
            return
        equals: Counter[str] = Counter()
        for element in message.data:
            try:
                events = self._read(key, message.action, element, equals, now, output)
                self._subscriptions.cancel_renewal(key)
                if self._subscriptions.heard(key):
                    self._confirmed(key, now, output)
                for stream, event in events:
                    self._happened(stream, event, now, output)
            except (*UNREADABLE, NotANumber) as error:
                output.actions.append(_reject(error, bytes(element)))

    def _read(
        self,
        key: Key,
        action: str | None,
        element: msgspec.Raw,
        equals: Counter[str],
        now: Timestamp,
        output: Output,
    ) -> list[tuple[Stream, Event]]:
        """What an element tells. Raises what reading raises."""
        if key.channel != CHANNELS[DataType.LIQUIDATION]:
            stream = stream_of(key)
            return [(stream, self._streams.read(stream, action, element, now))]
        others = self._succession or ()
        records, bad = self._streams.liquidations(element, equals, others, now)
        output.actions += [_reject(error, detail) for error, detail in bad]
        return [((DataType.LIQUIDATION, each.instrument.native_id), each) for each in records]

    def _event(
        self, message: Message, event: str, sample: bytes, now: Timestamp, output: Output
    ) -> None:
        if event == "subscribe" and message.arg is not None:
            if self._subscriptions.accepted(message.arg.key):
                self._confirmed(message.arg.key, now, output)
        elif event == "unsubscribe" and message.arg is not None:
            self._subscriptions.left(message.arg.key)
        elif event == "error":
            self._refused(message, sample, now, output)
        elif event == "notice" and str(message.code) == UPGRADE:
            output.actions.append(Rotate("the server announced its upgrade"))
        elif event != "notice" and event not in _IGNORED:
            output.actions.append(Reject("unknown event", event[:80], sample))

    def _refused(self, message: Message, sample: bytes, now: Timestamp, output: Output) -> None:
        code = str(message.code)
        why = f"{code}: {message.msg}" if code else message.msg
        output.actions.append(Reject("command refused", why, sample))
        said = None if message.arg is None else message.arg.key
        for key in commands.refused(self._subscriptions, code, said, message.msg, now):
            for stream in self._streams.told_by(key):
                if stream[0] is DataType.ORDERBOOK:
                    self._streams.books[stream[1]].refused()
                self._park(stream, why, output)


def _reject(error: Exception, sample: bytes) -> Reject:
    reason = "bad number" if isinstance(error, NotANumber) else "unfit event"
    return Reject(reason, str(error), sample[:SAMPLE_BYTES])
