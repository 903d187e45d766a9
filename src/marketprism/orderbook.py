"""One order book, in the exchange's own strings. Pure.

A side is a dict from price to quantity: applying an update costs a dict operation a level, and
ordering is paid for only when somebody looks.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable
from decimal import Decimal

from marketprism.records import Level

Ends = tuple[str | None, str | None]
"""The worst price of each side up to which all is known; None: all of the side is."""


class OrderBook:
    """The known part of a book; levels deeper than the snapshot's are unknown, not empty.

    Updates also tell of levels beyond that part. They are kept, and not shown: between them others
    are missing that did not change.
    """

    __slots__ = ("asks", "asks_end", "bids", "bids_end", "event_time", "last_id")

    def __init__(
        self,
        bids: Iterable[Level],
        asks: Iterable[Level],
        last_id: int,
        event_time: int | None = None,
        limit: int | None = None,
    ) -> None:
        """`limit`: how many levels a side were asked for; a side that has so many was cut there.
        None: nothing was cut.
        """
        self.bids: dict[str, str] = {}
        self.asks: dict[str, str] = {}
        self.last_id = last_id
        """The exchange's id of the last update in it."""
        self.event_time = event_time
        """That update's time, nanoseconds; None while nothing but an untimed snapshot is in it."""
        self.apply(bids, asks, last_id, event_time)
        self.bids_end = _worst(self.bids, limit, highest=True)
        """The worst price up to which all bids are known; None: all are."""
        self.asks_end = _worst(self.asks, limit, highest=False)

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
        """The best `depth` levels of bids and of asks, best first, as far as all are known."""
        return (
            _best(self.bids, depth, self.bids_end, highest=True),
            _best(self.asks, depth, self.asks_end, highest=False),
        )

    @property
    def exhausted(self) -> bool:
        """The market has left what is known of a side."""
        bids, asks = self.top(1)
        return (not bids and self.bids_end is not None) or (not asks and self.asks_end is not None)

    def ends(self, window: int | None = None) -> Ends:
        """Up to which prices all bids and all asks are known. Where only a `window` of so many best
        levels is told, it ends there.
        """
        return (
            self.bids_end or _worst(self.bids, window, highest=True),
            self.asks_end or _worst(self.asks, window, highest=False),
        )

    def within(self, *ends: Ends) -> tuple[dict[str, str], dict[str, str]]:
        """The bids and asks up to the nearest of these ends."""
        return (
            _within(self.bids, [end[0] for end in ends], highest=True),
            _within(self.asks, [end[1] for end in ends], highest=False),
        )


_FLOAT_DIGITS = 15
"""Decimal strings of up to so many digits keep their order as floats."""


def _number(prices: Iterable[str]) -> Callable[[str], float | Decimal]:
    """What puts these prices into their order."""
    return float if max(map(len, prices), default=0) <= _FLOAT_DIGITS else Decimal


def _worst(side: dict[str, str], limit: int | None, *, highest: bool) -> str | None:
    if limit is None or len(side) < limit:
        return None
    return min(side, key=_number(side)) if highest else max(side, key=_number(side))


def _best(side: dict[str, str], depth: int, end: str | None, *, highest: bool) -> list[Level]:
    number = _number(side if end is None else [*side, end])
    prices = sorted(side, key=number, reverse=highest)[:depth]
    if end is not None:
        sign = -1 if highest else 1
        del prices[bisect_right(prices, sign * number(end), key=lambda p: sign * number(p)) :]
    return [(price, side[price]) for price in prices]


def _within(side: dict[str, str], ends: Iterable[str | None], *, highest: bool) -> dict[str, str]:
    known = [end for end in ends if end is not None]
    if not known:
        return side
    number = _number([*side, *known])
    if highest:
        end = max(map(number, known))
        return {price: quantity for price, quantity in side.items() if number(price) >= end}
    end = min(map(number, known))
    return {price: quantity for price, quantity in side.items() if number(price) <= end}
