"""What differs between Binance's markets."""

from collections.abc import Callable, Mapping, Sequence
from urllib.parse import quote

import attrs

from marketprism.feeds.binance.funding import FundingHours
from marketprism.feeds.binance.messages import DepthUpdate, Vocabulary
from marketprism.feeds.published_book import Source
from marketprism.records import DataType

Rule = Callable[[DepthUpdate, int], bool]
"""Does this update, which ends past that id, continue what stands at that id?"""


def follows(update: DepthUpdate, last_id: int) -> bool:
    """Whether a spot update continues a book that is at `last_id`: no id between is missing."""
    return last_id + 1 >= update.U


def chains(update: DepthUpdate, last_id: int) -> bool:
    """Whether a futures update continues the update that ended at `last_id`: it names it."""
    return update.pu == last_id


def joins(update: DepthUpdate, last_id: int) -> bool:
    """Whether a futures update continues a snapshot at `last_id`, which may lie within it."""
    return update.pu == last_id or update.U <= last_id <= update.u


@attrs.frozen
class Market:
    """What differs between Binance's markets, and between the routes of one."""

    url: str
    vocabulary: Vocabulary
    channels: Mapping[DataType, str]
    """The suffix of a stream's name, `@trade`."""
    depth: "DepthRule"
    funding_hours: FundingHours = attrs.field(factory=FundingHours)
    """How often its perpetuals are funded: learned, and learned again."""


@attrs.frozen
class DepthRule:
    """How a market's books are kept."""

    url: str
    limits: Sequence[tuple[int, int]]
    """The depths that it offers, ascending, with what each weighs."""
    joins: Rule
    continues: Rule
    countable: bool

    def source(self, native_id: str, depth: int) -> Source:
        """The smallest depth on offer that is at least `depth`, else the largest."""
        limit, weight = next((offer for offer in self.limits if offer[0] >= depth), self.limits[-1])
        # Some symbols are not ASCII.
        return Source(self.url.format(symbol=quote(native_id, safe=""), limit=limit), weight, limit)
