"""Deribit: the volatility indices of its options (DVOL), as its documentation has them."""

from collections.abc import Sequence
from functools import partial
from typing import Final

from marketprism.feeds.actions import Fetch
from marketprism.feeds.deribit.answers import interpret
from marketprism.feeds.deribit.session import DeribitSession
from marketprism.feeds.planning import plan
from marketprism.feeds.venue import Poll, Shard
from marketprism.instruments import Instrument
from marketprism.records import DataType
from marketprism.settings.exchanges import VenueConfig
from marketprism.streams.subscription import Capability, Subscription

INDICES: Final = {"BTC": "btc_usd", "ETH": "eth_usd"}
"""The currencies that have a volatility index, and its name. No request tells them: what lists
index names lists price indices, of which nearly all have none. These two are all that the
documentation of the channel's data allows."""


class DeribitDerivatives:
    """The venue `deribit_derivatives`."""

    name: Final = "deribit_derivatives"
    exchange: Final = "deribit"
    market_type: Final = "options"
    offers: Final = {DataType.VOLATILITY_INDEX: Capability("stream", 60.0, by_currency=True)}
    trade_kinds: Final = ()
    metadata: Sequence[Fetch] = ()
    interpret = staticmethod(interpret)
    unknown: Final = ()

    def __init__(self, settings: VenueConfig) -> None:
        self.settings = settings
        self.limits = settings.limits

    def instruments(self, bodies: Sequence[bytes]) -> list[Instrument]:
        """The indices that there are; their symbol is the bare currency."""
        return [
            Instrument(self.exchange, self.market_type, currency, index, currency, "USD")
            for currency, index in INDICES.items()
        ]

    def plan(
        self, subscriptions: Sequence[Subscription], current: Sequence[Shard] = ()
    ) -> list[Shard]:
        """One connection: there are two streams at most."""
        own = [
            subscription for subscription in subscriptions if subscription.data_type in self.offers
        ]
        session = partial(DeribitSession, self.settings)
        return plan(f"{self.name}/", own, current, lambda _: True, session)

    def polls(self, subscriptions: Sequence[Subscription]) -> list[Poll]:
        """None: REST only fills what a connection missed."""
        return []
