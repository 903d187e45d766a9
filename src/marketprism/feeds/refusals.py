"""What follows from a refusal: how long it holds, and what it holds back;
and from no answer at all. Pure.
"""

import zlib
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from marketprism.clock import SECOND, Timestamp
from marketprism.errors import Lost
from marketprism.feeds.actions import Close, Output, Park, Rotate
from marketprism.feeds.commands import Command
from marketprism.streams.state import Phase, StreamState

PASSING_FIRST, PASSING_CAP = SECOND // 2, 15 * SECOND
"""Waits while the exchange cannot: doubled each time; twice the cap where operations are scarce."""
FIRST_REFUSED_RETRY = 30 * SECOND
"""From the first refusal of a topic to its next command, at most."""

K = TypeVar("K", bound=Hashable)


def pause_of(who: str, refused_retry: float, refusals: int) -> int:
    """Nanoseconds from a refusal of a single thing to the next attempt at it: spread by `who` asks
    for what, the same each time.
    """
    patience = round(refused_retry * SECOND)
    if refusals:
        return _spread(f"{who} {refusals}", patience * 9 // 10, patience)
    first = min(FIRST_REFUSED_RETRY, patience)
    return _spread(f"{who} {refusals}", first // 2, first)


def _spread(who: str, least: int, most: int) -> int:
    """Somewhere between."""
    return least + (most - least) * zlib.crc32(who.encode()) // 2**32


class HeldBack(Generic[K]):
    """Topics that met a refusal that passes: a single one asks, by backoff, and the rest follow
    once it is granted.
    """

    def __init__(self, name: str) -> None:
        """`name` spreads the waits of several connections."""
        self._name = name
        self._topics: dict[K, None] = {}
        self._until = 0
        self._probes = 0
        """Commands since then that met it again."""
        self.probe: Command[K] | None = None
        """The one that asks."""

    def __contains__(self, topic: object) -> bool:
        return topic in self._topics

    def discard(self, topic: K) -> None:
        """It is not asked for any more, or not for this reason."""
        self._topics.pop(topic, None)

    def due(self, now: Timestamp) -> bool:
        """Whether it is time to ask for one of them."""
        return bool(self._topics) and now.monotonic >= self._until

    def next(self, by_itself: Callable[[K], bool]) -> K:
        """Whose turn it is: rather one that shares its commands."""
        topic = next((each for each in self._topics if not by_itself(each)), None)
        return next(iter(self._topics)) if topic is None else topic

    def add(self, topic: K, now: Timestamp, *, scarce: bool) -> None:
        """It was refused so, perhaps once more. `scarce`: few operations are left."""
        met_again = topic in self._topics
        self.discard(topic)
        if met_again or not self._topics:
            self._probes = self._probes + 1 if met_again else 0
            cap = PASSING_CAP * 2 if scarce else PASSING_CAP
            wait = min(PASSING_FIRST << min(self._probes, 10), cap)
            who = f"{self._name} {topic} {self._probes}"
            self._until = now.monotonic + _spread(who, wait // 2, wait)
        # Last, so that another asks next.
        self._topics[topic] = None

    def granted(self, topic: K) -> list[K]:
        """The exchange takes subscriptions again: it is these others' turn."""
        self.discard(topic)
        others = list(self._topics)
        self._topics.clear()
        self.probe, self._probes = None, 0
        return others


def park(state: StreamState, why: str, output: Output) -> None:
    """A stream cannot be had for now, and is asked for again: that is told once, not each time it
    is refused in the same words.
    """
    if state.phase is Phase.PARKED and state.detail == why:
        return
    state.phase, state.detail = Phase.PARKED, why
    output.actions.append(Park((state.data_type, state.instrument.native_id), why))


def doubted(what: str, *, speaks: bool) -> Rotate | Close:
    """What follows where `what` was never answered nor heard of: while the connection `speaks` of
    others, these lose nothing where another takes over from it.
    """
    words = f"{what} was asked for twice and not answered"
    return Rotate(words) if speaks else Close(Lost(words))
