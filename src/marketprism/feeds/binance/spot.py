"""Binance spot, as its documentation has it (Spot API, "Web Socket Streams" and "General")."""

from collections.abc import Mapping, Sequence
from typing import Final

import attrs
import msgspec

from marketprism.feeds.binance.book import follows
from marketprism.feeds.binance.messages import read_exchange_info
from marketprism.feeds.binance.session import BinanceSession, DepthRule, Market
from marketprism.feeds.venue import (
    Cursor,
    Fetch,
    Offer,
    Poll,
    Priority,
    Session,
    Shard,
    Stream,
    Want,
)
from marketprism.instruments import Instrument
from marketprism.records import DataType
from marketprism.settings import VenueConfig

DEPTHS: Final = ((100, 5), (500, 25), (1000, 50), (5000, 250))
"""`GET /api/v3/depth`: limits, and what each weighs."""
EXCHANGE_INFO_WEIGHT: Final = 20


@attrs.frozen
class BinanceShard:
    """What one connection carries."""

    id: str
    wants: tuple[Want, ...]
    market: Market
    settings: VenueConfig

    def open(self, cursors: Mapping[Stream, Cursor]) -> Session:
        return BinanceSession(self.id, self.market, self.settings, self.wants, cursors)


class BinanceSpot:
    """The venue `binance_spot`."""

    name: Final = "binance_spot"
    exchange: Final = "binance"
    market_type: Final = "spot"
    offers: Final = {
        DataType.ORDERBOOK: Offer("stream", 60.0),
        DataType.TRADE: Offer("stream", None),
    }

    def __init__(self, settings: VenueConfig) -> None:
        self.settings = settings
        self.manners = settings.limits
        base = settings.api.base_url.rstrip("/")
        self.metadata = (
            Fetch(
                f"{base}/api/v3/exchangeInfo",
                weight=EXCHANGE_INFO_WEIGHT,
                priority=Priority.METADATA,
            ),
        )
        self._market = Market(
            settings.api.ws_url.rstrip("/") + "/ws",
            {
                DataType.ORDERBOOK: "@depth@100ms",
                DataType.TRADE: "@trade" if settings.trade.kind == "raw" else "@aggTrade",
            },
            DepthRule(
                f"{base}/api/v3/depth?symbol={{symbol}}&limit={{limit}}",
                DEPTHS,
                follows,
                countable=True,
            ),
        )

    def instruments(self, bodies: Sequence[bytes]) -> list[Instrument]:
        """The symbols of exchangeInfo. Raises ValueError when it cannot be read."""
        (body,) = bodies
        try:
            symbols = read_exchange_info(body).symbols
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ValueError(f"exchangeInfo cannot be read: {error}") from error
        return [
            Instrument(
                self.exchange,
                self.market_type,
                f"{row.baseAsset}-{row.quoteAsset}".upper(),
                row.symbol,
                row.baseAsset,
                row.quoteAsset,
                trading=row.status == "TRADING",
            )
            for row in symbols
        ]

    def plan(self, wants: Sequence[Want], current: Sequence[Shard] = ()) -> list[Shard]:
        """An instrument's streams share a connection; connections are filled one by one."""
        wanted = set(wants)
        groups = [[want for want in shard.wants if want in wanted] for shard in current]
        placed = {want for group in groups for want in group}
        by_instrument: dict[str, list[Want]] = {}
        for want in wants:
            if want not in placed:
                by_instrument.setdefault(want.instrument.native_id, []).append(want)
        room = self.manners.streams_per_connection
        for together in by_instrument.values():
            if not groups or len(groups[-1]) + len(together) > room:
                groups.append([])
            groups[-1] += together
        return [
            BinanceShard(f"{self.name}/{number}", tuple(group), self._market, self.settings)
            for number, group in enumerate(groups)
        ]

    def polls(self, wants: Sequence[Want]) -> list[Poll]:
        """None: all that spot has comes over the websocket."""
        return []
