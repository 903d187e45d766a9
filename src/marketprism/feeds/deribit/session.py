"""What one Deribit connection remembers: JSON-RPC requests, heartbeats, volatility indices."""

from collections.abc import Mapping, Sequence
from typing import Final, Self

import msgspec

from marketprism import decimals
from marketprism.clock import MILLISECOND, SECOND, Timestamp
from marketprism.errors import Lost, RateLimited
from marketprism.feeds.actions import Action, Close, Fetched, FetchFailed, Output, Reject, Send
from marketprism.feeds.commands import Command
from marketprism.feeds.conversation import Conversation
from marketprism.feeds.deribit import answers, requests
from marketprism.feeds.deribit.indices import Indices, Succession, Value
from marketprism.feeds.deribit.messages import (
    UNREADABLE,
    Frame,
    Problem,
    VolatilityParams,
    read_channels,
    read_frame,
    read_heartbeat,
    read_volatility,
)
from marketprism.feeds.deribit.requests import CHANNEL
from marketprism.feeds.venue import REFUSED_RETRY, SAMPLE_BYTES, Tag
from marketprism.records import DataType
from marketprism.settings.exchanges import VenueConfig
from marketprism.streams.cursor import Cursor
from marketprism.streams.subscription import Stream, Subscription

HEARTBEATS: Final = "public/set_heartbeat"
SHORTEST_HEARTBEAT, USUAL_HEARTBEAT = 10, 30
"""Seconds: the least that Deribit takes, and what is asked for where nothing is configured."""
HEARTBEAT_AGAIN: Final = 30 * SECOND
"""From a refusal of heartbeats to asking for them again."""


