"""The latest ids of a stream whose ids come in no order: only they tell what is new. Pure.

Ids are numbers, or names that are no numbers (`opaque_ids`): of one stream all are of one kind.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final, TypeAlias

import attrs

from marketprism.clock import SECOND

SPAN: Final = 10 * SECOND
"""By the exchange's time: what came later than that after another is not expected before it."""
LEAST: Final = 16
"""So many are kept however old they are."""
MOST: Final = 4_096

Id: TypeAlias = int | str


@attrs.define(eq=False)
class RecentIds:
    """Ids and their times, in the order in which they came."""

    horizon: int | None = None
    """The latest time of what is not kept any more, or was never known; None: all is kept."""
    _order: deque[tuple[Id, int]] = attrs.field(factory=deque)
    _ids: set[Id] = attrs.field(factory=set)
    _newest: int = 0

    @classmethod
    def last(cls, stored: Iterable[tuple[Id, int]]) -> "RecentIds":
        """The last ones of a stream, with their times; there were others before them."""
        recent = cls()
        for ident, time in stored:
            recent.horizon = time if recent.horizon is None else min(recent.horizon, time)
            recent.add(ident, time)
        return recent

    def __iter__(self) -> Iterator[Id]:
        """Those that are kept."""
        return (ident for ident, _ in self._order)

    def knows(self, ident: Id, time: int) -> bool:
        """Whether that id came already. Of a time whose ids are not kept, a lower one than any
        that is has most likely come; and a name, if its time is before all that are.
        """
        if ident in self._ids:
            return True
        if self.horizon is None or time > self.horizon:
            return False
        if isinstance(ident, str):
            return time < self.horizon
        return ident < max((each for each in self._ids if isinstance(each, int)), default=0)

    def holds_one_of(self, first: int, last: int) -> bool:
        """Whether one of these numbers is kept, both inclusive."""
        return any(isinstance(each, int) and first <= each <= last for each in self._ids)

    def add(self, ident: Id, time: int) -> None:
        """It came, and was not known."""
        order = self._order
        order.append((ident, time))
        self._ids.add(ident)
        if time > self._newest:
            self._newest = time
        while len(order) > LEAST and (order[0][1] < self._newest - SPAN or len(order) > MOST):
            oldest, forgotten = order.popleft()
            self._ids.discard(oldest)
            if self.horizon is None or forgotten > self.horizon:
                self.horizon = forgotten
