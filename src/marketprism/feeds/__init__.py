"""The exchanges. To add one: its package, and its line here."""

from collections.abc import Callable, Collection, Mapping
from typing import Final

from marketprism.feeds.binance import BinanceDerivatives, BinanceSpot
from marketprism.feeds.deribit import DeribitDerivatives
from marketprism.feeds.okx import OkxDerivatives, OkxSpot
from marketprism.feeds.venue import Venue
from marketprism.records import DataType
from marketprism.settings import VenueConfig

VENUES: Final[Mapping[str, Callable[[VenueConfig], Venue]]] = {
    "binance_spot": BinanceSpot,
    "binance_derivatives": BinanceDerivatives,
    "okx_spot": OkxSpot,
    "okx_derivatives": OkxDerivatives,
    "deribit_derivatives": DeribitDerivatives,
}

_CLASSES: Final = (BinanceSpot, BinanceDerivatives, OkxSpot, OkxDerivatives, DeribitDerivatives)

OFFERS: Final[Mapping[str, Collection[DataType]]] = {
    venue.name: venue.offers.keys() for venue in _CLASSES
}
"""What each venue has."""

TRADE_KINDS: Final[Mapping[str, Collection[str]]] = {
    venue.name: venue.trade_kinds for venue in _CLASSES
}
"""Which kinds of trades."""

UNORDERED: Final[Collection[tuple[str, str, DataType]]] = frozenset(
    (venue.exchange, venue.market_type, data_type)
    for venue in _CLASSES
    for data_type, offer in venue.offers.items()
    if offer.unordered
)
"""Of which streams the ids come in no order, by exchange and market type."""
