"""A host's allowance of REST weight. Pure: time comes in as monotonic nanoseconds."""

from collections import deque

import attrs

from marketprism.clock import SECOND


@attrs.define
class Budget:
    """How much may be asked of a host in any `period` seconds.

    The host counts in windows of which we do not know the edges: what holds for any stretch of
    that length holds for each of them. Its own count, read from its headers, overrides ours
    where it is larger: others may share our address.
    """

    limit: int
    period: float = 60.0
    used: int = 0
    """What was spent in the last `period` seconds, as of the last call."""
    _spent: deque[tuple[int, int]] = attrs.field(factory=deque, init=False)
    """When, and how much, as far as it still counts."""

    def wait(self, weight: int, now: int) -> int:
        """Nanoseconds until `weight` may be spent; 0: now. A weight above the whole limit is let
        through alone, else it could never be.
        """
        self._forget(now)
        excess, until = self.used + weight - self.limit, now
        for spent_at, spent in self._spent:
            if excess <= 0:
                break
            excess -= spent
            until = spent_at + self._length
        return until - now

    def spend(self, weight: int, now: int) -> None:
        """It is granted."""
        self._forget(now)
        self.used += weight
        self._spent.append((now, weight))

    def observed(self, used: int, now: int) -> None:
        """The host's own count of what was used in its current window."""
        self._forget(now)
        if used > self.used:
            self.spend(used - self.used, now)

    @property
    def _length(self) -> int:
        return round(self.period * SECOND)

    def _forget(self, now: int) -> None:
        while self._spent and now >= self._spent[0][0] + self._length:
            self.used -= self._spent.popleft()[1]
