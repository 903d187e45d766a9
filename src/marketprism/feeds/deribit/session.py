"""What one Deribit connection remembers: JSON-RPC requests, heartbeats, volatility indices."""

from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any, Final

import attrs
import msgspec

from marketprism.errors import Lost, RateLimited
from marketprism.feeds import decimals
from marketprism.feeds.deribit.messages import (
    UNREADABLE,
    Frame,
    VolatilityParams,
    read_channels,
    read_frame,
    read_heartbeat,
    read_volatility,
)
from marketprism.feeds.deribit.series import MILLISECOND, SAMPLE_BYTES, SECOND, Series, Tag
from marketprism.feeds.deribit.succession import Succession
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
    Send,
    Session,
    Stream,
    StreamState,
    Turn,
    Want,
)
from marketprism.settings import VenueConfig

CHANNEL: Final = "deribit_volatility_index."
ANSWER_WITHIN: Final = 15 * SECOND
"""A request that is not answered by then was not heard."""
SHORTEST_HEARTBEAT, USUAL_HEARTBEAT = 10, 30
"""Seconds: the least that Deribit takes, and what is asked for where nothing is configured."""
TOO_MANY_REQUESTS: Final = 10028
"""Deribit closes the connection with it."""


@attrs.define(eq=False)
class _Request:
    method: str
    streams: list[Stream]
    sent: int


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
        self._numbers = count(1)
        self._requests: dict[int, _Request] = {}
        self._succession: Succession | None = None
        self._released: set[str] = set()
        """Indices that another connection goes on with: what still comes of them is no news."""
        for want in wants:
            self._add(want, cursors.get(want.stream) or Cursor())

    def opening(self, now: Moment) -> Turn:
        """Ask for heartbeats, then subscribe."""
        asked = round(self._settings.limits.heartbeat) or USUAL_HEARTBEAT
        interval = max(asked, SHORTEST_HEARTBEAT)
        turn = Turn(steps=[self._say("public/set_heartbeat", {"interval": interval}, [], now)])
        turn.steps += self._subscribe(list(self.streams), now).steps
        return turn

    def sent(self, number: int, now: Moment) -> None:
        """No command has a number that is awaited."""

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
        return turn

    def reply(self, tag: object, answer: Fetched | FetchFailed, now: Moment) -> Turn:
        """What was missed, or why it cannot be had."""
        turn = Turn()
        assert isinstance(tag, Tag)
        if (series := self._series.get(tag.native_id)) is not None:
            series.answered(tag.attempt, answer, now, turn)
        return turn

    def tick(self, now: Moment) -> Turn:
        """Retries and time-outs; a request without an answer ends the connection."""
        turn = Turn()
        self._proceed(now, turn)
        for series in self._series.values():
            series.tick(now, turn)
        for request in self._requests.values():
            if now.monotonic - request.sent > ANSWER_WITHIN:
                turn.steps.append(Close(Lost(f"{request.method} was not answered")))
                break
        return turn

    def change(self, add: Sequence[Want], remove: Sequence[Want], now: Moment) -> Turn:
        """Subscribe and unsubscribe on the live connection."""
        turn = Turn()
        gone = [want.stream for want in remove if want.stream in self.streams]
        if gone:
            turn.steps.append(self._ask("public/unsubscribe", gone, now))
        for stream in gone:
            if self._succession is not None:
                self._succession.give_up(stream)
            del self.streams[stream]
            del self._series[stream[1]]
        new = [want for want in add if want.stream not in self.streams]
        for want in new:
            self._released.discard(want.instrument.native_id)
            self._add(want, Cursor())
        turn.steps += self._subscribe([want.stream for want in new], now).steps
        return turn

    def renew(self, stream: Stream, now: Moment) -> Turn:
        """Leave and subscribe again; what was missed is asked for when the next value comes."""
        self.streams[stream].cursor.lose("stale")
        self._series[stream[1]].restart()
        turn = Turn(steps=[self._ask("public/unsubscribe", [stream], now)])
        turn.steps += self._subscribe([stream], now).steps
        return turn

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
        self._released.add(stream[1])
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

    def _subscribe(self, streams: Sequence[Stream], now: Moment) -> Turn:
        size = self._settings.limits.subscribe_batch
        batches = [streams[start : start + size] for start in range(0, len(streams), size)]
        return Turn(steps=[self._ask("public/subscribe", batch, now) for batch in batches])

    def _ask(self, method: str, streams: Sequence[Stream], now: Moment) -> Send:
        channels = [CHANNEL + native_id for _, native_id in streams]
        return self._say(method, {"channels": channels}, streams, now)

    def _say(
        self, method: str, params: Mapping[str, Any], streams: Sequence[Stream], now: Moment
    ) -> Send:
        number = next(self._numbers)
        self._requests[number] = _Request(method, list(streams), now.monotonic)
        body = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        return Send(msgspec.json.encode(body).decode())

    def _hear(self, heard: Frame, frame: bytes, now: Moment, turn: Turn) -> None:
        sample = frame[:SAMPLE_BYTES]
        params = bytes(heard.params)
        if heard.method == "subscription":
            told = read_volatility(params)
            self._told(told, sample, now, turn)
        elif heard.method == "heartbeat":
            if read_heartbeat(params).type == "test_request":
                turn.steps.append(self._say("public/test", {}, [], now))
        elif heard.method is not None:
            turn.steps.append(Reject("unknown message", heard.method, sample))
        elif heard.id is None and heard.error is None:
            turn.steps.append(Reject("unknown message", "neither method nor id", sample))
        else:
            self._answered(heard, sample, now, turn)

    def _told(self, told: VolatilityParams, sample: bytes, now: Moment, turn: Turn) -> None:
        index, told_at = told.channel.removeprefix(CHANNEL), told.data.timestamp * MILLISECOND
        series = self._series.get(index)
        named = told.channel.startswith(CHANNEL) and told.data.index_name in (None, index)
        if not named or (series is None and index not in self._released):
            turn.steps.append(Reject("unknown channel", told.channel, sample))
        elif series is not None:
            value = decimals.from_json(bytes(told.data.volatility))
            stream = (series.state.data_type, index)
            if self._succession is None or not self._succession.hold(stream, told_at, value, now):
                series.hear(told_at, value, now, turn)

    def _answered(self, heard: Frame, sample: bytes, now: Moment, turn: Turn) -> None:
        request = None if heard.id is None else self._requests.pop(heard.id, None)
        if heard.error is not None:
            self._refused(request, heard.error.code, heard.error.message, sample, now, turn)
        elif request is None:
            turn.steps.append(Reject("unknown answer", "an answer to no request", sample))
        elif request.method == "public/subscribe":
            granted = read_channels(bytes(heard.result))
            for stream in request.streams:
                self._confirmed(stream, CHANNEL + stream[1] in granted, now, turn)

    def _confirmed(self, stream: Stream, granted: bool, now: Moment, turn: Turn) -> None:
        if (state := self.streams.get(stream)) is None:
            return
        if not granted:
            self._park(stream, state, "the exchange has no such channel", turn)
            return
        if state.phase in (Phase.WANTED, Phase.PARKED):
            state.phase = Phase.ACKNOWLEDGED
        if self._succession is not None:
            self._succession.confirmed(stream, now)

    def _refused(
        self,
        request: _Request | None,
        code: int,
        why: str,
        sample: bytes,
        now: Moment,
        turn: Turn,
    ) -> None:
        turn.steps.append(Reject("request refused", f"{code} {why}", sample))
        if code == TOO_MANY_REQUESTS:
            turn.steps.append(Close(RateLimited("Deribit says that we ask too much")))
        elif request is None or request.method != "public/subscribe":
            return
        elif len(request.streams) > 1:
            # One of them is to blame; alone, each says which.
            turn.steps += [self._ask(request.method, [stream], now) for stream in request.streams]
        elif (state := self.streams.get(request.streams[0])) is not None:
            self._park(request.streams[0], state, why, turn)

    def _park(self, stream: Stream, state: StreamState, why: str, turn: Turn) -> None:
        if self._succession is not None:
            self._succession.give_up(stream)
        state.phase, state.detail = Phase.PARKED, why
        turn.steps.append(Park(stream, why))
