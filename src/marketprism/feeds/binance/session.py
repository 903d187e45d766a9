"""What one Binance connection remembers: subscriptions, books, trades, funding, liquidations."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from marketprism.errors import Lost
from marketprism.feeds import continuity, decimals
from marketprism.feeds.binance import perpetuals
from marketprism.feeds.binance.book import BookStream, Tag
from marketprism.feeds.binance.commands import Command, Commands
from marketprism.feeds.binance.market import Market
from marketprism.feeds.binance.messages import (
    COIN_MARGINED,
    UNREADABLE,
    AggregateTrade,
    DepthUpdate,
    ForceOrder,
    MarkPriceUpdate,
    Trade,
    read_answer,
    why_unread,
)
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
    Stream,
    StreamState,
    Turn,
    Want,
)
from marketprism.records import DataType
from marketprism.records import Trade as TradeRecord
from marketprism.settings import VenueConfig

SETTLE_SECONDS = 0.5
"""From a book's subscription to its snapshot's request: time for the exchange to confirm."""
SAMPLE_BYTES = 200


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
        self._read, self._events = market.vocabulary
        self._books: dict[str, BookStream] = {}
        self._trades: dict[str, StreamState] = {}
        self._funding: dict[str, FundingThinning] = {}
        self._commands = Commands(self._channel)
        for want in wants:
            self._add(want, cursors.get(want.stream) or Cursor())

    def opening(self, now: Moment) -> Turn:
        """All is subscribed at once, but each book when its snapshot is next in the budget."""
        return self._subscribe(list(self.streams), now)

    def receive(self, frames: Sequence[bytes], now: Moment) -> Turn:
        """Events and answers to commands; what is neither is rejected and nothing else."""
        turn = Turn()
        for frame in frames:
            self._hear(frame, None, now, turn)
        return turn

    def reply(self, tag: object, answer: Fetched | FetchFailed, now: Moment) -> Turn:
        """A snapshot, or why there is none."""
        turn = Turn()
        assert isinstance(tag, Tag)
        if (book := self._books.get(tag.native_id)) is not None:
            self._commands.sent((DataType.ORDERBOOK, tag.native_id), now)
            book.answered(tag.attempt, answer, now, turn)
        return turn

    def tick(self, now: Moment) -> Turn:
        """Due snapshots and retries; a command without an answer ends the connection."""
        turn = Turn()
        for book in self._books.values():
            book.tick(now, turn)
        if (command := self._commands.overdue(now)) is not None:
            turn.steps.append(Close(Lost(f"{command.method} was not answered")))
        return turn

    def change(self, add: Sequence[Want], remove: Sequence[Want], now: Moment) -> Turn:
        """Subscribe and unsubscribe on the live connection, without touching other streams."""
        turn = Turn()
        gone = [want.stream for want in remove if want.stream in self.streams]
        if gone:
            turn.steps.append(self._commands.say("UNSUBSCRIBE", gone, now))
        for stream in gone:
            self._remove(stream)
        new = [want for want in add if want.stream not in self.streams]
        for want in new:
            self._add(want, Cursor())
        turn.steps += self._subscribe([want.stream for want in new], now).steps
        return turn

    def renew(self, stream: Stream, now: Moment) -> Turn:
        """Leave and subscribe again; a book starts over, a trade's id tells what was missed."""
        data_type, native_id = stream
        self.streams[stream].cursor.lose("stale")
        turn = Turn(steps=[self._commands.say("UNSUBSCRIBE", [stream], now)])
        if data_type is DataType.ORDERBOOK:
            self._books[native_id].restart()
            self._books[native_id].acknowledged_at = None
        turn.steps += self._subscribe([stream], now).steps
        return turn

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
        match want.data_type:
            case DataType.ORDERBOOK:
                rule, options = self._market.depth, self._settings.orderbook
                self._books[native_id] = BookStream(
                    state,
                    rule.source(native_id, options.depth),
                    options,
                    self.name,
                    rule.joins,
                    rule.continues,
                    rule.countable,
                )
            case DataType.TRADE:
                self._trades[native_id] = state
            case DataType.FUNDING_RATE:
                self._funding[native_id] = FundingThinning()

    def _remove(self, stream: Stream) -> None:
        data_type, native_id = stream
        del self.streams[stream]
        match data_type:
            case DataType.ORDERBOOK:
                del self._books[native_id]
            case DataType.TRADE:
                del self._trades[native_id]
            case DataType.FUNDING_RATE:
                del self._funding[native_id]

    def _channel(self, stream: Stream) -> str:
        data_type, native_id = stream
        return native_id.lower() + self._market.channels[data_type]

    def _subscribe(self, streams: Sequence[Stream], now: Moment) -> Turn:
        turn = Turn()
        plain = [stream for stream in streams if stream[0] is not DataType.ORDERBOOK]
        size = self._settings.limits.subscribe_batch
        for start in range(0, len(plain), size):
            turn.steps.append(self._commands.say("SUBSCRIBE", plain[start : start + size], now))
        for stream in streams:
            if stream[0] is DataType.ORDERBOOK:
                said = self._commands.say("SUBSCRIBE", [stream], None)
                turn.steps.append(self._books[stream[1]].open(said, SETTLE_SECONDS))
        return turn

    def _hear(self, frame: bytes, equals: Counter[str] | None, now: Moment, turn: Turn) -> None:
        """One frame; or one event of a frame that holds several, where `equals` counts those."""
        try:
            event = self._read(frame)
            if isinstance(event, list):
                self._hear_all(frame, event, equals, now, turn)
            elif event.st == COIN_MARGINED:
                pass
            elif isinstance(event, DepthUpdate):
                self._books[event.s].hear(event, now, turn)
            elif isinstance(event, AggregateTrade):
                if event.f > event.l:
                    raise decimals.NotANumber(f"first id {event.f} above last id {event.l}")
                first, last = str(event.f), str(event.l)
                self._trade(event, event.a, "aggregated", first, last, now, turn)
            elif isinstance(event, Trade):
                self._trade(event, event.t, "raw", None, None, now, turn)
            elif isinstance(event, MarkPriceUpdate):
                self._mark_price(event, now, turn)
            elif isinstance(event, ForceOrder):
                self._force_order(event, Counter() if equals is None else equals, now, turn)
            else:
                turn.steps.append(Close(Lost("the server announced that it shuts down")))
        except UNREADABLE as error:
            self._no_event(frame, error, now, turn)
        except decimals.NotANumber as error:
            turn.steps.append(Reject("bad number", str(error), frame[:SAMPLE_BYTES]))
        except KeyError as error:
            # The streams of a whole market tell of more than is wanted.
            if equals is None:
                detail = f"no such subscription: {error}"
                turn.steps.append(Reject("unknown symbol", detail, frame[:SAMPLE_BYTES]))

    def _hear_all(
        self,
        frame: bytes,
        events: Sequence[msgspec.Raw],
        equals: Counter[str] | None,
        now: Moment,
        turn: Turn,
    ) -> None:
        if equals is not None:
            turn.steps.append(Reject("not an event", "a list in a list", frame[:SAMPLE_BYTES]))
            return
        equals = Counter()
        for event in events:
            self._hear(bytes(event), equals, now, turn)

    def _trade(
        self,
        event: Trade | AggregateTrade,
        number: int,
        kind: Literal["raw", "aggregated"],
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
                    kind,
                    first,
                    last,
                    event.m,
                )
            )

    def _mark_price(self, event: MarkPriceUpdate, now: Moment, turn: Turn) -> None:
        thinning = self._funding[event.s]
        state = self.streams[DataType.FUNDING_RATE, event.s]
        hours = self._market.funding_hours.get(event.s, perpetuals.USUAL_HOURS)
        record = perpetuals.funding_rate(event, state.instrument, hours, now)
        if record is None:
            return
        cursor, told_at = state.cursor, event.E * 1_000_000
        if cursor.event_time is not None and told_at <= cursor.event_time:
            state.duplicates += 1
        elif thinning.due(event.r, event.T, told_at) or cursor.gap is not None:
            gap = continuity.accept_uncounted(state, told_at, now, self.name)
            turn.records += [record] if gap is None else [gap, record]
        else:
            # It says nothing new, but that nothing was missed.
            cursor.received = now.wall
            state.last_record = now.monotonic

    def _force_order(
        self, event: ForceOrder, equals: Counter[str], now: Moment, turn: Turn
    ) -> None:
        if event.o.st == COIN_MARGINED:
            return
        state = self.streams[DataType.LIQUIDATION, event.o.s]
        record = perpetuals.liquidation(event.o, state.instrument, equals, now)
        gap = continuity.accept_uncounted(state, record.timestamp, now, self.name)
        turn.records += [record] if gap is None else [gap, record]

    def _no_event(self, frame: bytes, cause: Exception, now: Moment, turn: Turn) -> None:
        sample = frame[:SAMPLE_BYTES]
        try:
            answer = read_answer(frame)
        except UNREADABLE:
            why = why_unread(frame, cause, self._events)
            turn.steps.append(Reject(why, str(cause), sample))
            return
        command = self._commands.answered(answer.id)
        if answer.error is not None:
            self._command_failed(command, answer.error.msg, sample, now, turn)
        elif command is None:
            turn.steps.append(Reject("unknown answer", "an answer to no command", sample))
        elif command.method == "SUBSCRIBE":
            for stream in command.streams:
                self._confirmed(stream, now, turn)

    def _confirmed(self, stream: Stream, now: Moment, turn: Turn) -> None:
        if (state := self.streams.get(stream)) is None:
            return
        if state.phase is Phase.WANTED:
            state.phase = Phase.ACKNOWLEDGED
        match stream[0]:
            case DataType.ORDERBOOK:
                self._books[stream[1]].acknowledged_at = now.monotonic
            case DataType.LIQUIDATION:
                gap = continuity.listening(state, now, self.name)
                if gap is not None:
                    turn.records.append(gap)

    def _command_failed(
        self, command: Command | None, why: str, sample: bytes, now: Moment, turn: Turn
    ) -> None:
        turn.steps.append(Reject("command refused", why, sample))
        if command is None or command.method != "SUBSCRIBE":
            return
        if len(command.streams) > 1:
            # One of them is to blame; alone, each says which.
            for stream in command.streams:
                turn.steps.append(self._commands.say("SUBSCRIBE", [stream], now))
            return
        (stream,) = command.streams
        if (state := self.streams.get(stream)) is not None:
            state.phase, state.detail = Phase.PARKED, why
            turn.steps.append(Park(stream, why))
