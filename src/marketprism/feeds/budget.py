"""A host's allowance of REST weight. Pure: time comes in as monotonic nanoseconds."""

import attrs

SECOND = 1_000_000_000


@attrs.define
class Budget:
    """How much may be asked of a host in each `period` seconds.

    The exchange's own count, read from its headers, overrides ours: others may share our address.
    """

    limit: int
    period: float = 60.0
    used: int = 0
    window_start: int = 0
    blocked_until: int = 0
    """The host said to stop until then."""

    def wait(self, weight: int, now: int) -> int:
        """Nanoseconds until `weight` may be spent; 0: now. A weight above the whole limit is let
        through alone in a fresh window, else it could never be.
        """
        if now < self.blocked_until:
            return self.blocked_until - now
        end = self.window_start + round(self.period * SECOND)
        if now >= end or self.used == 0 or self.used + weight <= self.limit:
            return 0
        return end - now

    def spend(self, weight: int, now: int) -> None:
        """It is granted."""
        self._roll(now)
        self.used += weight

    def observed(self, used: int, now: int) -> None:
        """The host's own count of what was used in its current window."""
        self._roll(now)
        self.used = max(self.used, used)

    def block(self, seconds: float, now: int) -> None:
        """Nobody may ask before that many seconds have passed."""
        self.blocked_until = max(self.blocked_until, now + round(seconds * SECOND))

    def _roll(self, now: int) -> None:
        if now >= self.window_start + round(self.period * SECOND):
            self.window_start = now
            self.used = 0
