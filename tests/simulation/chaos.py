"""What goes wrong, when, and how often: a seeded mix of the faults of R1."""

import random
from collections import Counter
from collections.abc import Callable, Mapping

import attrs
import trio
from broker import Broker
from truth import Truthful
from web import Net, Weather

from marketprism.simulator.faults import Faults

Fault = Callable[["Chaos"], str | None]
"""Does it, and says in words what was done; None where there was no occasion."""

FAULTS: dict[str, Fault] = {}
"""What any universe may have."""
SAID: dict[str, Fault] = {}
"""What an exchange says and does not mean for ever, in universes of its own."""


def fault(function: Fault) -> Fault:
    """Have it known by its name."""
    FAULTS[function.__name__] = function
    return function


def said(function: Fault) -> Fault:
    """The same for what an exchange says."""
    SAID[function.__name__] = function
    return function


@attrs.define(eq=False)
class Clock:
    """The collector's wall clock, which may be set while it runs."""

    base: int
    """Nanoseconds since the epoch when virtual time was 0."""
    skew: int = 0

    def wall(self) -> int:
        return self.base + self.skew + round(trio.current_time() * 1e9)


@attrs.define(eq=False)
class Chaos:
    """Everything that can be harmed, and what has been done to it."""

    chance: random.Random
    exchanges: Mapping[str, Truthful]
    net: Net
    broker: Broker
    clock: Clock
    done: list[tuple[float, str, str]] = attrs.field(factory=list)
    """When, which fault, what it was."""
    counts: Counter[str] = attrs.field(factory=Counter)
    until: float = 0.0
    """When it ends."""

    async def rage(self, seconds: float, mean_gap: float, kinds: list[str]) -> None:
        """Faults of these kinds at random times, for so long; after it nothing is wrong."""
        self.until = until = trio.current_time() + seconds
        while True:
            await trio.sleep(self.chance.expovariate(1 / mean_gap))
            if trio.current_time() >= until:
                break
            kind = self.chance.choice(kinds)
            words = (FAULTS | SAID)[kind](self)
            if words is not None:
                self.counts[kind] += 1
                self.done.append((round(trio.current_time(), 6), kind, words))
        self.calm()

    def calm(self) -> None:
        """From now on all is well; a connection that is dead stays dead."""
        for exchange in self.exchanges.values():
            exchange.faults = Faults(exchange)
            exchange.calm()
        self.net.weather.update({host: Weather() for host in self.net.weather})
        for link in self.net.links:
            link.down.flips = 0
        broker = self.broker
        now = trio.current_time()
        broker.down_until = min(broker.down_until, now)
        broker.full_until = broker.acks_lost_until = 0.0

    def venue(self, *names: str) -> Truthful | None:
        """One of the exchanges, of these venues if any are named."""
        found = [each for each in self.exchanges.values() if not names or each.venue in names]
        return self.chance.choice(found) if found else None

    def host(self) -> str:
        return self.chance.choice(list(self.exchanges))

    def seconds(self, least: float, most: float) -> float:
        return round(self.chance.uniform(least, most), 3)
