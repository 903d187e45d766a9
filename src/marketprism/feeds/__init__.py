"""The exchanges. To add one: its package, and its line here."""

from collections.abc import Callable, Collection, Mapping
from typing import Final

from marketprism.feeds.binance import BinanceDerivatives, BinanceSpot
from marketprism.feeds.deribit import DeribitDerivatives
from marketprism.feeds.okx import OkxDerivatives, OkxSpot
from marketprism.feeds.venue import Venue
from marketprism.records import DataType
from marketprism.settings.exchanges import VenueConfig
from marketprism.streams.subscription import Capability, Subscription

_CLASSES: Final = (
    BinanceSpot,
    BinanceDerivatives,
    OkxSpot,
    OkxDerivatives,
    DeribitDerivatives,
)

VENUES: Final[Mapping[str, Callable[[VenueConfig], Venue]]] = {
    venue.name: venue for venue in _CLASSES
}

OFFERS: Final[Mapping[str, Mapping[DataType, Capability]]] = {
    venue.name: venue.offers for venue in _CLASSES
}
"""What each venue has."""

TRADE_KINDS: Final[Mapping[str, Collection[str]]] = {
    venue.name: venue.trade_kinds for venue in _CLASSES
}
"""Which kinds of trades."""

_BY_SUBJECT: Final[Mapping[tuple[str, str], Mapping[DataType, Capability]]] = {
    (venue.exchange, venue.market_type): venue.offers for venue in _CLASSES
}

_FOREIGN: Final = Capability("stream", None)


def capability(subscription: Subscription) -> Capability:
    """How the venue of a stream has it; one that no venue has may be of another version."""
    offers = _BY_SUBJECT.get(
        (subscription.instrument.exchange, subscription.instrument.market_type), {}
    )
    return offers.get(subscription.data_type, _FOREIGN)
