"""Which topics share a command, and how a refused one is divided. Pure.

The halves of a refused command are asked for, one command after the other, until the topic to blame
is alone. So one bad topic of n costs at most 2·⌈log2 n⌉ commands more, and nobody else's data.
"""

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Generic, NamedTuple, TypeVar

import attrs

K = TypeVar("K", bound=Hashable)


@attrs.frozen
class Batches(Generic[K]):
    """How topics are put into commands."""

    size: int
    """In one command, at most."""
    by_itself: Callable[[K], bool]
    """Whether a topic has a command of its own, which may wait long to be sent."""

    def parted(self, topics: Iterable[K]) -> tuple[list[K], list[K]]:
        """Those that may share a command, and those that are by themselves."""
        together: list[K] = []
        apart: list[K] = []
        for topic in topics:
            (apart if self.by_itself(topic) else together).append(topic)
        return together, apart

    def full(self, topics: Sequence[K]) -> Iterable[list[K]]:
        """These, in as few as may be."""
        return (list(topics[at : at + self.size]) for at in range(0, len(topics), self.size))

    def mixed(self, topics: Iterable[K]) -> list[list[K]]:
        """These, whether they may share a command or not."""
        together, apart = self.parted(topics)
        return [*self.full(together), *([topic] for topic in apart)]


class Suspects(NamedTuple, Generic[K]):
    """Topics of one command, one of which may be to blame."""

    topics: list[K]
    retry: bool
    """They were refused before."""


class OneByOne(Generic[K]):
    """Commands that are said while no other such is open, so that a refusal shows whom it means."""

    def __init__(self, batches: Batches[K]) -> None:
        self._batches = batches
        self.waiting: deque[Suspects[K]] = deque()
        """In their order."""
        self.apart: list[Suspects[K]] = []
        """Those that need not wait for one another, being by themselves."""

    def add(self, topics: Sequence[K], *, retry: bool) -> None:
        """Have these asked for, after what waits; at once, where they are by themselves."""
        together, apart = self._batches.parted(topics)
        self.waiting.extend(Suspects(batch, retry) for batch in self._batches.full(together))
        self.apart.extend(Suspects([topic], retry) for topic in apart)

    def divide(self, topics: Sequence[K], *, retry: bool) -> None:
        """These were refused together: their halves are next."""
        half = (len(topics) + 1) // 2
        for part in (topics[half:], topics[:half]):
            if part:
                self.waiting.appendleft(Suspects(list(part), retry))
