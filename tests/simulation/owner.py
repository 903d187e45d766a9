"""Who runs the collector: now and then it is stopped in order, or killed, and started again."""

import random
from collections.abc import Callable

import attrs
import trio
from chaos import Chaos

from marketprism.app import Collector

LONGEST_AWAY = 8.0
"""Seconds from one process to the next."""


@attrs.define(eq=False)
class Owner:
    """One collector after the other, on the same network and the same broker."""

    make: Callable[[], Collector]
    chance: random.Random
    """Of its own, so that all else is the same with and without restarts."""
    mean: float
    """Seconds between two restarts, on average; 0: there are none."""
    kill: Callable[[], None]
    """Called when one is killed: takes from it what an operating system takes from the dead."""
    collector: Collector = attrs.field(init=False)
    stops: list[tuple[float, float]] = attrs.field(factory=list)
    """From when to when it was being stopped in order."""
    _content: bool = False
    _running: trio.Event = attrs.field(factory=trio.Event)

    async def run(self, chaos: Chaos) -> None:
        """Until cancelled."""
        while True:
            self.collector = self.make()
            self._running.set()
            async with trio.open_nursery() as life:
                life.start_soon(self.collector.run)
                await self._leave_it()
                self._running = trio.Event()
                killed = self.chance.random() < 0.5
                if not killed:
                    began = trio.current_time()
                    self.collector.stopping.set()
                    await self.collector.ended.wait()
                    self.stops.append((began, trio.current_time()))
                else:
                    self.kill()
                life.cancel_scope.cancel()
            away = round(self.chance.uniform(0.0, LONGEST_AWAY), 3)
            kind = "killed" if killed else "restarted"
            chaos.counts[kind] += 1
            chaos.done.append((round(trio.current_time(), 6), kind, f"{away}"))
            await trio.sleep(away)

    async def content(self) -> None:
        """From now on it is left alone; returns when it runs."""
        self._content = True
        await self._running.wait()

    async def _leave_it(self) -> None:
        await trio.sleep(self.chance.expovariate(1 / self.mean) if self.mean else float("inf"))
        if self._content:
            await trio.sleep_forever()
