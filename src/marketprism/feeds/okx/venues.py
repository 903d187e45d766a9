"""OKX's markets, as its documentation has them (API v5 guide, "WebSocket" and "Public Data").

REST: OKX counts requests by endpoint, not weights. Here the budget of a host is its largest
allowance, 40 books in 2 s, or 1200 a minute; what is allowed less often weighs more: instruments
(20 / 2 s) 2, ratios (5 / 2 s) 8. That holds by the minute; within it, the offsets of the polls
spread the ratios.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import ClassVar, Final

from marketprism.feeds.actions import Fetch, Priority
from marketprism.feeds.okx.answers import interpret
from marketprism.feeds.okx.instruments import read_instruments
from marketprism.feeds.okx.ratios import PERIOD_SECONDS, ratio_polls
from marketprism.feeds.okx.session import OkxSession
from marketprism.feeds.planning import plan
from marketprism.feeds.venue import Poll, Shard
from marketprism.instruments import Instrument
from marketprism.records import DataType
from marketprism.settings.exchanges import VenueConfig
from marketprism.streams.subscription import Capability, Subscription

INSTRUMENTS_WEIGHT: Final = 2
MOST_BOOKS: Final = 29
"""OKX recommends fewer than 30 book channels a connection."""


class _OkxVenue:
    """What OKX's markets have in common: what `Venue` asks for, as a rule constants."""

    name: ClassVar[str]
    exchange: Final = "okx"
    market_type: ClassVar[str]
    offers: ClassVar[Mapping[DataType, Capability]]
    trade_kinds: Final = ("aggregated",)
    instrument_type: ClassVar[str]
    """OKX's `instType`."""
    interpret = staticmethod(interpret)
    unknown: Final = ()

    def __init__(self, settings: VenueConfig) -> None:
        self.settings = settings
        self.limits = settings.limits
        self._base = settings.api.base_url.rstrip("/")
        self.metadata = (
            Fetch(
                f"{self._base}/api/v5/public/instruments?instType={self.instrument_type}",
                weight=INSTRUMENTS_WEIGHT,
                priority=Priority.METADATA,
            ),
        )

    def instruments(self, bodies: Sequence[bytes]) -> list[Instrument]:
        """The rows of the one list. Raises ValueError when it cannot be read."""
        (body,) = bodies
        return read_instruments(body, self.market_type)

    def plan(
        self, subscriptions: Sequence[Subscription], current: Sequence[Shard] = ()
    ) -> list[Shard]:
        """An instrument's streams share a connection; connections are filled one by one."""
        streamed = [
            subscription
            for subscription in subscriptions
            if self.offers[subscription.data_type].by == "stream"
        ]
        session = partial(OkxSession, self.settings)
        return plan(f"{self.name}/", streamed, current, self._fits, session)

    def _fits(self, group: Sequence[Subscription]) -> bool:
        books = sum(subscription.data_type is DataType.ORDERBOOK for subscription in group)
        return len(group) <= self.limits.streams_per_connection and books <= MOST_BOOKS

    def polls(self, subscriptions: Sequence[Subscription]) -> list[Poll]:
        """The ratios; spot has none."""
        return [*ratio_polls(self._base, self.name, subscriptions)]


class OkxSpot(_OkxVenue):
    """The venue `okx_spot`."""

    name = "okx_spot"
    market_type = "spot"
    instrument_type = "SPOT"
    offers: ClassVar[Mapping[DataType, Capability]] = {
        DataType.ORDERBOOK: Capability("stream", 90.0),  # kept alive each 60 s
        DataType.TRADE: Capability("stream", None, unordered=True),
    }


class OkxDerivatives(_OkxVenue):
    """The venue `okx_derivatives`: perpetuals."""

    name = "okx_derivatives"
    market_type = "perpetual"
    instrument_type = "SWAP"
    offers: ClassVar[Mapping[DataType, Capability]] = {
        DataType.ORDERBOOK: Capability("stream", 90.0),  # kept alive each 60 s
        DataType.TRADE: Capability("stream", None, unordered=True),
        DataType.FUNDING_RATE: Capability("stream", 180.0),  # pushed each 30 to 90 s
        DataType.OPEN_INTEREST: Capability("stream", 60.0),  # pushed each 3 s
        DataType.LIQUIDATION: Capability("stream", None),
        DataType.LSR_TOP_POSITION: Capability("poll", 900.0, period=PERIOD_SECONDS),
        DataType.LSR_ALL_ACCOUNT: Capability("poll", 900.0, period=PERIOD_SECONDS),
    }
