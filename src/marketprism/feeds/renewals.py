"""Topics that are to be left and asked for anew: gathered, and said together. Pure."""

from collections.abc import Hashable
from typing import Generic, TypeVar

from marketprism.clock import SECOND, Timestamp

RENEW_EVERY = SECOND
"""Between two lots of renewals."""

K = TypeVar("K", bound=Hashable)


class Renewals(Generic[K]):
    """All of a connection, a lot at a time."""

    def __init__(self) -> None:
        self._topics: dict[K, None] = {}
        self.renewed_at = -RENEW_EVERY
        """When the last lot was, monotonic."""

    def __bool__(self) -> bool:
        return bool(self._topics)

    def add(self, topic: K) -> None:
        """One more."""
        self._topics[topic] = None

    def discard(self, topic: K) -> None:
        """It need not be renewed any more."""
        self._topics.pop(topic, None)

    def due(self, batch: int, now: Timestamp) -> list[K]:
        """The next lot, at most so many; none where the last is too recent."""
        if now.monotonic - self.renewed_at < RENEW_EVERY:
            return []
        return list(self._topics)[:batch]
