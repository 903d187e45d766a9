"""One order book, in the exchange's own strings. Pure.

A side is a dict from price to quantity: applying an update costs a dict operation a level, and
ordering is paid for only when somebody looks.

One price in two spellings ("100.10", "100.1") is one level. It keeps the spelling in which it came
for as long as it stands, since consumers know it by that.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from itertools import chain

from marketprism.records import Level
from marketprism.spelling import Spelling

Ends = tuple[str | None, str | None]
"""The worst price of each side up to which all is known; None: all of the side is."""

ZEROS = frozenset(["0", *(f"0.{'0' * count}" for count in range(1, 65))])
"""How plain decimals write that nothing is left."""


class OrderBook:
    """The known part of a book; levels deeper than the snapshot's are unknown, not empty.

    Updates also tell of levels beyond that part. They are kept, and not shown: between them others
    are missing that did not change.
    """

    __slots__ = (
        "_asks_said",
        "_bids_said",
        "_spelling",
        "asks",
        "asks_end",
        "bids",
        "bids_end",
        "event_time",
        "last_id",
    )

    def __init__(
        self,
        bids: Sequence[Level],
        asks: Sequence[Level],
        last_id: int,
        event_time: int | None = None,
        limit: int | None = None,
    ) -> None:
        """`limit`: how many levels a side were asked for; a side that has so many was cut there.
        None: nothing was cut.
        """
        self.bids: dict[str, str] = {}
        self.asks: dict[str, str] = {}
        self._spelling = Spelling(level[0] for level in chain(bids, asks))
        self._bids_said: dict[str, str] = {}
        self._asks_said: dict[str, str] = {}
        """How the exchange wrote the prices last that it writes otherwise than they stand."""
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
        bids: Sequence[Level],
        asks: Sequence[Level],
        last_id: int,
        event_time: int | None,
    ) -> tuple[Sequence[Level], Sequence[Level]]:
        """Set each price to its quantity; a quantity of zero removes it, known or not.

        The answer is the same bids and asks, their prices written as their levels are.
        """
        self.last_id = last_id
        self.event_time = event_time
        return (
            self._set(self.bids, self._bids_said, bids),
            self._set(self.asks, self._asks_said, asks),
        )

    def top(self, depth: int) -> tuple[list[Level], list[Level]]:
        """The best `depth` levels of bids and of asks, best first, as far as all are known."""
        return (
            _best(self.bids, depth, self.bids_end, highest=True),
            _best(self.asks, depth, self.asks_end, highest=False),
        )

    def top_as_said(self, depth: int) -> tuple[list[Level], list[Level]]:
        """The same, each price as the exchange wrote it last."""
        bids, asks = self.top(depth)
        return _as_said(bids, self._bids_said), _as_said(asks, self._asks_said)

    def write_as(self, other: "OrderBook", shown: Ends | None = None) -> None:
        """Write each price that stands in another book, too, as it is written there.

        Of another book of the same id keep also what it has beyond what is known here, up to the
        prices that were `shown`: of those levels consumers go on to hear.
        """
        self.bids = _rewritten(self.bids, self._bids_said, other.bids, other._spelling)
        self.asks = _rewritten(self.asks, self._asks_said, other.asks, other._spelling)
        if shown is not None:
            bids, asks = other.within(shown)
            self.bids = _beyond(self.bids_end, bids, highest=True) | self.bids
            self.asks = _beyond(self.asks_end, asks, highest=False) | self.asks
        self._spelling = Spelling(chain(self.bids, self.asks))

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

    def _set(
        self, side: dict[str, str], said: dict[str, str], levels: Sequence[Level]
    ) -> Sequence[Level]:
        if said or not self._spelling.covers(levels):
            return self._set_each(side, said, levels)
        if levels and len(levels[0]) == 2:
            side.update(levels)  # type: ignore[arg-type]  # a level is a pair here
            # Those that go stand for a moment. A price that comes twice is what it was said last.
            for price in [price for price, quantity in levels if quantity in ZEROS]:
                if side.get(price) in ZEROS:
                    del side[price]
            return levels
        for level in levels:
            quantity = level[1]
            if quantity in ZEROS:
                side.pop(level[0], None)
            else:
                side[level[0]] = quantity
        return levels

    def _set_each(
        self, side: dict[str, str], said: dict[str, str], levels: Sequence[Level]
    ) -> Sequence[Level]:
        """The same for levels that perhaps stand in other digits; the answer is how they stand."""
        written: list[Level] = []
        for level in levels:
            price, quantity = level[0], level[1]
            stands = self._spelling.standing(price, side)
            if quantity in ZEROS:
                side.pop(stands, None)
                said.pop(stands, None)
            else:
                if stands not in side:
                    self._spelling.admit(price, chain(self.bids, self.asks))
                side[stands] = quantity
                _note(said, stands, price)
            written.append(level if stands == price else (stands, quantity))
        return written


def _note(said: dict[str, str], stands: str, price: str) -> None:
    """The exchange writes a price as `price`, and it stands as `stands`."""
    if stands == price:
        said.pop(price, None)
    else:
        said[stands] = price


def _as_said(levels: list[Level], said: dict[str, str]) -> list[Level]:
    return [(said.get(price, price), quantity) for price, quantity in levels] if said else levels


def _rewritten(
    side: dict[str, str], said: dict[str, str], other: dict[str, str], spelling: Spelling
) -> dict[str, str]:
    """A side with its prices as they are written on the other one, where they stand there."""
    rewritten: dict[str, str] = {}
    latest = dict(said)
    said.clear()
    for price, quantity in side.items():
        stands = spelling.standing(price, other)
        rewritten[stands] = quantity
        _note(said, stands, latest.get(price, price))
    return rewritten


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


def _beyond(end: str | None, side: dict[str, str], *, highest: bool) -> dict[str, str]:
    if end is None:
        return {}
    known = _within(side, [end], highest=highest)
    return {price: quantity for price, quantity in side.items() if price not in known}
