"""The venue: what it has, and how its streams share connections."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from bourse import messages
from bourse.session import BourseSession
from marketprism.feeds.actions import Fetch, Priority
from marketprism.feeds.http_answers import usual
from marketprism.feeds.planning import plan, up_to
from marketprism.feeds.venue import Poll, Shard
from marketprism.instruments import Instrument
from marketprism.records import DataType
from marketprism.settings.exchanges import VenueConfig
from marketprism.streams.subscription import Capability, Subscription


class Bourse:
    """The venue `bourse_spot`."""

    name: Final = "bourse_spot"
    exchange: Final = "bourse"
    market_type: Final = "spot"
    trade_kinds: Final = ("raw",)
    unknown: Final = ()
    offers: Final[Mapping[DataType, Capability]] = {
        DataType.ORDERBOOK: Capability("stream", 60.0),
        DataType.TRADE: Capability("stream", None, unordered=True, opaque_ids=True),
    }
    interpret = staticmethod(usual)

    def __init__(self, settings: VenueConfig) -> None:
        self.settings, self.limits = settings, settings.limits
        base = settings.api.base_url.rstrip("/")
        self.metadata = (Fetch(f"{base}/markets", priority=Priority.METADATA),)

    def instruments(self, bodies: Sequence[bytes]) -> list[Instrument]:
        """Raises ValueError when they cannot be read."""
        return [_instrument(row) for body in bodies for row in messages.read_markets(body).markets]

    def plan(
        self, subscriptions: Sequence[Subscription], current: Sequence[Shard] = ()
    ) -> list[Shard]:
        session = partial(BourseSession, self.settings)
        fits = up_to(self.limits.streams_per_connection)
        return plan(f"{self.name}/", subscriptions, current, fits, session)

    def polls(self, subscriptions: Sequence[Subscription]) -> list[Poll]:
        return []


def _instrument(row: messages.Market) -> Instrument:
    base, _, quote = row.name.partition("-")
    names = ("bourse", "spot", row.name, row.name, base, quote)
    return Instrument(*names, trading=row.status == "open", native_status=row.status)
