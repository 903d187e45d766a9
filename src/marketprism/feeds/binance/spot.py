"""Binance spot, as its documentation has it (Spot API, "Web Socket Streams" and "General")."""

from collections.abc import Sequence
from functools import partial
from typing import Final

import msgspec

from marketprism.feeds.actions import Fetch, Priority
from marketprism.feeds.binance.answers import interpret
from marketprism.feeds.binance.market import DepthRule, Market, follows
from marketprism.feeds.binance.messages import SPOT
from marketprism.feeds.binance.rest_messages import read_exchange_info
from marketprism.feeds.binance.session import BinanceSession
from marketprism.feeds.planning import plan, up_to
from marketprism.feeds.venue import Poll, Shard
from marketprism.instruments import Instrument
from marketprism.records import DataType
from marketprism.settings.exchanges import VenueConfig
from marketprism.streams.subscription import Capability, Subscription

DEPTHS: Final = ((100, 5), (500, 25), (1000, 50), (5000, 250))
"""`GET /api/v3/depth`: limits, and what each weighs."""
EXCHANGE_INFO_WEIGHT: Final = 20


class BinanceSpot:
    """The venue `binance_spot`."""

    name: Final = "binance_spot"
    exchange: Final = "binance"
    market_type: Final = "spot"
    offers: Final = {
        DataType.ORDERBOOK: Capability("stream", 60.0),
        DataType.TRADE: Capability("stream", None, counted=True),
    }
    trade_kinds: Final = ("raw", "aggregated")
    unknown: Final = ()

    interpret = staticmethod(interpret)

    def __init__(self, settings: VenueConfig) -> None:
        self.settings = settings
        self.limits = settings.limits
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
            SPOT,
            {
                DataType.ORDERBOOK: "@depth@100ms",
                DataType.TRADE: "@trade" if settings.trade.kind == "raw" else "@aggTrade",
            },
            DepthRule(
                f"{base}/api/v3/depth?symbol={{symbol}}&limit={{limit}}",
                DEPTHS,
                joins=follows,
                continues=follows,
                countable=True,
            ),
        )

    def instruments(self, bodies: Sequence[bytes]) -> list[Instrument]:
        """The symbols of exchangeInfo. Raises ValueError when it cannot be read."""
        (body,) = bodies
        try:
            symbols = read_exchange_info(body)
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
                native_status=row.status,
            )
            for row in symbols
            if row.named
        ]

    def plan(
        self, subscriptions: Sequence[Subscription], current: Sequence[Shard] = ()
    ) -> list[Shard]:
        """An instrument's streams share a connection; connections are filled one by one."""
        fits = up_to(self.limits.streams_per_connection)
        session = partial(BinanceSession, self._market, self.settings)
        return plan(f"{self.name}/", subscriptions, current, fits, session)

    def polls(self, subscriptions: Sequence[Subscription]) -> list[Poll]:
        """None: all that spot has comes over the websocket."""
        return []
