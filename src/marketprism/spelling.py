"""How the prices of a book are written. Pure.

An exchange writes all prices of a book by one rule: with the same count of decimals (`100.10`, as
Binance does), or without a zero at the end (`100.1`, as OKX does). Two prices by one rule that are
the same number are the same text. Only one that breaks the rule can be the number of a price that
stands already; it alone is looked up by its value.
"""

from collections.abc import Container, Iterable, Sequence

from marketprism.records import Level


class Spelling:
    """The rule of one book, as its prices have shown it so far."""

    __slots__ = ("_counts", "_most", "_point")

    def __init__(self, prices: Iterable[str]) -> None:
        self._counts: set[int] | None = None
        """How many decimals prices have: one count is the rule, several are none. None: the rule
        is that no price ends in a zero behind its point."""
        self._most = 0
        self._point: int | None = None
        """Where the point is, from the end, when one count of decimals is the rule."""
        prices = list(prices)
        if any(map(_padded, prices)):
            self._keep(set(map(_decimals, prices)))

    def covers(self, levels: Sequence[Level]) -> bool:
        """Whether the prices of all these are written by the rule."""
        if self._counts is None:
            for level in levels:
                price = level[0]
                if price[-1] == "0" and "." in price:
                    return False
            return True
        if (point := self._point) is None:
            return not levels
        try:
            for level in levels:
                if level[0][point] != ".":
                    return False
        except IndexError:
            return False
        return True

    def standing(self, price: str, side: Container[str]) -> str:
        """The text in which this number stands on a side that is written so; else this one."""
        if price in side:
            return price
        counts = self._counts
        if counts is not None and price[-1] != "0" and price[-1 - self._most : -self._most] == ".":
            # None is longer, and no shorter one is the same number.
            return price
        whole, _, decimals = price.partition(".")
        digits = decimals.rstrip("0")
        for count in (len(digits),) if counts is None else counts:
            if len(digits) <= count != len(decimals):
                other = f"{whole}.{digits:0<{count}}" if count else whole
                if other in side:
                    return other
        return price

    def admit(self, price: str, standing: Iterable[str]) -> None:
        """From now on this one stands as it is written, beside these; it may break the rule."""
        if self._counts is None:
            if _padded(price):
                self._keep({_decimals(price), *map(_decimals, standing)})
        elif (count := _decimals(price)) not in self._counts:
            self._keep({count, *self._counts})

    def _keep(self, counts: set[int]) -> None:
        self._counts, self._most = counts, max(counts)
        self._point = -1 - self._most if len(counts) == 1 else None


def _padded(price: str) -> bool:
    return price[-1] == "0" and "." in price


def _decimals(price: str) -> int:
    return len(price.partition(".")[2])
