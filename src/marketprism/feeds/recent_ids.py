"""The latest ids of a stream whose ids come in no order: only they tell what is new. Pure."""

from collections.abc import Iterable, Iterator
from typing import Final

import attrs

SECOND: Final = 1_000_000_000
SPAN: Final = 10 * SECOND
"""By the exchange's time: what came later than that after another is not expected before it."""
LEAST: Final = 16
"""So many are kept however old they are."""
MOST: Final = 4_096


@attrs.define(eq=False)
class RecentIds:
    """Ids and their times, in the order in which they came."""

    horizon: int | None = None
    """The latest time of what is not kept any more, or was never known; None: all is kept."""
    _times: dict[int, int] = attrs.field(factory=dict)
    _newest: int = 0

    @classmethod
    def last(cls, stored: Iterable[tuple[int, int]]) -> "RecentIds":
        """The last ones of a stream, with their times; there were others before them."""
        recent = cls()
        for number, time in stored:
            recent.horizon = time if recent.horizon is None else min(recent.horizon, time)
            recent.add(number, time)
        return recent

    def __iter__(self) -> Iterator[int]:
        """Those that are kept."""
        return iter(self._times)

    def knows(self, number: int, time: int) -> bool:
        """Whether that id came already. Of a time whose ids are not kept, a lower one than any
        that is has most likely come.
        """
        if number in self._times:
            return True
        if self.horizon is None or time > self.horizon:
            return False
        return number < max(self._times, default=0)

    def add(self, number: int, time: int) -> None:
        """It came."""
        times = self._times
        times[number] = time
        self._newest = max(self._newest, time)
        while len(times) > LEAST:
            oldest = next(iter(times))
            if times[oldest] >= self._newest - SPAN and len(times) <= MOST:
                break
            forgotten = times.pop(oldest)
            self.horizon = forgotten if self.horizon is None else max(self.horizon, forgotten)
