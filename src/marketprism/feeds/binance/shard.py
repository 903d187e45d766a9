"""What one connection to Binance carries."""

from collections.abc import Mapping

import attrs

from marketprism.feeds.binance.market import Market
from marketprism.feeds.binance.session import BinanceSession
from marketprism.feeds.venue import REFUSED_RETRY, Cursor, Session, Stream, Want
from marketprism.settings import VenueConfig


@attrs.frozen
class BinanceShard:
    """What one connection carries."""

    id: str
    wants: tuple[Want, ...]
    market: Market
    settings: VenueConfig

    def open(
        self, cursors: Mapping[Stream, Cursor], refused_retry: float = REFUSED_RETRY
    ) -> Session:
        return BinanceSession(
            self.id, self.market, self.settings, self.wants, cursors, refused_retry
        )
