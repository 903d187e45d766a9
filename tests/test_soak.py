"""The real process under load for a long time, with one fault after another (R9)."""

import os
import random
import signal
import statistics
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from nats_server import Server
from patience import PATIENCE
from reader import Reader
from service import Service, configuration

from marketprism import simulator
from marketprism.simulator import Exchange, serve

pytestmark = pytest.mark.once

SECONDS = float(os.environ.get("MARKETPRISM_SOAK_SECONDS", "6"))
"""Half an hour in `nox -s soak`."""
FAULT_EVERY = max(SECONDS / 30, 2.0)
"""Seconds; a minute in half an hour."""
MARKETS = {
    "binance_spot": ("BTC-USDT", "ETH-USDT"),
    "binance_derivatives": ("BTC-USDT", "ETH-USDT"),
    "okx_spot": ("BTC-USDT", "ETH-USDT"),
    "okx_derivatives": ("BTC-USDT", "ETH-USDT"),
}
TRADES, QUOTES = (420.0, 300.0) if SECONDS >= 600 else (100.0, 75.0)
"""A second and symbol: with book updates every 100 ms, some 2,000 messages a second in all; in the
short form a quarter of it.
"""
WARM_UP = 1 / 3
"""Of the time: caches fill, the allocator finds its size."""


@attrs.define
class Sample:
    """What the operating system says of the process."""

    at: float
    resident: int
    descriptors: int
    threads: int
    tasks: int
    levels: int
    """Of all books: what the markets have, and no matter of ours."""


@attrs.define
class Soak:
    """One run and what is measured in it."""

    service: Service
    exchanges: dict[str, Exchange]
    server: Server
    chance: random.Random
    samples: list[Sample] = attrs.field(factory=list)
    done: list[str] = attrs.field(factory=list)

    async def measure(self) -> None:
        """A sample every fiftieth of the time, at most every five seconds."""
        while True:
            _, page = await self.service.page("/status")
            self.samples.append(self.sample(page))
            await trio.sleep(min(5.0, SECONDS / 50))

    def sample(self, page: dict[str, Any]) -> Sample:
        """As of now; of what the page lacks, as of the last."""
        last = self.samples[-1] if self.samples else None
        tasks = page.get("tasks", last.tasks if last else 0)
        books = page.get("memory", {}).get("holders", {}).get("books", {})
        levels = books.get("levels", last.levels if last else 0)
        return Sample(trio.current_time(), *self.service.usage(), tasks, levels)

    async def kill(self, seconds: float) -> None:
        """Have no server for so long."""
        await trio.to_thread.run_sync(self.server.kill)
        await trio.sleep(seconds)
        await trio.to_thread.run_sync(self.server.start)

    async def disturb(self) -> None:
        """One fault after another; the last quarter of the time of each is left to heal."""
        await trio.sleep(FAULT_EVERY / 2)
        # The longest outage first: what memory it takes, the allocator keeps.
        await self.kill(min(15, FAULT_EVERY / 2))
        kinds = ["cut", "garbage", "skip", "mute", "announce", "refuse", "ban", "kill", "freeze"]
        while True:
            await trio.sleep(FAULT_EVERY)
            venue, kind = self.chance.choice(list(self.exchanges)), self.chance.choice(kinds)
            self.done.append(f"{venue} {kind}")
            faults = self.exchanges[venue].faults
            match kind:
                case "cut":
                    faults.cut()
                case "garbage":
                    faults.garbage("truncated")
                case "skip":
                    faults.skip(3, kind="orderbook")
                case "mute":
                    faults.mute(min(20, FAULT_EVERY / 2))
                case "announce":
                    faults.server_shutdown()
                case "refuse":
                    faults.refuse(min(5, FAULT_EVERY / 2))
                    faults.cut()
                case "ban":
                    faults.fail(429, retry_after=2)
                    faults.cut()
                case "kill":
                    await self.kill(min(5, FAULT_EVERY / 4))
                case "freeze":
                    self.server.signal(signal.SIGSTOP)
                    await trio.sleep(min(5, FAULT_EVERY / 4))
                    self.server.signal(signal.SIGCONT)


