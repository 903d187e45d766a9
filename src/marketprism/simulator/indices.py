"""The source of an exchange that has indices only: a value a second of each, and no books."""

from collections.abc import Sequence

import trio

from .events import Message, Snapshot, Volatility
from .figures import volatility
from .skin import Skin
from .source import Stage

_OFFSET_MS = 7
"""How long after the full second a value is told; its time says so, as on the real exchange."""


class Indices:
    """Volatility indices, each a function of seed and time."""

    patient = False

    def __init__(self, seed: int, symbols: Sequence[str], skin: Skin, step: float = 0.02) -> None:
        self.symbols = tuple(symbols)
        self._seed = seed
        self._skin = skin
        self._step = step
        self._published = 0

    async def play(self, stage: Stage) -> None:
        """Tell every second for ever; one that the machine slept through is told late."""
        second = stage.now_ms() // 1_000 + 1
        while True:
            await trio.sleep(self._step)
            while stage.now_ms() >= second * 1_000 + _OFFSET_MS:
                for symbol in self.symbols:
                    value = volatility(self._seed, symbol, second)
                    event = Volatility(symbol, value, second * 1_000 + _OFFSET_MS)
                    await stage.publish(self._skin.message(event))
                    self._published += 1
                second += 1

    async def snapshot(self, symbol: str, limit: int, *, stale: bool = False) -> Snapshot | None:
        """None: there are no books."""
        await trio.lowlevel.checkpoint()
        return None

    def greetings(self, stream: str) -> Sequence[Message]:
        """Nothing: the next value comes within a second."""
        return ()

    def renumber(self, symbol: str) -> None:
        """Never: there are no books."""
        raise ValueError(f"{symbol}: has no book")

    def position(self) -> dict[str, object]:
        """Messages so far."""
        return {"source": "indices", "messages": self._published}
