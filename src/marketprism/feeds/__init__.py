"""The exchanges. To add one: its file, and its line here."""

from collections.abc import Callable, Collection, Mapping
from typing import Final

from marketprism.feeds.binance import BinanceSpot
from marketprism.feeds.venue import Venue
from marketprism.records import DataType
from marketprism.settings import VenueConfig

VENUES: Final[Mapping[str, Callable[[VenueConfig], Venue]]] = {
    "binance_spot": BinanceSpot,
}

OFFERS: Final[Mapping[str, Collection[DataType]]] = {
    "binance_spot": BinanceSpot.offers.keys(),
}
"""What each venue has."""
