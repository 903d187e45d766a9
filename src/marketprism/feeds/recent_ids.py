"""The latest ids of a stream whose ids come in no order: only they tell what is new. Pure."""

from collections import deque
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
    _order: deque[tuple[int, int]] = attrs.field(factory=deque)
    _ids: set[int] = attrs.field(factory=set)
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
        return (number for number, _ in self._order)

    def knows(self, number: int, time: int) -> bool:
        """Whether that id came already. Of a time whose ids are not kept, a lower one than any
        that is has most likely come.
        """
        if number in self._ids:
            return True
        if self.horizon is None or time > self.horizon:
            return False
        return number < max(self._ids, default=0)

    def add(self, number: int, time: int) -> None:
        """It came, and was not known."""
        order = self._order
        order.append((number, time))
        self._ids.add(number)
        if time > self._newest:
            self._newest = time
        while len(order) > LEAST and (order[0][1] < self._newest - SPAN or len(order) > MOST):
            oldest, forgotten = order.popleft()
            self._ids.discard(oldest)
            if self.horizon is None or forgotten > self.horizon:
                self.horizon = forgotten
