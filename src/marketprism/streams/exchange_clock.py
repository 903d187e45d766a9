"""How far an exchange's clock is from ours, learnt from its stamps. Pure.

A stamp may say anything, and what is taken for progress blocks all that comes after it. So one is
measured by the exchange's own clock as its other stamps show it: by their median, which a few that
are wrong do not move, the first ones neither. Our wall clock may be slow, so their distance from it
is learnt; it may be set, and our monotonic clock stands still while the machine sleeps, so the
distance from both is: a stamp cannot be where neither of them allows it.
"""

from bisect import bisect_left, insort
from collections import deque
from typing import Final

import attrs

from marketprism.clock import SECOND, Timestamp

TOLERANCE: Final = 60 * SECOND
"""How far ahead of the exchange's clock a stamp is still believed."""
EVERY: Final = SECOND
"""Between two stamps that are learnt from: a burst is one."""
REMEMBERED: Final = 301
"""Stamps: to move their median, more of them must be wrong than right for five minutes."""
LEAST: Final = 15
"""With fewer our own clock is what there is."""
NEVER: Final = -(2**63)


@attrs.define(eq=False)
class _Median:
    """Of the latest distances."""

    _latest: deque[int] = attrs.field(factory=deque)
    _ascending: list[int] = attrs.field(factory=list)

    def add(self, distance: int) -> None:
        latest, ascending = self._latest, self._ascending
        if len(latest) == REMEMBERED:
            del ascending[bisect_left(ascending, latest.popleft())]
        latest.append(distance)
        insort(ascending, distance)

    @property
    def value(self) -> int | None:
        """None while there are too few."""
        ascending = self._ascending
        return ascending[(len(ascending) - 1) // 2] if len(ascending) >= LEAST else None

    @property
    def least(self) -> int:
        """The smallest; there must be one."""
        return self._ascending[0]


@attrs.define(eq=False)
class ExchangeClock:
    """One exchange's clock, as all its connections know it. Nanoseconds throughout."""

    offset: int | None = None
    """The median by which its stamps are ahead of our wall clock (below zero: behind) when they
    are read; None while too little is known.
    """
    _beyond_wall: int = 0
    _beyond_monotonic: int = NEVER
    _to_wall: _Median = attrs.field(factory=_Median)
    _to_monotonic: _Median = attrs.field(factory=_Median)
    _learnt_at: int | None = None

    def learn(self, stamp: int, now: Timestamp) -> None:
        """The exchange said, just now, that it is `stamp`."""
        if self._learnt_at is not None and now.monotonic < self._learnt_at + EVERY:
            return
        self._learnt_at = now.monotonic
        self._to_wall.add(stamp - now.wall)
        self._to_monotonic.add(stamp - now.monotonic)
        wall, monotonic = self._to_wall.value, self._to_monotonic.value
        if wall is not None and monotonic is not None:
            self.offset = self._beyond_wall = wall
            self._beyond_monotonic = monotonic
        else:
            # Our wall clock may have been set meanwhile. Of few distances the least is the one that
            # no stamp of a time to come has made.
            self._beyond_monotonic = self._to_monotonic.least

    def time(self, now: Timestamp) -> int:
        """What the exchange's clock may show; ours, while too little is known."""
        return max(now.wall + self._beyond_wall, now.monotonic + self._beyond_monotonic)

    def is_ahead(self, stamp: int, now: Timestamp) -> bool:
        """Whether a stamp cannot be: it is of a time to come."""
        return (
            stamp > now.wall + self._beyond_wall + TOLERANCE
            and stamp > now.monotonic + self._beyond_monotonic + TOLERANCE
        )
