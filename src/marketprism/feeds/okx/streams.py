"""What an OKX connection knows of each of its streams, and what follows from their elements."""

from collections import Counter
from collections.abc import Callable, Container, Mapping
from typing import Final
from urllib.parse import quote

import msgspec

from marketprism.clock import Timestamp
from marketprism.feeds.actions import Output
from marketprism.feeds.okx import channels
from marketprism.feeds.okx.book import DEEPEST, BookStream
from marketprism.feeds.okx.chain import Heard, Snapshot, read
from marketprism.feeds.okx.fetched import BOOKS_WEIGHT
from marketprism.feeds.okx.messages import (
    Arg,
    Funding,
    Interest,
    Key,
    Trade,
    read_book,
    read_funding,
    read_interest,
    read_liquidated,
    read_trade,
)
from marketprism.feeds.published_book import Source
from marketprism.feeds.streams import Streams
from marketprism.feeds.venue import REFUSED_RETRY
from marketprism.records import DataType, Liquidation
from marketprism.settings.exchanges import VenueConfig
from marketprism.streams.state import StreamState
from marketprism.streams.subscription import Stream

CHANNELS: Final[Mapping[DataType, str]] = {
    DataType.ORDERBOOK: "books",
    DataType.TRADE: "trades",
    DataType.FUNDING_RATE: "funding-rate",
    DataType.OPEN_INTEREST: "open-interest",
    DataType.LIQUIDATION: "liquidation-orders",
}
LIQUIDATED: Final = "SWAP"
"""The instrument type whose liquidations are subscribed."""
Event = Heard | Snapshot | Trade | Funding | Interest | Liquidation
"""What a stream tells; a liquidation as it is published, since its id depends on its push."""

_DATA_TYPES: Final = {channel: data_type for data_type, channel in CHANNELS.items()}
_READERS: Final[Mapping[DataType, Callable[[msgspec.Raw], Trade | Funding | Interest]]] = {
    DataType.TRADE: read_trade,
    DataType.FUNDING_RATE: read_funding,
    DataType.OPEN_INTEREST: read_interest,
}


def key_of(stream: Stream) -> Key:
    """What tells of a stream: its channel of its instrument, or of all liquidations."""
    data_type, native_id = stream
    return Key(CHANNELS[data_type], LIQUIDATED if data_type is DataType.LIQUIDATION else native_id)


def argument_of(key: Key) -> Arg:
    """The argument that asks for it."""
    if key.channel == CHANNELS[DataType.LIQUIDATION]:
        return Arg(key.channel, instType=key.subject)
    return Arg(key.channel, key.subject)


def stream_of(key: Key) -> Stream:
    """The stream of a channel that has one an instrument."""
    return _DATA_TYPES[key.channel], key.subject


class OkxStreams(Streams[BookStream, Event]):
    """The streams of one connection."""

    remembered = 1_000

    def __init__(
        self, name: str, settings: VenueConfig, refused_retry: float = REFUSED_RETRY
    ) -> None:
        super().__init__(name)
        self._settings = settings
        self._refused_retry = refused_retry
        self._snapshots = settings.api.base_url.rstrip("/") + "/api/v5/market/books"

    def _book(self, state: StreamState) -> BookStream:
        native_id = quote(state.instrument.native_id, safe="")
        url = f"{self._snapshots}?instId={native_id}&sz={DEEPEST}"
        source = Source(url, BOOKS_WEIGHT, DEEPEST)
        return BookStream(state, source, self._settings.orderbook, self._name, self._refused_retry)

    def told_by(self, key: Key) -> list[Stream]:
        """The streams of a topic."""
        if key.channel != CHANNELS[DataType.LIQUIDATION]:
            return [stream] if (stream := stream_of(key)) in self.states else []
        return [stream for stream in self.states if stream[0] is DataType.LIQUIDATION]

    def read(
        self, stream: Stream, action: str | None, element: msgspec.Raw, now: Timestamp
    ) -> Event:
        """An element of a stream's own channel. Raises NotANumber, and what decoding raises."""
        if stream[0] is DataType.ORDERBOOK:
            state = self.states[stream]
            return read(state.instrument, action, read_book(element), state.cursor.clock, now)
        return _READERS[stream[0]](element)

    def liquidations(
        self, element: msgspec.Raw, equals: Counter[str], others: Container[Stream], now: Timestamp
    ) -> tuple[list[Liquidation], list[tuple[Exception, bytes]]]:
        """What one element tells of the liquidations of an instrument, wanted or not. It also
        shows that those of all are heard, but for `others`, who are not ours yet.
        """
        said = read_liquidated(element)
        for native_id in self.liquidated:
            stream = (DataType.LIQUIDATION, native_id)
            if stream not in others:
                self.states[stream].cursor.received = now.wall
        state = self.states.get((DataType.LIQUIDATION, said.instId))
        if state is None:
            return [], []
        return channels.liquidations(state.instrument, said, equals, now)

    def accept(self, stream: Stream, event: Event, now: Timestamp, output: Output) -> None:
        state = self.states[stream]
        match event:
            case Heard() | Snapshot():
                self.books[stream[1]].on_event(event, now, output)
            case Trade():
                channels.trade(state, event, now, self._name, output)
            case Funding():
                sampling = self.funding[stream[1]]
                channels.funding_rate(state, sampling, event, now, self._name, output)
            case Interest():
                channels.open_interest(state, event, now, self._name, output)
            case Liquidation():
                self._liquidated(event, now, output)

    def listening(self, stream: Stream, now: Timestamp, output: Output) -> None:
        """Of a book, a snapshot is due."""
        if stream[0] is DataType.ORDERBOOK:
            self.books[stream[1]].subscribed(now)
        super().listening(stream, now, output)
