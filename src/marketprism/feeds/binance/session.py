"""What one Binance connection remembers: subscriptions, books, trades."""

from collections.abc import Mapping, Sequence
from itertools import count
from typing import Final
from urllib.parse import quote

import attrs
import msgspec

from marketprism.errors import Lost
from marketprism.feeds import continuity, decimals
from marketprism.feeds.binance.book import SECOND, BookStream, Continues, Source, Tag
from marketprism.feeds.binance.messages import (
    AggregateTrade,
    DepthUpdate,
    ServerShutdown,
    Trade,
    read_answer,
    read_event,
)
from marketprism.feeds.venue import (
    Close,
    Cursor,
    Fetched,
    FetchFailed,
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
from marketprism.records import Trade as TradeRecord
from marketprism.settings import VenueConfig

ANSWER_WITHIN = 10 * SECOND
"""A command that is not answered by then was not heard."""
SETTLE_SECONDS = 0.5
"""From a book's subscription to its snapshot's request: time for the exchange to confirm."""
SAMPLE_BYTES = 200
UNSENT: Final = 1 << 62
"""Stands for a moment that has not come: the command waits for the budget with its snapshot."""


@attrs.frozen
class Market:
    """What differs between Binance's markets."""

    url: str
    channels: Mapping[DataType, str]
    """The suffix of a stream's name, `@trade`."""
    depth: "DepthRule"


@attrs.frozen
class DepthRule:
    """How a market's books are kept."""

    url: str
    limits: Sequence[tuple[int, int]]
    """The depths that it offers, ascending, with what each weighs."""
    continues: Continues
    countable: bool

    def source(self, native_id: str, depth: int) -> Source:
        """The smallest depth on offer that is at least `depth`, else the largest."""
        limit, weight = next((offer for offer in self.limits if offer[0] >= depth), self.limits[-1])
        # Some symbols are not ASCII.
        return Source(self.url.format(symbol=quote(native_id, safe=""), limit=limit), weight)


@attrs.define(eq=False)
class _Command:
    method: str
    streams: list[Stream]
    sent_by: int
    """Monotonic: when it was handed over to be sent."""


class BinanceSession:
    """One connection's memory; the raw form of the websocket, subscribed by command."""

    def __init__(
        self,
        name: str,
        market: Market,
        settings: VenueConfig,
        wants: Sequence[Want],
        cursors: Mapping[Stream, Cursor],
    ) -> None:
        self.name = name
        self.url = market.url
        self.streams: dict[Stream, StreamState] = {}
        self._market = market
        self._settings = settings
        self._books: dict[str, BookStream] = {}
        self._trades: dict[str, StreamState] = {}
        self._numbers = count(1)
        self._commands: dict[int, _Command] = {}
        for want in wants:
            self._add(want, cursors.get(want.stream) or Cursor())

    def opening(self, now: Moment) -> Turn:
        """Trades are subscribed at once, each book when its snapshot is next in the budget."""
        return self._subscribe(list(self.streams), now)

    def receive(self, frames: Sequence[bytes], now: Moment) -> Turn:
        """Events and answers to commands; what is neither is rejected and nothing else."""
        turn = Turn()
        for frame in frames:
            try:
                event = read_event(frame)
                kind = type(event)
                if kind is DepthUpdate:
                    self._books[event.s].hear(event, now, turn)
                elif kind is Trade:
                    self._trade(event, event.t, "raw", None, None, now, turn)
                elif kind is AggregateTrade:
                    if event.f > event.l:
                        raise decimals.NotANumber(f"first id {event.f} above last id {event.l}")
                    first, last = str(event.f), str(event.l)
                    self._trade(event, event.a, "aggregated", first, last, now, turn)
                else:
                    turn.steps.append(Close(Lost("the server announced that it shuts down")))
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                self._no_event(frame, error, now, turn)
            except decimals.NotANumber as error:
                turn.steps.append(Reject("bad number", str(error), frame[:SAMPLE_BYTES]))
            except KeyError as error:
                detail = f"no such subscription: {error}"
                turn.steps.append(Reject("unknown symbol", detail, frame[:SAMPLE_BYTES]))
        return turn

    def reply(self, tag: object, answer: Fetched | FetchFailed, now: Moment) -> Turn:
        """A snapshot, or why there is none."""
        turn = Turn()
        assert isinstance(tag, Tag)
        if (book := self._books.get(tag.native_id)) is not None:
            self._heed(book, now)
            book.answered(tag.attempt, answer, now, turn)
        return turn

    def tick(self, now: Moment) -> Turn:
        """Due snapshots and retries; a command without an answer ends the connection."""
        turn = Turn()
        for book in self._books.values():
            book.tick(now, turn)
        for command in self._commands.values():
            if now.monotonic - command.sent_by > ANSWER_WITHIN:
                turn.steps.append(Close(Lost(f"{command.method} was not answered")))
                break
        return turn

    def change(self, add: Sequence[Want], remove: Sequence[Want], now: Moment) -> Turn:
        """Subscribe and unsubscribe on the live connection, without touching other streams."""
        gone = [want.stream for want in remove if want.stream in self.streams]
        turn = self._command("UNSUBSCRIBE", gone, now) if gone else Turn()
        for stream in gone:
            del self.streams[stream]
            (self._books if stream[0] is DataType.ORDERBOOK else self._trades).pop(stream[1])
        new = [want for want in add if want.stream not in self.streams]
        for want in new:
            self._add(want, Cursor())
        turn.steps += self._subscribe([want.stream for want in new], now).steps
        return turn

    def renew(self, stream: Stream, now: Moment) -> Turn:
        """Leave and subscribe again; a book starts over, a trade's id tells what was missed."""
        state = self.streams[stream]
        state.cursor.lose("stale")
        turn = self._command("UNSUBSCRIBE", [stream], now)
        if (book := self._books.get(stream[1])) is not None and stream[0] is DataType.ORDERBOOK:
            book.restart()
            book.acknowledged_at = None
        turn.steps += self._subscribe([stream], now).steps
        return turn

    def restate(self, stream: Stream, heals: int, now: Moment) -> Turn:
        """A snapshot from the local book."""
        turn = Turn()
        if (book := self._books.get(stream[1])) is not None:
            book.restate(heals, now, turn)
        return turn

    def _add(self, want: Want, cursor: Cursor) -> None:
        state = StreamState(want.instrument, want.data_type, cursor)
        native_id = want.instrument.native_id
        self.streams[want.stream] = state
        if want.data_type is DataType.ORDERBOOK:
            rule, options = self._market.depth, self._settings.orderbook
            self._books[native_id] = BookStream(
                state,
                rule.source(native_id, options.depth),
                options,
                self.name,
                rule.continues,
                rule.countable,
            )
        else:
            self._trades[native_id] = state

    def _channel(self, stream: Stream) -> str:
        data_type, native_id = stream
        return native_id.lower() + self._market.channels[data_type]

    def _subscribe(self, streams: Sequence[Stream], now: Moment) -> Turn:
        turn = Turn()
        plain = [stream for stream in streams if stream[0] is not DataType.ORDERBOOK]
        size = self._settings.limits.subscribe_batch
        for start in range(0, len(plain), size):
            turn.steps += self._command("SUBSCRIBE", plain[start : start + size], now).steps
        for stream in streams:
            if stream[0] is DataType.ORDERBOOK:
                (said,) = self._command("SUBSCRIBE", [stream], None).steps
                assert isinstance(said, Send)
                turn.steps.append(self._books[stream[1]].open(said, SETTLE_SECONDS))
        return turn

    def _command(self, method: str, streams: list[Stream], now: Moment | None) -> Turn:
        number = next(self._numbers)
        handed = UNSENT if now is None else now.monotonic
        self._commands[number] = _Command(method, streams, handed)
        body = {
            "method": method,
            "params": [self._channel(stream) for stream in streams],
            "id": number,
        }
        return Turn(steps=[Send(msgspec.json.encode(body).decode())])

    def _trade(
        self,
        event: Trade | AggregateTrade,
        number: int,
        kind: str,
        first: str | None,
        last: str | None,
        now: Moment,
        turn: Turn,
    ) -> None:
        price, quantity = decimals.unsigned(event.p), decimals.unsigned(event.q)
        state = self._trades[event.s]
        traded_at = event.T * 1_000_000
        news, gap = continuity.accept_counted(state, number, traded_at, now, self.name)
        if gap is not None:
            turn.records.append(gap)
        if news:
            turn.records.append(
                TradeRecord(
                    state.instrument,
                    traded_at,
                    now.wall,
                    str(number),
                    price,
                    quantity,
                    "sell" if event.m else "buy",
                    kind,  # type: ignore[arg-type]  # one of the two, by the event's class
                    first,
                    last,
                    event.m,
                )
            )

    def _no_event(self, frame: bytes, cause: Exception, now: Moment, turn: Turn) -> None:
        sample = frame[:SAMPLE_BYTES]
        try:
            answer = read_answer(frame)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            turn.steps.append(Reject(_reason(frame, cause), str(cause), sample))
            return
        command = self._commands.pop(answer.id, None) if answer.id is not None else None
        if answer.error is not None:
            self._command_failed(command, answer.error.msg, sample, now, turn)
        elif command is None:
            turn.steps.append(Reject("unknown answer", "an answer to no command", sample))
        elif command.method == "SUBSCRIBE":
            for stream in command.streams:
                self._confirmed(stream, now)

    def _heed(self, book: BookStream, now: Moment) -> None:
        """Its subscription was sent with the request that is answered now: from here on an
        answer to it is due, too.
        """
        stream = (book.state.data_type, book.state.instrument.native_id)
        for command in self._commands.values():
            if command.sent_by == UNSENT and command.streams == [stream]:
                command.sent_by = now.monotonic

    def _confirmed(self, stream: Stream, now: Moment) -> None:
        if (state := self.streams.get(stream)) is None:
            return
        if state.phase is Phase.WANTED:
            state.phase = Phase.ACKNOWLEDGED
        if stream[0] is DataType.ORDERBOOK:
            self._books[stream[1]].acknowledged_at = now.monotonic

    def _command_failed(
        self, command: _Command | None, why: str, sample: bytes, now: Moment, turn: Turn
    ) -> None:
        turn.steps.append(Reject("command refused", why, sample))
        if command is None or command.method != "SUBSCRIBE":
            return
        if len(command.streams) > 1:
            # One of them is to blame; alone, each says which.
            for stream in command.streams:
                turn.steps += self._command("SUBSCRIBE", [stream], now).steps
            return
        (stream,) = command.streams
        if (state := self.streams.get(stream)) is not None:
            state.phase, state.detail = Phase.PARKED, why
            turn.steps.append(Park(stream, why))


class _Kind(msgspec.Struct):
    e: str | None = None


_read_kind = msgspec.json.Decoder(_Kind).decode
_EVENTS = frozenset(
    str(kind.__struct_config__.tag) for kind in (DepthUpdate, Trade, AggregateTrade, ServerShutdown)
)


def _reason(frame: bytes, cause: Exception) -> str:
    if not isinstance(cause, msgspec.ValidationError):
        return "not JSON"
    try:
        kind = _read_kind(frame).e
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "not an event"
    return "unfit event" if kind in _EVENTS else "unknown event"
