"""Which markets of an exchange rest: halted, settled, or not on its list. Times are Trio's."""

import math
from collections.abc import Collection

import attrs
import trio


@attrs.define
class Standings:
    """What was asked for, by symbol."""

    symbols: Collection[str]
    """All that there are."""
    _halted: dict[str, tuple[float, str]] = attrs.field(factory=dict)
    _unlisted: dict[str, float] = attrs.field(factory=dict)
    _trading: set[str] = attrs.field(factory=set)
    """Those of which the list alone does not know."""
    _places_until: float = -math.inf

    def halt(self, symbol: str, seconds: float | None, status: str) -> None:
        """It rests for so long, or for good. Raises ValueError for one that there is not."""
        self._halted[self._known(symbol)] = _until(seconds), status

    def unlist(self, symbol: str, seconds: float | None, *, trading: bool) -> None:
        """Nobody knows it for so long, or for good; where it is `trading`, it goes on all the same.
        Raises ValueError as above.
        """
        self._unlisted[self._known(symbol)] = _until(seconds)
        (self._trading.add if trading else self._trading.discard)(symbol)

    def keep_places(self, seconds: float | None) -> None:
        """Have rows on the list for so long, or for good, that only keep a place."""
        self._places_until = _until(seconds)

    @property
    def keeps_places(self) -> bool:
        """Whether there are such rows now."""
        return trio.current_time() < self._places_until

    def status(self, symbol: str) -> str | None:
        """What the exchange calls its state; None while it trades as usual."""
        until, status = self._halted.get(symbol, (-math.inf, ""))
        return status if trio.current_time() < until else None

    @property
    def listed(self) -> list[str]:
        """What is on the list."""
        now = trio.current_time()
        return [each for each in self.symbols if now >= self._unlisted.get(each, -math.inf)]

    @property
    def known(self) -> list[str]:
        """What can be asked for: what is on the list, and what goes on without."""
        listed = set(self.listed)
        return [each for each in self.symbols if each in listed or each in self._trading]

    @property
    def resting(self) -> Collection[str]:
        """Those of which nothing is told: in them nothing happens."""
        if not self._halted and not self._unlisted:
            return ()
        known = set(self.known)
        return {each for each in self.symbols if each not in known or self.status(each) is not None}

    def _known(self, symbol: str) -> str:
        if symbol not in self.symbols:
            raise ValueError(f"{symbol}: there is no such market")
        return symbol


def _until(seconds: float | None) -> float:
    return math.inf if seconds is None else trio.current_time() + seconds
