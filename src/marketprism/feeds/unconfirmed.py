"""Topics that are asked for and not confirmed: how often each was asked for and refused, and
when it is asked for again. Pure.
"""

from collections.abc import Hashable, Iterable, Iterator
from typing import Generic, TypeVar

import attrs

from marketprism.clock import SECOND, Timestamp
from marketprism.feeds.refusals import pause_of

GATHERED = 10 * SECOND
"""Refused topics that are due within so long are asked for together."""

K = TypeVar("K", bound=Hashable)


@attrs.define(eq=False)
class _Topic:
    asked_again: bool = False
    refusals: int = 0
    retry_at: int | None = None
    """Monotonic: refused alone, and asked for again then."""


class Unconfirmed(Generic[K]):
    """All of a connection; as a rule there is none."""

    def __init__(self, name: str, refused_retry: float) -> None:
        """`name` spreads the waits of several connections; `refused_retry`: see `Rules`."""
        self._name = name
        self._refused_retry = refused_retry
        self._topics: dict[K, _Topic] = {}

    def __contains__(self, topic: object) -> bool:
        return topic in self._topics

    def __iter__(self) -> Iterator[K]:
        return iter(self._topics)

    def __len__(self) -> int:
        return len(self._topics)

    def any_of(self, topics: Iterable[K]) -> bool:
        """Whether one of these is."""
        return not self._topics.keys().isdisjoint(topics)

    def add(self, topic: K) -> None:
        """It is asked for, and nothing is known of it yet."""
        self._topics[topic] = _Topic()

    def doubt(self, topic: K) -> None:
        """It may not be confirmed after all: it may have spoken, of an earlier subscription."""
        self._topics.setdefault(topic, _Topic())

    def discard(self, topic: K) -> bool:
        """It is confirmed, or nobody's any more; whether it was not before."""
        return self._topics.pop(topic, None) is not None

    def unanswered(self, topic: K, now: Timestamp) -> bool:
        """Whether it is to be asked for once more. If not, it was already, and is in doubt."""
        state = self._topics[topic]
        if not state.asked_again:
            state.asked_again = True
            return True
        self.postpone(topic, now)
        state.refusals += 1
        return False

    def refused(self, topic: K, now: Timestamp, *, passes: bool) -> None:
        """It cannot be had for now; what `passes` is asked for again by others."""
        self.doubt(topic)
        state = self._topics[topic]
        state.asked_again, state.retry_at = False, None
        if not passes:
            self.postpone(topic, now)
            state.refusals += 1

    def postpone(self, topic: K, now: Timestamp) -> None:
        """It is asked for again later: the later, the more often it was refused."""
        state = self._topics[topic]
        pause = pause_of(f"{self._name} {topic}", self._refused_retry, state.refusals)
        state.retry_at = now.monotonic + pause

    def take_due(self, now: Timestamp) -> list[K]:
        """Those to be asked for again now, together with those that would be soon."""
        times = [
            (state.retry_at, topic)
            for topic, state in self._topics.items()
            if state.retry_at is not None
        ]
        if not times or min(at for at, _ in times) > now.monotonic:
            return []
        gathered = [topic for at, topic in times if at <= now.monotonic + GATHERED]
        for topic in gathered:
            state = self._topics[topic]
            state.retry_at, state.asked_again = None, False
        return gathered
