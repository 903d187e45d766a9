"""What one Deribit connection remembers: JSON-RPC requests, heartbeats, volatility indices."""

from collections.abc import Mapping, Sequence
from typing import Final, Self

import msgspec

from marketprism import decimals
from marketprism.clock import MILLISECOND, SECOND, Moment
from marketprism.errors import Lost, RateLimited
from marketprism.feeds.actions import Close, Fetched, FetchFailed, Reject, Send, Step, Turn
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
from marketprism.feeds.subscribing import Command
from marketprism.feeds.venue import REFUSED_RETRY, SAMPLE_BYTES, Tag
from marketprism.records import DataType
from marketprism.settings.settings import VenueConfig
from marketprism.streams.cursor import Cursor
from marketprism.streams.subscription import Stream, Want

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
        wants: Sequence[Want],
        cursors: Mapping[Stream, Cursor],
        refused_retry: float = REFUSED_RETRY,
    ) -> None:
        known = Indices(name, settings)
        rules = requests.rules(settings.limits.subscribe_batch, refused_retry)
        url = settings.api.ws_url.rstrip("/") + "/ws/api/v2"
        super().__init__(name, url, known, rules, wants, cursors)
        self._settings = settings
        self._formalities = requests.Formalities()
        self._heartbeat_at: int | None = None
        """Monotonic: when heartbeats are asked for again."""
        self._spoke_at: int | None = None
        """Monotonic: when the exchange last told a value."""

    def opening(self, now: Moment) -> Turn:
        """Ask for heartbeats, then subscribe."""
        heartbeats = self._ask_for_heartbeats()
        return Turn(steps=[heartbeats, *self._subscribe(list(self.streams), now)])

    def sent(self, number: int, now: Moment) -> None:
        """Its answer is due from now on."""
        if not self._formalities.sent(number, now):
            self._subscriptions.sent(number, now)

    def receive(self, frames: Sequence[bytes], now: Moment) -> Turn:
        """Notifications and answers; what is neither is rejected and nothing else."""
        turn = Turn()
        for frame in frames:
            try:
                self._hear(read_frame(frame), frame, now, turn)
            except UNREADABLE as error:
                fits = isinstance(error, msgspec.ValidationError)
                reason = "unfit message" if fits else "not JSON"
                turn.steps.append(Reject(reason, str(error), frame[:SAMPLE_BYTES]))
            except decimals.NotANumber as error:
                turn.steps.append(Reject("bad number", str(error), frame[:SAMPLE_BYTES]))
        self._proceed(now, turn)
        turn.steps += self._said(self._subscriptions.proceed(now))
        return turn

    def reply(self, tag: object, answer: Fetched | FetchFailed, now: Moment) -> Turn:
        """What was missed, or why it cannot be had."""
        turn = Turn()
        assert isinstance(tag, Tag)
        if (series := self._streams.series.get(tag.native_id)) is not None:
            series.answered(tag.attempt, answer, now, turn)
        return turn

    def tick(self, now: Moment) -> Turn:
        """Retries and time-outs; a request without an answer ends the connection, unless that
        tells values.
        """
        turn = Turn()
        self._proceed(now, turn)
        for series in self._streams.series.values():
            series.tick(now, turn)
        if self._heartbeat_at is not None and now.monotonic >= self._heartbeat_at:
            turn.steps.append(self._ask_for_heartbeats())
        for method, sent_at in self._formalities.overdue(now):
            if not self._speaks(sent_at):
                turn.steps.append(Close(Lost(f"{method} was not answered")))
        self._ask_again(now, turn)
        return turn

    def renew(self, stream: Stream, now: Moment) -> Turn:
        """Leave and subscribe again, soon; what was missed is asked for when the next value
        comes.
        """
        self._subscriptions.renew(stream)
        return Turn()

    def _topic(self, stream: Stream) -> Stream:
        return stream

    def _told_by(self, topic: Stream) -> Sequence[Stream]:
        return [topic] if topic in self.streams else []

    def _words(self, topic: Stream) -> str:
        return CHANNEL + topic[1]

    def _said(self, asked: Sequence[Command[Stream]]) -> list[Step]:
        return list(map(requests.said, asked))

    def _speaks(self, since: int) -> bool:
        return self._spoke_at is not None and self._spoke_at >= since

    def _follow(self, elder: Self) -> Succession:
        return Succession(elder, elder._streams, self._streams)

    def _lose_sight(self, stream: Stream) -> None:
        self.streams[stream].cursor.lose("stale", "it was silent, and is asked for anew")
        self._streams.series[stream[1]].restart()

    def _ask_for_heartbeats(self) -> Send:
        self._heartbeat_at = None
        asked = round(self._settings.limits.heartbeat) or USUAL_HEARTBEAT
        interval = max(asked, SHORTEST_HEARTBEAT)
        number = self._subscriptions.number()
        return self._formalities.ask(number, HEARTBEATS, {"interval": interval})

    def _hear(self, heard: Frame, frame: bytes, now: Moment, turn: Turn) -> None:
        sample = frame[:SAMPLE_BYTES]
        params = bytes(heard.params)
        if heard.method == "subscription":
            told = read_volatility(params)
            self._told(told, sample, now, turn)
        elif heard.method == "heartbeat":
            if read_heartbeat(params).type == "test_request":
                number = self._subscriptions.number()
                turn.steps.append(self._formalities.ask(number, "public/test", {}))
        elif heard.method is not None:
            turn.steps.append(Reject("unknown message", heard.method, sample))
        elif (problem := heard.problem) is not None:
            self._refused(heard.number, problem, sample, now, turn)
        elif heard.id is None:
            turn.steps.append(Reject("unknown message", "neither method nor id", sample))
        else:
            self._answered(heard, sample, now, turn)

    def _told(self, told: VolatilityParams, sample: bytes, now: Moment, turn: Turn) -> None:
        index, told_at = told.channel.removeprefix(CHANNEL), told.data.timestamp * MILLISECOND
        named = told.channel.startswith(CHANNEL) and told.data.index_name in (None, index)
        stream = DataType.VOLATILITY_INDEX, index
        self._spoke_at = now.monotonic
        left = self._subscriptions.leaving(stream)
        if not named or not (stream in self.streams or left or stream in self._released):
            turn.steps.append(Reject("unknown channel", told.channel, sample))
        elif stream in self.streams and not left:
            value = decimals.from_json(bytes(told.data.volatility))
            self._subscriptions.spare(stream)
            if self._subscriptions.heard(stream):
                self._confirmed(stream, now, turn)
            self._happened(stream, (told_at, value), now, turn)

    def _answered(self, heard: Frame, sample: bytes, now: Moment, turn: Turn) -> None:
        number = heard.number
        if self._formalities.answered(number) is not None:
            return
        left_out = [] if number is None else self._left_out(number, heard.result)
        for stream in left_out:
            if self._subscriptions.refused_topic(stream, now, passes=False):
                self._park(stream, "the exchange has no such channel", turn)
        granted = None if number is None else self._subscriptions.granted(number)
        if granted is None:
            turn.steps.append(Reject("unknown answer", "an answer to no request", sample))
        for stream in granted or ():
            self._confirmed(stream, now, turn)

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
        self, number: int | None, problem: Problem, sample: bytes, now: Moment, turn: Turn
    ) -> None:
        turn.steps.append(Reject("request refused", problem.words, sample))
        if problem.number == answers.TOO_MANY_REQUESTS:
            turn.steps.append(Close(RateLimited("Deribit says that we ask too much")))
        elif (method := self._formalities.answered(number)) is not None:
            if method == HEARTBEATS:
                self._heartbeat_at = now.monotonic + HEARTBEAT_AGAIN
        else:
            passes = problem.number in answers.PASSING
            for stream in self._subscriptions.refused(number, now, passes=passes):
                self._park(stream, problem.words, turn)
