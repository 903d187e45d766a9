"""What a stream told with a stamp of a time to come: published once, and no progress. Pure."""

from collections import deque
from collections.abc import Iterator
from typing import Final

import attrs

REMEMBERED: Final = 256
"""Of what was told so: two minutes of what comes each second may be heard again from another
connection."""

Mark = tuple[int, int | None]
"""A stamp or an id, and where one id may be told of several things, which of them."""


@attrs.define(eq=False)
class Ahead:
    """All that one stream told so."""

    count: int = 0
    """How often, since the process began."""
    candidate: int | None = None
    """The number that jumped in such a frame just now. It is a position if the next goes on from
    it.
    """
    _stamps: deque[Mark] = attrs.field(factory=lambda: deque(maxlen=REMEMBERED))

    def __contains__(self, mark: Mark) -> bool:
        """Whether it was told; nothing is said twice."""
        return mark in self._stamps

    def note(self, mark: Mark) -> None:
        """It is told."""
        self._stamps.append(mark)

    def numbers(self, first: int, last: int) -> Iterator[int]:
        """Those that were told of these numbers, both inclusive, in their order."""
        return iter(sorted({number for number, _ in self._stamps if first <= number <= last}))
