"""What a Binance connection knows of each of its streams, and what follows from their events."""

from collections import Counter
from typing import Literal

from marketprism import decimals
from marketprism.clock import MILLISECOND, Timestamp
from marketprism.feeds import continuity
from marketprism.feeds.actions import Output
from marketprism.feeds.binance import perpetuals
from marketprism.feeds.binance.book import BookStream
from marketprism.feeds.binance.market import Market
from marketprism.feeds.binance.messages import (
    COIN_MARGINED,
    AggregateTrade,
    DepthUpdate,
    ForceOrder,
    MarkPriceUpdate,
    Trade,
)
from marketprism.feeds.continuity import Place
from marketprism.feeds.market_trades import leave_out, left_out
from marketprism.feeds.streams import Streams
from marketprism.records import DataType, Liquidation
from marketprism.records import Trade as TradeRecord
from marketprism.settings.exchanges import VenueConfig
from marketprism.streams.cursor import Cursor
from marketprism.streams.state import StreamState
from marketprism.streams.subscription import Stream, Subscription

Event = DepthUpdate | Trade | AggregateTrade | MarkPriceUpdate | Liquidation
"""What a stream tells; a liquidation as it is published, since its id depends on its push."""


def stream_of(event: Event | ForceOrder) -> Stream:
    """Which stream tells of it."""
    if isinstance(event, DepthUpdate):
        return DataType.ORDERBOOK, event.s
    if isinstance(event, (Trade, AggregateTrade)):
        return DataType.TRADE, event.s
    if isinstance(event, MarkPriceUpdate):
        return DataType.FUNDING_RATE, event.s
    if isinstance(event, ForceOrder):
        return DataType.LIQUIDATION, event.o.s
    return DataType.LIQUIDATION, event.instrument.native_id


def told_at(event: Event) -> int:
    """The exchange's time of an event, nanoseconds."""
    if isinstance(event, Liquidation):
        return event.timestamp or 0
    if isinstance(event, MarkPriceUpdate):
        return event.E * MILLISECOND
    at = event.T
    if isinstance(event, DepthUpdate) and at is None:
        at = event.E
    return (at or 0) * MILLISECOND


def position(event: Event) -> int:
    """Where an event stands, as ids or times: for a book, what it continues."""
    if isinstance(event, DepthUpdate):
        return event.U - 1 if event.pu is None else event.pu
    if isinstance(event, Trade):
        return event.t
    if isinstance(event, AggregateTrade):
        return event.a
    if isinstance(event, MarkPriceUpdate):
        return event.E * MILLISECOND
    return event.timestamp or 0


class BinanceStreams(Streams[BookStream, Event]):
    """The streams of one connection."""

    remembered = 100  # a minute and a half at the most there can be

    def __init__(
        self, name: str, market: Market, settings: VenueConfig, refused_retry: float
    ) -> None:
        super().__init__(name)
        self._market = market
        self._settings = settings
        self._refused_retry = refused_retry

    def add(self, subscription: Subscription, cursor: Cursor) -> None:
        """One more, that goes on from there."""
        super().add(subscription, cursor)
        if subscription.data_type is not DataType.TRADE:
            return
        kind = "raw" if self._market.channels[DataType.TRADE] == "@trade" else "aggregated"
        if cursor.counts not in (None, kind):
            # Trades and aggregates are counted apart.
            cursor.last_id = cursor.counts = None
            cursor.last_trade_id = cursor.ahead.candidate = None

    def _book(self, state: StreamState) -> BookStream:
        rule, options = self._market.depth, self._settings.orderbook
        source = rule.source(state.instrument.native_id, options.depth)
        return BookStream(state, source, options, self._name, self._refused_retry, rule=rule)

    def liquidation(
        self, event: ForceOrder, equals: Counter[str], now: Timestamp
    ) -> Liquidation | None:
        """The record of a liquidation; None for the other market's. Raises NotANumber, and
        KeyError where it is of no stream of ours.
        """
        if event.o.st == COIN_MARGINED:
            return None
        state = self.states[DataType.LIQUIDATION, event.o.s]
        return perpetuals.liquidation(event.o, state.instrument, equals, now)

    def accept(self, stream: Stream, event: Event, now: Timestamp, output: Output) -> None:
        if isinstance(event, DepthUpdate):
            self.books[event.s].on_event(event, now, output)
        elif isinstance(event, AggregateTrade):
            if event.f > event.l:
                raise decimals.NotANumber(f"first id {event.f} above last id {event.l}")
            first, last = str(event.f), str(event.l)
            self._trade(stream, event, event.a, "aggregated", first, last, now, output)
        elif isinstance(event, Trade):
            self._trade(stream, event, event.t, "raw", None, None, now, output)
        elif isinstance(event, MarkPriceUpdate):
            self._mark_price(stream, event, now, output)
        else:
            self._liquidated(event, now, output)

    def _trade(
        self,
        stream: Stream,
        event: Trade | AggregateTrade,
        number: int,
        kind: Literal["raw", "aggregated"],
        first: str | None,
        last: str | None,
        now: Timestamp,
        output: Output,
    ) -> None:
        price, quantity = decimals.unsigned(event.p), decimals.unsigned(event.q)
        maker, state = event.m, self.states[stream]
        traded_at = event.T * MILLISECOND
        # One number has been seen to be of two aggregates: only their trades tell them apart. For
        # the rest those prove nothing, as some trades are in no aggregate.
        part = None if last is None else int(last)
        news, gaps = continuity.accept_counted(state, number, traded_at, now, self._name, part)
        output.records += gaps
        if news and (why := left_out(price, quantity, event.X)) is not None:
            leave_out(state, event, why, output)
        elif news:
            output.records.append(
                TradeRecord(
                    state.instrument,
                    traded_at,
                    now.wall,
                    str(number),
                    price,
                    quantity,
                    None if maker is None else "sell" if maker else "buy",
                    kind,
                    first,
                    last,
                    maker,
                    numbered_apart=kind == "aggregated",
                )
            )

    def _mark_price(
        self, stream: Stream, event: MarkPriceUpdate, now: Timestamp, output: Output
    ) -> None:
        state, sampling = self.states[stream], self.funding[event.s]
        hours = self._market.funding_hours.of(event.s)
        record = perpetuals.funding_rate(event, state.instrument, hours, now)
        if record is None:
            return
        cursor, at = state.cursor, told_at(event)
        place = continuity.placed(cursor, at, now)
        if place in (Place.LATEST, Place.PAST):
            state.duplicates += 1
        elif (
            place is Place.AHEAD
            or sampling.due(record.current_funding_rate, record.funding_time, at)
            or cursor.gap is not None
        ):
            continuity.tell(state, record, now, self._name, output)
        else:
            # It says nothing new, but that nothing was missed.
            cursor.received = now.wall
            state.last_record = now.monotonic
