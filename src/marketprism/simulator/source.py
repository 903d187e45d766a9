"""Where an exchange's messages come from: the interface, and the live market.

A source knows no connection and no protocol but through the skin; what it needs of the exchange it
plays on stands in `Stage`.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from .events import Message, Snapshot


class Stage(Protocol):
    """What a source asks of the exchange it plays on."""

    last_subscription: float
    """When somebody last subscribed to something, in Trio's time; -inf before that."""

    @property
    def resting(self) -> Collection[str]:
        """The markets in which nothing happens now."""

    @property
    def interrupted(self) -> bool:
        """Whether some stream lost its last connection and has not been subscribed again."""

    def now_ms(self) -> int:
        """The exchange's clock, milliseconds since the epoch."""

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition holds; it is looked at when connections or streams change."""

    async def publish(self, message: Message) -> None:
        """Send to whoever is subscribed, through the faults."""


class Source(Protocol):
    """A market, live or recorded."""

    patient: bool
    """Whether it waits for a slow reader; else a slow reader is disconnected."""

    @property
    def symbols(self) -> Collection[str]:
        """What is listed, in the exchange's own names."""

    async def play(self, stage: Stage) -> None:
        """Publish all there is, at its time; a live market never returns."""

    async def snapshot(self, symbol: str, limit: int, *, stale: bool = False) -> Snapshot | None:
        """The book as of the last update published, or as of the earliest moment known.

        Waits while the book is not known yet; None when it never will be.
        """

    def greetings(self, stream: str) -> Sequence[Message]:
        """What a new subscriber of a stream is told first."""

    def renumber(self, symbol: str) -> None:
        """Let the ids of a book begin anew; ValueError where they are not its own to give."""

    def position(self) -> dict[str, object]:
        """How far it has come, for people."""
