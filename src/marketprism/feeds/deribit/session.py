"""What one Deribit connection remembers: JSON-RPC requests, heartbeats, volatility indices."""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from marketprism.clock import MILLISECOND, SECOND, Moment
from marketprism.errors import Lost, RateLimited
from marketprism.feeds import decimals
from marketprism.feeds.deribit import answers, requests
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
from marketprism.feeds.deribit.series import Series
from marketprism.feeds.deribit.succession import Succession
from marketprism.feeds.subscribing import Command, Subscriptions, doubted, park
from marketprism.feeds.venue import (
    NO_CURSORS,
    REFUSED_RETRY,
    SAMPLE_BYTES,
    Close,
    Cursor,
    Fetched,
    FetchFailed,
    Holding,
    Phase,
    Reject,
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

HEARTBEATS: Final = "public/set_heartbeat"
SHORTEST_HEARTBEAT, USUAL_HEARTBEAT = 10, 30
"""Seconds: the least that Deribit takes, and what is asked for where nothing is configured."""
HEARTBEAT_AGAIN: Final = 30 * SECOND
"""From a refusal of heartbeats to asking for them again."""


class DeribitSession:
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
        self.url = settings.api.ws_url.rstrip("/") + "/ws/api/v2"
        self.streams: dict[Stream, StreamState] = {}
        self._settings = settings
        self._series: dict[str, Series] = {}
        rules = requests.rules(settings.limits.subscribe_batch, refused_retry)
        self._subscriptions = Subscriptions[Stream](name, rules)
        self._formalities = requests.Formalities()
        self._heartbeat_at: int | None = None
        """Monotonic: when heartbeats are asked for again."""
        self._spoke_at: int | None = None
        """Monotonic: when the exchange last told a value."""
        self._succession: Succession | None = None
        self._released: set[Stream] = set()
        """Indices that another connection goes on with: what still comes of them is no news."""
        for want in wants:
            self._add(want, cursors.get(want.stream) or Cursor())

    def opening(self, now: Moment) -> Turn:
        """Ask for heartbeats, then subscribe."""
        turn = Turn(steps=[self._ask_for_heartbeats()])
        self._say(self._subscriptions.subscribe(list(self.streams), now), turn)
        return turn

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
        self._say(self._subscriptions.proceed(now), turn)
        return turn

    def reply(self, tag: object, answer: Fetched | FetchFailed, now: Moment) -> Turn:
        """What was missed, or why it cannot be had."""
        turn = Turn()
        assert isinstance(tag, Tag)
        if (series := self._series.get(tag.native_id)) is not None:
            series.answered(tag.attempt, answer, now, turn)
        return turn

    def tick(self, now: Moment) -> Turn:
        """Retries and time-outs; a request without an answer ends the connection, unless that
        tells values.
        """
        turn = Turn()
        self._proceed(now, turn)
        for series in self._series.values():
            series.tick(now, turn)
        if self._heartbeat_at is not None and now.monotonic >= self._heartbeat_at:
            turn.steps.append(self._ask_for_heartbeats())
        for method, sent_at in self._formalities.overdue(now):
            if not self._spoke_since(sent_at):
                turn.steps.append(Close(Lost(f"{method} was not answered")))
        due = self._subscriptions.tick(now)
        for command in due.commands:
            self._lose_sight(command)
        self._say(due.commands, turn)
        if due.unheard:
            speaks = self._spoke_since(now.monotonic - requests.ANSWER_WITHIN)
            turn.steps.append(doubted(CHANNEL + due.unheard[0][1], speaks=speaks))
        return turn

    def change(
        self,
        add: Sequence[Want],
        remove: Sequence[Want],
        now: Moment,
        cursors: Mapping[Stream, Cursor] = NO_CURSORS,
    ) -> Turn:
        """Subscribe and unsubscribe on the live connection."""
        turn = Turn()
        gone = [want.stream for want in remove if want.stream in self.streams]
        self._say(self._subscriptions.unsubscribe(gone, now), turn)
        for stream in gone:
            if self._succession is not None:
                self._succession.give_up(stream)
            del self.streams[stream]
            del self._series[stream[1]]
        new = [want for want in add if want.stream not in self.streams]
        for want in new:
            self._released.discard(want.stream)
            self._add(want, cursors.get(want.stream) or Cursor())
        self._say(self._subscriptions.subscribe([want.stream for want in new], now), turn)
        return turn

    def renew(self, stream: Stream, now: Moment) -> Turn:
        """Leave and subscribe again, soon; what was missed is asked for when the next value
        comes.
        """
        self._subscriptions.renew(stream)
        return Turn()

    def restate(self, stream: Stream, heals: int, now: Moment) -> Turn:
        """Nothing: there is no book here."""
        return Turn()

    def holding(self) -> Holding:
        """Nothing that counts."""
        return Holding()

    def forgo(self, now: Moment) -> None:
        """Nothing waits for a snapshot here."""

    def adopt(self, elder: Session) -> None:
        """Take over from the session of a connection that is to end, index by index."""
        self._succession = Succession(elder, self._series)

    def release(self, stream: Stream) -> object:
        """It is the younger's from now on."""
        del self.streams[stream]
        self._released.add(stream)
        self._subscriptions.forget(stream)
        return self._series.pop(stream[1])

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

    def _add(self, want: Want, cursor: Cursor) -> None:
        state = StreamState(want.instrument, want.data_type, cursor)
        self.streams[want.stream] = state
        base_url = self._settings.api.base_url.rstrip("/")
        self._series[want.instrument.native_id] = Series(state, base_url, self.name)

    def _say(self, commands: Sequence[Command[Stream]], turn: Turn) -> None:
        turn.steps += map(requests.said, commands)

    def _ask_for_heartbeats(self) -> Send:
        self._heartbeat_at = None
        asked = round(self._settings.limits.heartbeat) or USUAL_HEARTBEAT
        interval = max(asked, SHORTEST_HEARTBEAT)
        number = self._subscriptions.number()
        return self._formalities.ask(number, HEARTBEATS, {"interval": interval})

    def _spoke_since(self, moment: int) -> bool:
        return self._spoke_at is not None and self._spoke_at >= moment

    def _lose_sight(self, command: Command[Stream]) -> None:
        """Of what is left, to be asked for anew: what it says meanwhile is not heard."""
        for stream in command.topics if command.leaving else ():
            self.streams[stream].cursor.lose("stale", "it was silent, and is asked for anew")
            self._series[stream[1]].restart()

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
        series = self._series.get(index)
        self._spoke_at = now.monotonic
        left = self._subscriptions.leaving(stream)
        if not named or not (series or left or stream in self._released):
            turn.steps.append(Reject("unknown channel", told.channel, sample))
        elif series is not None and not left:
            value = decimals.from_json(bytes(told.data.volatility))
            self._subscriptions.spare(stream)
            if self._subscriptions.heard(stream):
                self._confirmed(stream, now)
            if self._succession is None or not self._succession.hold(stream, told_at, value, now):
                series.hear(told_at, value, now, turn)

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
            self._confirmed(stream, now)

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

    def _confirmed(self, stream: Stream, now: Moment) -> None:
        if (state := self.streams.get(stream)) is None:
            return
        if state.phase in (Phase.WANTED, Phase.PARKED):
            state.phase, state.detail = Phase.ACKNOWLEDGED, None
        if self._succession is not None:
            self._succession.confirmed(stream, now)

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

    def _park(self, stream: Stream, why: str, turn: Turn) -> None:
        if self._succession is not None:
            self._succession.refused(stream)
        park(self.streams[stream], why, turn)