class DeribitSession(Conversation[Stream, Indices, Value]):
    """One connection's memory."""

    def __init__(
        self,
        settings: VenueConfig,
        name: str,
        subscriptions: Sequence[Subscription],
        cursors: Mapping[Stream, Cursor],
        refused_retry: float = REFUSED_RETRY,
    ) -> None:
        known = Indices(name, settings)
        rules = requests.rules(settings.limits.subscribe_batch, refused_retry)
        url = settings.api.ws_url.rstrip("/") + "/ws/api/v2"
        super().__init__(name, url, known, rules, subscriptions, cursors)
        self._settings = settings
        self._formalities = requests.Formalities()
        self._heartbeat_at: int | None = None
        """Monotonic: when heartbeats are asked for again."""
        self._spoke_at: int | None = None
        """Monotonic: when the exchange last told a value."""

    def opening(self, now: Timestamp) -> Output:
        """Ask for heartbeats, then subscribe."""
        heartbeats = self._ask_for_heartbeats()
        return Output(actions=[heartbeats, *self._subscribe(list(self.streams), now)])

    def sent(self, number: int, now: Timestamp) -> None:
        """Its answer is due from now on."""
        if not self._formalities.sent(number, now):
            self._subscriptions.sent(number, now)

    def receive(self, frames: Sequence[bytes], now: Timestamp) -> Output:
        """Notifications and answers; what is neither is rejected and nothing else."""
        output = Output()
        for frame in frames:
            try:
                self._on_frame(read_frame(frame), frame, now, output)
            except UNREADABLE as error:
                fits = isinstance(error, msgspec.ValidationError)
                reason = "unfit message" if fits else "not JSON"
                output.actions.append(Reject(reason, str(error), frame[:SAMPLE_BYTES]))
            except decimals.NotANumber as error:
                output.actions.append(Reject("bad number", str(error), frame[:SAMPLE_BYTES]))
        self._proceed(now, output)
        output.actions += self._said(self._subscriptions.proceed(now))
        return output

    def reply(self, tag: object, answer: Fetched | FetchFailed, now: Timestamp) -> Output:
        """What was missed, or why it cannot be had."""
        output = Output()
        assert isinstance(tag, Tag)
        if (series := self._streams.series.get(tag.native_id)) is not None:
            series.answered(tag.attempt, answer, now, output)
        return output

    def tick(self, now: Timestamp) -> Output:
        """Retries and time-outs; a request without an answer ends the connection, unless that
        tells values.
        """
        output = Output()
        self._proceed(now, output)
        for series in self._streams.series.values():
            series.tick(now, output)
        if self._heartbeat_at is not None and now.monotonic >= self._heartbeat_at:
            output.actions.append(self._ask_for_heartbeats())
        for method, sent_at in self._formalities.overdue(now):
            if not self._speaks(sent_at):
                output.actions.append(Close(Lost(f"{method} was not answered")))
        self._ask_again(now, output)
        return output

    def renew(self, stream: Stream, now: Timestamp) -> Output:
        """Leave and subscribe again, soon; what was missed is asked for when the next value
        comes.
        """
        self._subscriptions.renew(stream)
        return Output()

    def _topic(self, stream: Stream) -> Stream:
        return stream

    def _told_by(self, topic: Stream) -> Sequence[Stream]:
        return [topic] if topic in self.streams else []

    def _words(self, topic: Stream) -> str:
        return CHANNEL + topic[1]

    def _said(self, asked: Sequence[Command[Stream]]) -> list[Action]:
        return list(map(requests.said, asked))

    def _speaks(self, since: int) -> bool:
        return self._spoke_at is not None and self._spoke_at >= since

    def _follow(self, old: Self) -> Succession:
        return Succession(old, old._streams, self._streams)

    def _lose_sight(self, stream: Stream, now: Timestamp) -> None:
        state = self.streams[stream]
        state.cursor.lose("stale", state.silence(now.monotonic))
        self._streams.series[stream[1]].restart()

    def _ask_for_heartbeats(self) -> Send:
        self._heartbeat_at = None
        asked = round(self._settings.limits.heartbeat) or USUAL_HEARTBEAT
        interval = max(asked, SHORTEST_HEARTBEAT)
        number = self._subscriptions.number()
        return self._formalities.ask(number, HEARTBEATS, {"interval": interval})

    def _on_frame(self, heard: Frame, frame: bytes, now: Timestamp, output: Output) -> None:
        sample = frame[:SAMPLE_BYTES]
        params = bytes(heard.params)
        if heard.method == "subscription":
            told = read_volatility(params)
            self._on_value(told, sample, now, output)
        elif heard.method == "heartbeat":
            if read_heartbeat(params).type == "test_request":
                number = self._subscriptions.number()
                output.actions.append(self._formalities.ask(number, "public/test", {}))
        elif heard.method is not None:
            output.actions.append(Reject("unknown message", heard.method, sample))
        elif (problem := heard.problem) is not None:
            self._refused(heard.number, problem, sample, now, output)
        elif heard.id is None:
            output.actions.append(Reject("unknown message", "neither method nor id", sample))
        else:
            self._answered(heard, sample, now, output)

    def _on_value(
        self, told: VolatilityParams, sample: bytes, now: Timestamp, output: Output
    ) -> None:
        index, told_at = told.channel.removeprefix(CHANNEL), told.data.timestamp * MILLISECOND
        named = told.channel.startswith(CHANNEL) and told.data.index_name in (None, index)
        stream = DataType.VOLATILITY_INDEX, index
        self._spoke_at = now.monotonic
        left = self._subscriptions.leaving(stream)
        if not named or not (stream in self.streams or left or stream in self._released):
            output.actions.append(Reject("unknown channel", told.channel, sample))
        elif stream in self.streams and not left:
            value = decimals.from_json(bytes(told.data.volatility))
            self._subscriptions.cancel_renewal(stream)
            if self._subscriptions.heard(stream):
                self._confirmed(stream, now, output)
            self._happened(stream, (told_at, value), now, output)

    def _answered(self, heard: Frame, sample: bytes, now: Timestamp, output: Output) -> None:
        number = heard.number
        if self._formalities.answered(number) is not None:
            return
        left_out = [] if number is None else self._left_out(number, heard.result)
        for stream in left_out:
            if self._subscriptions.refused_topic(stream, now, passes=False):
                self._park(stream, "the exchange has no such channel", output)
        granted = None if number is None else self._subscriptions.granted(number)
        if granted is None:
            output.actions.append(Reject("unknown answer", "an answer to no request", sample))
        for stream in granted or ():
            self._confirmed(stream, now, output)

    def _left_out(self, number: int, result: msgspec.Raw) -> list[Stream]:
        """What was asked for with that number, has not spoken yet, and is not in the list of what
        is granted. Where the answer is no list, it is about all.
        """
        asked = next((each for each in self._subscriptions.asking() if each.number == number), None)
        try:
            granted = read_channels(bytes(result))
        except UNREADABLE:
            return []
        return [
            stream
            for stream in (asked.topics if asked is not None else ())
            if CHANNEL + stream[1] not in granted and stream in self._subscriptions.unconfirmed
        ]

    def _refused(
        self, number: int | None, problem: Problem, sample: bytes, now: Timestamp, output: Output
    ) -> None:
        output.actions.append(Reject("request refused", problem.words, sample))
        if problem.number == answers.TOO_MANY_REQUESTS:
            output.actions.append(Close(RateLimited("Deribit says that we ask too much")))
        elif (method := self._formalities.answered(number)) is not None:
            if method == HEARTBEATS:
                self._heartbeat_at = now.monotonic + HEARTBEAT_AGAIN
        else:
            passes = problem.number in answers.PASSING
            for stream in self._subscriptions.refused(number, now, passes=passes):
                self._park(stream, problem.words, output)
