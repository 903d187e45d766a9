"""Where an exchange's messages come from: the interface, and the live market.

A source knows no connection and no protocol but through the skin; what it needs of the exchange it
plays on stands in `Stage`.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Protocol

import trio

from .events import Message, Snapshot
from .market import Market
from .skin import Skin


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


class Live:
    """A seeded market driven by the clock."""

    patient = False

    def __init__(self, market: Market, skin: Skin, step: float = 0.02) -> None:
        """It is looked at each `step` seconds."""
        self.symbols = market.symbols
        self._market = market
        self._skin = skin
        self._step = step
        self._published = 0
        self._latest: dict[str, Message] = {}
        """By stream, of those kinds that are repeated to a new subscriber."""

    async def play(self, stage: Stage) -> None:
        """Step the market for ever."""
        due = trio.current_time()
        while True:
            for event in self._market.step(stage.now_ms(), stage.resting):
                for message in self._skin.messages(event):
                    if message.kind in self._skin.repeats:
                        self._latest[message.stream] = message
                    await stage.publish(message)
                    self._published += 1
            due += self._step
            await trio.sleep_until(due)

    async def snapshot(self, symbol: str, limit: int, *, stale: bool = False) -> Snapshot | None:
        """The market's book now; a stale one is from before the first trade."""
        await trio.lowlevel.checkpoint()
        if stale:
            return self._market.first_snapshot(symbol)
        return self._market.snapshot(symbol, limit)

    def greetings(self, stream: str) -> Sequence[Message]:
        """The book as of the last update, or the latest message of the stream."""
        symbol = self._skin.book_symbol(stream)
        book = self._skin.book(self._market.told(symbol)) if symbol else None
        if book is not None:
            return (book,)
        return [self._latest[stream]] if stream in self._latest else ()

    def renumber(self, symbol: str) -> None:
        """At its next update."""
        if symbol not in self.symbols:
            raise ValueError(f"{symbol}: is not listed")
        self._market.renumber(symbol)

    def position(self) -> dict[str, object]:
        """Messages so far."""
        return {"source": "market", "messages": self._published}