def growth(samples: Sequence[Sample]) -> tuple[float, float]:
    """By how many MiB the memory grew, and how much that is by chance.

    It moves in steps, up and down, when a fault is survived, and stays where it is until the next:
    a straight line through such points would claim to be far more certain than it is.
    """
    sizes = [sample.resident / 2**20 for sample in samples]
    actions = [after - before for before, after in pairwise(sizes)]
    return sum(actions), 2 * sum(step**2 for step in actions) ** 0.5


async def test_a_long_run_with_faults_leaks_nothing_and_loses_nothing(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Memory, descriptors and tasks stay; books chain, and a trade is there or in a gap."""
    async with trio.open_nursery() as nursery:
        exchanges, venues = {}, {}
        for number, (venue, symbols) in enumerate(MARKETS.items()):
            exchange = simulator.market(
                venue, seed=number, trades_per_second=TRADES, quotes_per_second=QUOTES
            )
            exchanges[venue] = exchange
            venues[venue] = (await nursery.start(serve, exchange), symbols)
        service = Service(tmp_path / "service", configuration(venues, server))
        await service.start()
        await service.healthy()
        reader = Reader(server.url)
        reading = trio.Event()

        async def read() -> None:
            await trio.to_thread.run_sync(reader.run, abandon_on_cancel=True)
            reading.set()

        nursery.start_soon(read)
        soak = Soak(service, exchanges, server, random.Random(1))
        with trio.move_on_after(SECONDS):
            async with trio.open_nursery() as busy:
                busy.start_soon(soak.measure)
                busy.start_soon(soak.disturb)
        server.signal(signal.SIGCONT)
        assert server.process is not None
        if server.process.poll() is not None:
            await trio.to_thread.run_sync(server.start)
        await service.healthy(60)
        soak.samples.append(soak.sample({}))
        code = await service.ends(signal.SIGTERM)
        reader.stop = True
        with trio.fail_after(PATIENCE):
            await reading.wait()
        nursery.cancel_scope.cancel()
    _tell(soak, reader, capsys)
    assert code == 0
    (stopped,) = service.log("collector.stopped")
    assert stopped["received"] + stopped["gaps"] - stopped["lost"] == stopped["stored"]
    assert reader.read == stopped["stored"]
    assert reader.holes == []
    assert {m: c.faults[:3] for m, c in reader.consumers.items() if c.faults} == {}
    late = [each for each in soak.samples if each.at > soak.samples[0].at + SECONDS * WARM_UP]
    assert max(s.descriptors for s in late) <= max(s.descriptors for s in soak.samples[:3]) + 15
    assert soak.samples[-1].descriptors <= soak.samples[0].descriptors + 3
    if SECONDS >= 600:
        assert soak.samples[-2].tasks <= soak.samples[0].tasks + 5
        half = len(late) // 2
        before, after = (
            statistics.fmean(s.resident for s in part) for part in (late[:half], late[half:])
        )
        assert after - before < 4 * 2**20
        grown, chance = growth(late)
        assert grown <= chance


def _tell(soak: Soak, reader: Reader, capsys: pytest.CaptureFixture[str]) -> None:
    late = [s for s in soak.samples if s.at > soak.samples[0].at + SECONDS * WARM_UP]
    grown, chance = growth(late)
    lasted = soak.samples[-1].at - soak.samples[0].at
    with capsys.disabled():
        print(
            f"\n{lasted:.0f} s, {reader.read / lasted:.0f} messages/s, {len(soak.done)} faults; "
            f"resident {late[0].resident / 2**20:.1f} -> {late[-1].resident / 2**20:.1f} MiB, "
            f"{grown:+.2f} ± {chance:.2f} MiB; levels of books "
            f"{late[0].levels} -> {late[-1].levels}; descriptors "
            f"{soak.samples[0].descriptors} -> {soak.samples[-1].descriptors} (most "
            f"{max(s.descriptors for s in soak.samples)}), tasks "
            f"{min(s.tasks for s in late)}-{max(s.tasks for s in late)}, threads "
            f"{max(s.threads for s in soak.samples)}; gaps {dict(reader.gaps)}"
        )
