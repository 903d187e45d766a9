"""Exchanges, a network, a broker and a collector in a box, for tests in virtual time."""

import random
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import attrs
import trio
from broker import Broker
from chaos import Clock
from judge import Terms, judged
from stage import staged
from truth import Truthful
from universe import EPOCH, NATIVE, Plan, configured
from web import Net

from marketprism.app import Collector
from marketprism.board.rows import ConnectionRow
from marketprism.feeds import OFFERS
from marketprism.simulator.skin import Rates

SETTLED = 10.0
"""Seconds by which all is live."""
BUSY = Rates(3.0, 6.0, step=0.25)


@attrs.define(eq=False)
class Box:
    """Exchanges, a network, a broker and a collector, all in memory."""

    plan: Plan
    exchanges: dict[str, Truthful]
    net: Net
    collector: Collector
    broker: Broker
    again: Callable[[], Collector]
    """Makes a collector like the one that runs, on the same broker."""
    nursery: trio.Nursery
    seen: dict[str, list[float]] = attrs.field(factory=lambda: defaultdict(list))
    """When each younger connection was there, by its name."""
    together: int = 0
    """How many of them there were at once, at most."""

    @property
    def rows(self) -> dict[str, ConnectionRow]:
        return self.collector.board.connections

    @property
    def exchange(self) -> Truthful:
        (exchange,) = self.exchanges.values()
        return exchange

    def count(self, outcome: str = "ok") -> int:
        """How many rotations there were, of all feeds."""
        return sum(row.rotations[outcome] for row in self.rows.values())

    async def watch(self) -> None:
        """Look every quarter of a second at who is about to take over."""
        while True:
            await trio.sleep(0.25)
            younger = [row.name for row in self.rows.values() if row.next]
            self.together = max(self.together, len(younger))
            for name in younger:
                self.seen[name].append(trio.current_time())

    async def until(self, condition: Callable[[], object], seconds: float = 120.0) -> None:
        """Wait for it, in virtual time."""
        with trio.fail_after(seconds):
            while not condition():  # noqa: ASYNC110
                await trio.sleep(0.05)

    async def stop(self) -> None:
        """In order."""
        self.collector.stopping.set()
        with trio.fail_after(20):
            await self.collector.ended.wait()

    async def restart(self) -> None:
        """Stop in order, and let another process begin."""
        await self.stop()
        self.collector = self.again()
        self.nursery.start_soon(self.collector.run)

    async def breaches(self, calm_from: float = SETTLED) -> list[str]:
        """Stop; what the judge says, for whom every gap after that moment is a breach."""
        until = trio.current_time() - 2.0
        await self.stop()
        terms = Terms(calm_from, until, self.plan.trade_kind, self.plan.depth)
        offers = {venue: list(OFFERS[venue]) for venue in self.exchanges}
        return judged(self.exchanges.values(), offers, self.broker.stream, terms)


@asynccontextmanager
async def boxed(
    *venues: str,
    life: float = 0.0,
    seed: int = 5,
    rates: Rates = BUSY,
    before: Callable[[Truthful], object] = lambda _exchange: None,
) -> AsyncIterator[Box]:
    """All of it, until the context ends. `before` is done to each exchange before anybody asks."""
    plan = attrs.evolve(
        Plan.of(seed),
        venues=venues,
        life=life,
        depth=400,
        snapshot_interval=10.0,
        trade_kind="raw",
        channel=100_000,
        outbox=500_000,
    )
    chance, clock = random.Random(seed), Clock(EPOCH * 1_000_000_000)
    exchanges = {
        venue: Truthful(
            venue,
            seed,
            rates,
            lambda: EPOCH * 1000 + round(trio.current_time() * 1000),
            symbols=NATIVE.get(venue),
        )
        for venue in venues
    }
    config = configured(plan)
    broker = Broker(config.nats, chance)
    async with trio.open_nursery() as nursery:
        net = Net(exchanges, chance, nursery)
        for exchange in exchanges.values():
            before(exchange)
            nursery.start_soon(exchange.run)
        again = partial(staged, config, clock, chance, net, broker)
        collector = again()
        nursery.start_soon(collector.run)
        box = Box(plan, exchanges, net, collector, broker, again, nursery)
        nursery.start_soon(box.watch)
        yield box
        nursery.cancel_scope.cancel()
