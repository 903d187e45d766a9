"""Deribit: the volatility indices of its options (DVOL), as its documentation has them."""

from collections.abc import Mapping, Sequence
from typing import Final

import attrs

from marketprism.feeds.deribit.answers import interpret
from marketprism.feeds.deribit.session import DeribitSession
from marketprism.feeds.venue import (
    REFUSED_RETRY,
    Capability,
    Cursor,
    Fetch,
    Poll,
    Session,
    Shard,
    Stream,
    Want,
)
from marketprism.instruments import Instrument
from marketprism.records import DataType
from marketprism.settings import VenueConfig

INDICES: Final = {"BTC": "btc_usd", "ETH": "eth_usd"}
"""The currencies that have a volatility index, and its name. No request tells them: what lists
index names lists price indices, of which nearly all have none. These two are all that the
documentation of the channel's data allows."""


@attrs.frozen
class DeribitShard:
    """What one connection carries."""

    id: str
    wants: tuple[Want, ...]
    settings: VenueConfig

    def open(
        self, cursors: Mapping[Stream, Cursor], refused_retry: float = REFUSED_RETRY
    ) -> Session:
        return DeribitSession(self.id, self.settings, self.wants, cursors, refused_retry)


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
        self.manners = settings.limits

    def instruments(self, bodies: Sequence[bytes]) -> list[Instrument]:
        """The indices that there are; their symbol is the bare currency."""
        return [
            Instrument(self.exchange, self.market_type, currency, index, currency, "USD")
            for currency, index in INDICES.items()
        ]

    def plan(self, wants: Sequence[Want], current: Sequence[Shard] = ()) -> list[Shard]:
        """One connection: there are two streams at most."""
        own = tuple(want for want in wants if want.data_type in self.offers)
        return [DeribitShard(f"{self.name}/0", own, self.settings)] if own or current else []

    def polls(self, wants: Sequence[Want]) -> list[Poll]:
        """None: REST only fills what a connection missed."""
        return []
