"""A source whose market is made up as it goes."""

from collections.abc import Sequence

import trio

from .events import Message, Snapshot
from .market import Market
from .skin import Skin
from .source import Stage


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
