"""What one connection to the Bourse remembers."""

from collections.abc import Mapping, Sequence
from typing import Self

import msgspec

from bourse import messages
from bourse.streams import TOPICS, BourseStreams, Event, Succession
from marketprism.clock import SECOND, Timestamp
from marketprism.decimals import NotANumber
from marketprism.feeds.actions import Action, Output, Reject, Send
from marketprism.feeds.commands import Command, Rules
from marketprism.feeds.conversation import Conversation
from marketprism.feeds.venue import REFUSED_RETRY, SAMPLE_BYTES
from marketprism.records import DataType
from marketprism.settings.exchanges import VenueConfig
from marketprism.streams.cursor import Cursor
from marketprism.streams.subscription import Stream, Subscription

ANSWER_WITHIN = 10 * SECOND
AN_HOUR = 900
"""Commands; the Bourse allows 1,000."""


class BourseSession(Conversation[str, BourseStreams, Event]):
    """One connection's memory; a topic is `trades:BTC-USDT`."""

    def __init__(
        self,
        settings: VenueConfig,
        name: str,
        subscriptions: Sequence[Subscription],
        cursors: Mapping[Stream, Cursor],
        refused_retry: float = REFUSED_RETRY,
    ) -> None:
        known = BourseStreams(name, settings, refused_retry)
        rules = Rules(settings.limits.subscribe_batch, ANSWER_WITHIN, refused_retry, AN_HOUR)
        url = settings.api.ws_url.rstrip("/") + "/feed"
        super().__init__(name, url, known, rules, subscriptions, cursors)
        self._spoke_at = -1

    def opening(self, now: Timestamp) -> Output:
        return Output(actions=self._subscribe(list(self.streams), now))

    def receive(self, frames: Sequence[bytes], now: Timestamp) -> Output:
        output = Output()
        for frame in frames:
            try:
                self._on_message(messages.read(frame), now, output)
            except (msgspec.DecodeError, UnicodeDecodeError, NotANumber) as error:
                output.actions.append(Reject("unfit message", str(error), frame[:SAMPLE_BYTES]))
        self._proceed(now, output)
        output.actions += self._said(self._subscriptions.proceed(now))
        return output

    def tick(self, now: Timestamp) -> Output:
        output = Output()
        self._proceed(now, output)
        self._tick_books(now, output)
        self._ask_again(now, output)
        return output

    def renew(self, stream: Stream, now: Timestamp) -> Output:
        self._subscriptions.renew(self._topic(stream))
        return Output()

    def _on_message(self, said: messages.Said, now: Timestamp, output: Output) -> None:
        topic = said.topic
        if not topic:
            self._answered(said, now, output)
            return
        self._spoke_at = now.monotonic
        if topic not in self._subscriptions:
            if topic not in self._released:
                output.actions.append(Reject("unknown topic", topic[:80], b""))
        elif not self._subscriptions.leaving(topic):
            (stream,) = self._told_by(topic)
            event = self._streams.read(stream, said, now)
            self._subscriptions.cancel_renewal(topic)
            if self._subscriptions.heard(topic):
                self._confirmed(topic, now, output)
            self._happened(stream, event, now, output)

    def _answered(self, said: messages.Said, now: Timestamp, output: Output) -> None:
        number = said.id if isinstance(said.id, int) else None
        if said.error:
            output.actions.append(Reject("command refused", said.error, b""))
            for topic in self._subscriptions.refused(number, now, passes=True):
                self._refuse(topic, said.error, output)
            return
        for topic, why in said.refused.items():
            if self._subscriptions.refused_topic(topic, now, passes=False):
                self._refuse(topic, why, output)
        for topic in (None if number is None else self._subscriptions.granted(number)) or ():
            self._confirmed(topic, now, output)

    def _refuse(self, topic: str, why: str, output: Output) -> None:
        for stream in self._told_by(topic):
            self._park(stream, why, output)

    def _topic(self, stream: Stream) -> str:
        return f"{TOPICS[stream[0]]}:{stream[1]}"

    def _told_by(self, topic: str) -> Sequence[Stream]:
        kind, _, market = topic.partition(":")
        stream = DataType.TRADE if kind == TOPICS[DataType.TRADE] else DataType.ORDERBOOK, market
        return [stream] if stream in self.streams else []

    def _words(self, topic: str) -> str:
        return topic

    def _said(self, asked: Sequence[Command[str]]) -> list[Action]:
        return [
            Send(
                msgspec.json.encode(
                    {
                        "op": "unsubscribe" if command.leaving else "subscribe",
                        "id": command.number,
                        "topics": command.topics,
                    }
                ).decode(),
                command.number,
            )
            for command in asked
        ]

    def _speaks(self, since: int) -> bool:
        return self._spoke_at >= since

    def _follow(self, old: Self) -> Succession:
        return Succession(old, old._streams, self._streams)

    def _lose_sight(self, stream: Stream, now: Timestamp) -> None:
        if not self._awaits(stream):
            state = self.streams[stream]
            state.cursor.lose("stale", state.silence(now.monotonic))
            if stream[0] is DataType.ORDERBOOK:
                self._streams.books[stream[1]].restart()
