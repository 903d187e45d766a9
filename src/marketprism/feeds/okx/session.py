"""What one OKX connection remembers: subscriptions, books, and how far each stream is."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import quote

import msgspec

from marketprism.errors import Lost
from marketprism.feeds.decimals import NotANumber
from marketprism.feeds.okx import channels
from marketprism.feeds.okx.book import SECOND, BookStream, Tag
from marketprism.feeds.okx.messages import (
    UNREADABLE,
    Arg,
    Key,
    Message,
    read_book,
    read_message,
)
from marketprism.feeds.okx.subscriptions import Subscriptions
from marketprism.feeds.thinning import FundingThinning
from marketprism.feeds.venue import (
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
    Stream,
    StreamState,
    Turn,
    Want,
)
from marketprism.records import DataType
from marketprism.settings import VenueConfig

CHANNELS: Final[Mapping[DataType, str]] = {
    DataType.ORDERBOOK: "books",
    DataType.TRADE: "trades",
    DataType.FUNDING_RATE: "funding-rate",
    DataType.OPEN_INTEREST: "open-interest",
    DataType.LIQUIDATION: "liquidation-orders",
}
LIQUIDATED: Final = "SWAP"
"""The instrument type whose liquidations are subscribed."""
PONG_WITHIN: Final = 10 * SECOND
SAMPLE_BYTES: Final = 200
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
    ) -> None:
        self.name = name
        self.url = settings.api.ws_url.rstrip("/") + "/ws/v5/public"
        self.streams: dict[Stream, StreamState] = {}
        self._settings = settings
        self._snapshots = settings.api.base_url.rstrip("/") + "/api/v5/market/books"
        self._books: dict[str, BookStream] = {}
        self._thinning: dict[str, FundingThinning] = {}
        self._liquidations = channels.Liquidations(name)
        self._subscriptions = Subscriptions(settings.limits.subscribe_batch)
        self._ping_at: int | None = None
        self._pong_by: int | None = None
        for want in wants:
            self._add(want, cursors.get(want.stream) or Cursor())

    def opening(self, now: Moment) -> Turn:
        """Everything is subscribed at once; books bring their own snapshots."""
        if heartbeat := self._settings.limits.heartbeat:
            self._ping_at = now.monotonic + round(heartbeat * SECOND)
        return Turn(steps=[*self._subscribe(list(self.streams), now)])

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
        return turn

    def reply(self, tag: object, answer: Fetched | FetchFailed, now: Moment) -> Turn:
        """A snapshot, or why there is none."""
        turn = Turn()
        assert isinstance(tag, Tag)
        if (book := self._books.get(tag.native_id)) is not None:
            book.answered(tag.attempt, answer, now, turn)
        return turn

    def tick(self, now: Moment) -> Turn:
        """Heartbeat; resubscriptions, all that are due in one message; due snapshots; time-outs."""
        turn = Turn()
        self._beat(now, turn)
        self._resubscribe(now, turn)
        for book in self._books.values():
            book.tick(now, turn)
        again, unheard = self._subscriptions.overdue(now)
        turn.steps += again
        if unheard:
            turn.steps.append(Close(Lost("a subscription was not answered")))
        return turn

    def change(self, add: Sequence[Want], remove: Sequence[Want], now: Moment) -> Turn:
        """Subscribe and unsubscribe on the live connection, without touching other streams."""
        gone = [want.stream for want in remove if want.stream in self.streams]
        for data_type, native_id in gone:
            del self.streams[data_type, native_id]
            if data_type is DataType.ORDERBOOK:
                del self._books[native_id]
            elif data_type is DataType.FUNDING_RATE:
                del self._thinning[native_id]
            elif data_type is DataType.LIQUIDATION:
                del self._liquidations.states[native_id]
        kept = {_arg(stream).key for stream in self.streams}
        left = list({a.key: a for a in map(_arg, gone) if a.key not in kept}.values())
        for arg in left:
            self._subscriptions.topics[arg.key].wanted = False
        steps = self._subscriptions.unsubscribe(left, now)
        new = [want for want in add if want.stream not in self.streams]
        for want in new:
            self._add(want, Cursor())
        fresh = [want.stream for want in new if _arg(want.stream).key not in kept]
        turn = Turn(steps=[*steps, *self._subscribe(fresh, now)])
        if Key(CHANNELS[DataType.LIQUIDATION], LIQUIDATED) in kept:
            self._stand([w.stream for w in new if w.data_type is DataType.LIQUIDATION], now, turn)
        return turn

    def renew(self, stream: Stream, now: Moment) -> Turn:
        """Leave and subscribe again; of liquidations all, as they share a subscription."""
        arg = _arg(stream)
        for other in self._told_by(arg.key):
            state = self.streams[other]
            state.cursor.lose("stale")
            state.resyncs += 1
        if stream[0] is DataType.ORDERBOOK:
            self._books[stream[1]].restart()
        known = arg.key in self._subscriptions.topics
        steps = self._subscriptions.unsubscribe([arg], now) if known else []
        return Turn(steps=[*steps, *self._subscriptions.subscribe([arg], now)])

    def restate(self, stream: Stream, heals: int, now: Moment) -> Turn:
        """A snapshot from the local book."""
        turn = Turn()
        if (book := self._books.get(stream[1])) is not None:
            book.restate(heals, now, turn)
        return turn

    def holding(self) -> Holding:
        """Books, and what waits for their snapshots."""
        each = [book.holding() for book in self._books.values()]
        return Holding(*map(sum, zip(*each, strict=True))) if each else Holding()

    def forgo(self, now: Moment) -> None:
        """Every book that is out of step does."""
        for book in self._books.values():
            book.forgo(now)

    def _add(self, want: Want, cursor: Cursor) -> None:
        state = StreamState(want.instrument, want.data_type, cursor)
        native_id = want.instrument.native_id
        self.streams[want.stream] = state
        if want.data_type is DataType.ORDERBOOK:
            url = f"{self._snapshots}?instId={quote(native_id, safe='')}&sz=400"
            options = self._settings.orderbook
            self._books[native_id] = BookStream(state, url, options, self.name)
        elif want.data_type is DataType.FUNDING_RATE:
            self._thinning[native_id] = FundingThinning()
        elif want.data_type is DataType.LIQUIDATION:
            self._liquidations.states[native_id] = state

    def _subscribe(self, streams: Sequence[Stream], now: Moment) -> list[Send]:
        args = {arg.key: arg for arg in map(_arg, streams)}
        return self._subscriptions.subscribe(list(args.values()), now)

    def _told_by(self, key: Key) -> list[Stream]:
        """The streams of a topic."""
        return [stream for stream in self.streams if _arg(stream).key == key]

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
        for native_id, book in self._books.items():
            if book.resubscribe_at is None or now.monotonic < book.resubscribe_at:
                continue
            arg = _arg((DataType.ORDERBOOK, native_id))
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
                self._element(key, message.action, element, equals, now, turn)
            except (*UNREADABLE, NotANumber) as error:
                turn.steps.append(_reject(error, bytes(element)))

    def _element(
        self,
        key: Key,
        action: str | None,
        element: msgspec.Raw,
        equals: Counter[str],
        now: Moment,
        turn: Turn,
    ) -> None:
        channel, native_id = key
        match channel:
            case "books":
                self._books[native_id].hear(action, read_book(element), now, turn)
            case "trades":
                state = self.streams[DataType.TRADE, native_id]
                channels.trade(state, element, now, self.name, turn)
            case "funding-rate":
                state = self.streams[DataType.FUNDING_RATE, native_id]
                thinning = self._thinning[native_id]
                channels.funding_rate(state, thinning, element, now, self.name, turn)
            case "open-interest":
                state = self.streams[DataType.OPEN_INTEREST, native_id]
                channels.open_interest(state, element, now, self.name, turn)
            case _:
                bad = self._liquidations.hear(element, equals, now, turn)
                turn.steps += [_reject(error, detail) for error, detail in bad]

    def _event(self, message: Message, event: str, sample: bytes, now: Moment, turn: Turn) -> None:
        code = str(message.code)
        if event == "subscribe" and message.arg is not None:
            topic, sends = self._subscriptions.confirmed(message.arg, now)
            turn.steps += sends
            if topic is not None:
                self._stand(self._told_by(topic.arg.key), now, turn)
        elif event == "unsubscribe" and message.arg is not None:
            self._subscriptions.left(message.arg)
        elif event == "error":
            self._refused(message, code, sample, now, turn)
        elif event == "notice" and code == UPGRADE:
            turn.steps.append(Close(Lost("the server announced its upgrade")))
        elif event != "notice" and event not in _IGNORED:
            turn.steps.append(Reject("unknown event", event[:80], sample))

    def _stand(self, streams: Sequence[Stream], now: Moment, turn: Turn) -> None:
        """The subscription of these is confirmed."""
        for stream in streams:
            state = self.streams[stream]
            if state.phase in (Phase.WANTED, Phase.PARKED):
                state.phase, state.detail = Phase.ACKNOWLEDGED, None
            if stream[0] is DataType.ORDERBOOK:
                self._books[stream[1]].subscribed(now)
            elif stream[0] is DataType.LIQUIDATION:
                self._liquidations.stand(state, now, turn)

    def _refused(self, message: Message, code: str, sample: bytes, now: Moment, turn: Turn) -> None:
        why = f"{code}: {message.msg}" if code else message.msg
        turn.steps.append(Reject("command refused", why, sample))
        if code == TOO_MANY_REQUESTS:
            turn.steps.append(Close(Lost(why)))
            return
        guilty, sends = self._subscriptions.refused(message.arg, message.msg, now)
        turn.steps += sends
        for stream in self._told_by(guilty.arg.key) if guilty is not None else ():
            state = self.streams[stream]
            state.phase, state.detail = Phase.PARKED, why
            turn.steps.append(Park(stream, why))


def _arg(stream: Stream) -> Arg:
    """A stream's argument: its channel of its instrument, or of all liquidations."""
    data_type, native_id = stream
    if data_type is DataType.LIQUIDATION:
        return Arg(CHANNELS[data_type], instType=LIQUIDATED)
    return Arg(CHANNELS[data_type], native_id)


def _reject(error: Exception, sample: bytes) -> Reject:
    reason = "bad number" if isinstance(error, NotANumber) else "unfit event"
    return Reject(reason, str(error), sample[:SAMPLE_BYTES])
