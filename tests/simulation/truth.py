"""The exchanges, with a memory: what they said, which books they had, what was asked of them."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import trio

from marketprism.simulator import SKINS, Exchange
from marketprism.simulator.events import Message, Snapshot
from marketprism.simulator.live import Live
from marketprism.simulator.misdating import misdated
from marketprism.simulator.skin import Options, Rates
from marketprism.simulator.source import Source

WHOLE = 1_000_000
STAMPED_AHEAD = (3_600, 86_400)
"""Seconds by which a stamp may be wrong."""


@attrs.frozen
class Told:
    """A message, and when the exchange said it, in virtual seconds."""

    at: float
    message: Message


class Watched(Source):
    """A source whose books are remembered as they were when somebody asked for one."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.patient = source.patient
        self.pictures: dict[str, dict[int, Snapshot]] = defaultdict(dict)

    @property
    def symbols(self) -> Any:
        return self._source.symbols

    async def play(self, stage: Any) -> None:
        await self._source.play(stage)

    async def snapshot(self, symbol: str, limit: int, *, stale: bool = False) -> Snapshot | None:
        answer = await self._source.snapshot(symbol, limit, stale=stale)
        if answer is not None and isinstance(self._source, Live):
            whole = self._source._market.snapshot(symbol)
            if whole.last_id == answer.last_id:
                self.pictures[symbol][whole.last_id] = whole
        return answer

    def greetings(self, stream: str) -> Sequence[Message]:
        return self._source.greetings(stream)

    def renumber(self, symbol: str) -> None:
        self._source.renumber(symbol)

    def position(self) -> dict[str, object]:
        return self._source.position()

    def first(self, symbol: str) -> Snapshot:
        """The book before anything happened."""
        assert isinstance(self._source, Live)
        return self._source._market.first_snapshot(symbol)


class Truthful(Exchange):
    """A simulated exchange that keeps what the judge must know."""

    def __init__(
        self,
        venue: str,
        seed: int,
        rates: Rates,
        clock_ms: Callable[[], int],
        *,
        checksums: bool = False,
        symbols: Sequence[str] | None = None,
        ping_interval: float | None = None,
    ) -> None:
        skin = SKINS[venue](Options(seed, checksums, keep_alive=20.0))
        self.watched = Watched(skin.live(symbols or skin.listed, rates))
        super().__init__(skin, self.watched, ping_interval=ping_interval, clock_ms=clock_ms)
        self.seed = seed
        self.venue = venue
        self.told: dict[str, list[Told]] = defaultdict(list)
        """By stream, everything that was said, whether or not anybody heard it."""
        self.asked: list[tuple[float, int, str]] = []
        """When, how much, of which budget."""
        self._swaps: list[Callable[[Message], bool]] = []
        self._held: dict[str, Message] = {}
        self._misdated: list[tuple[Callable[[Message], bool], float]] = []
        self.remembers = True

    async def publish(self, message: Message) -> None:
        """Remember and send; where it was asked for, with other stamps, or after the next of the
        same stream.
        """
        for each in [each for each in self._misdated if each[0](message)][:1]:
            self._misdated.remove(each)
            message = attrs.evolve(message, text=misdated(message.text, each[1]))
        if self.remembers:
            self.told[message.stream].append(Told(trio.current_time(), message))
        if (held := self._held.pop(message.stream, None)) is not None:
            await super().publish(message)
            await super().publish(held)
            return
        swap = next((swap for swap in self._swaps if swap(message)), None)
        if swap is not None:
            self._swaps.remove(swap)
            self._held[message.stream] = message
            return
        await super().publish(message)

    def swap(self, picks: Callable[[Message], bool]) -> None:
        """Let the next message that is picked change places with the one after it."""
        self._swaps.append(picks)

    def misdate(self, picks: Callable[[Message], bool], seconds: float) -> None:
        """Let the next message that is picked be stamped so many seconds ahead: the exchange says
        so, and it is what is remembered.
        """
        self._misdated.append((picks, seconds))

    def calm(self) -> None:
        """No more of these."""
        self._swaps.clear()
        self._misdated.clear()

    def spend(self, weight: int, budget: str = "weight", seconds: int = 60) -> int:
        """Book it, and remember when."""
        self.asked.append((trio.current_time(), weight, budget))
        return super().spend(weight, budget, seconds)
