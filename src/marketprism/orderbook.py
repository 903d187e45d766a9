"""One order book, in the exchange's own strings. Pure.

A side is a dict from price to quantity: applying an update costs a dict operation a level, and
ordering is paid for only when somebody looks.
"""

from collections.abc import Iterable
from decimal import Decimal

from marketprism.records import Level


class OrderBook:
    """The known part of a book; levels deeper than the snapshot's are unknown, not empty."""

    __slots__ = ("asks", "bids", "event_time", "last_id")

    def __init__(
        self,
        bids: Iterable[Level],
        asks: Iterable[Level],
        last_id: int,
        event_time: int | None = None,
    ) -> None:
        self.bids: dict[str, str] = {}
        self.asks: dict[str, str] = {}
        self.last_id = last_id
        """The exchange's id of the last update in it."""
        self.event_time = event_time
        """That update's time, nanoseconds; None while nothing but an untimed snapshot is in it."""
        self.apply(bids, asks, last_id, event_time)

    def apply(
        self,
        bids: Iterable[Level],
        asks: Iterable[Level],
        last_id: int,
        event_time: int | None,
    ) -> None:
        """Set each price to its quantity; a quantity of zero removes it, known or not."""
        for side, levels in ((self.bids, bids), (self.asks, asks)):
            for price, quantity, *_ in levels:
                if quantity.strip("0."):
                    side[price] = quantity
                else:
                    side.pop(price, None)
        self.last_id = last_id
        self.event_time = event_time

    def top(self, depth: int) -> tuple[list[Level], list[Level]]:
        """The best `depth` levels of bids and of asks, best first."""
        return _best(self.bids, depth, highest=True), _best(self.asks, depth, highest=False)


_FLOAT_DIGITS = 15
"""Decimal strings of up to so many digits keep their order as floats."""


def _best(side: dict[str, str], depth: int, *, highest: bool) -> list[Level]:
    exact = max(map(len, side), default=0) <= _FLOAT_DIGITS
    prices = sorted(side, key=float if exact else Decimal, reverse=highest)
    return [(price, side[price]) for price in prices[:depth]]
