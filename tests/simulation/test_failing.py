"""Whatever ends the process: what memory holds goes to disk first, and the next process stores it.

NATS is away all the time, so memory holds all that was ever read. Then something fails that nobody
survives: each task of the supervision tree in turn.
"""

import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import attrs
import pytest
import trio
from broker import Broker, BrokerSink
from chaos import Clock
from judge import Terms, judged
from stage import at_once, staged
from structlog.testing import capture_logs
from trio.testing import MockClock
from truth import Truthful
from universe import EPOCH, Plan, configured
from web import Net

from marketprism import app
from marketprism.app import Collector
from marketprism.feeds import OFFERS
from marketprism.feeds.venue_tasks import run_venue
from marketprism.observe.memory import MemoryGuard
from marketprism.outbox.outbox import Outbox
from marketprism.outbox.spool import Spool
from marketprism.pipeline import pump as delivery
from marketprism.resume.positions import Positions
from marketprism.settings.settings import OutboxConfig, SpoolConfig
from marketprism.simulator.skin import Rates

T = TypeVar("T")

VENUE = "binance_derivatives"
DEPTH = 400
PUMP_STOPS, FAILS = 14.0, 15.0
"""Virtual seconds. Between the two what is read stays in the channel."""


class BugError(Exception):
    """What nobody survives."""


def failing(function: Callable[..., Awaitable[object]]) -> Callable[..., Awaitable[object]]:
    """The same, until it fails; for good: whoever tries again finds it as it is."""

    async def fail(*arguments: Any, **options: Any) -> object:
        with trio.move_on_at(FAILS):
            return await function(*arguments, **options)
        raise BugError

    return fail


class Stopping:
    """A channel's far end from which at some time nothing is taken any more."""

    def __init__(self, intake: Any) -> None:
        self._intake = intake

    def __aiter__(self) -> "Stopping":
        return self

    async def __anext__(self) -> Any:
        if trio.current_time() >= PUMP_STOPS:
            await trio.sleep_until(FAILS)
            raise BugError
        return await self._intake.__anext__()


def pump(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pump, with a second of records in the channel."""

    async def stopping(intake: Any, *rest: Any) -> None:
        await delivery.pump(Stopping(intake), *rest)  # type: ignore[arg-type] # it reads no more of it

    monkeypatch.setattr(app, "pump", stopping)


def a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pump, with a batch in its hands."""
    original = Positions.admitted

    def admitted(self: Positions, *rest: Any) -> Any:
        if trio.current_time() >= FAILS:
            raise BugError
        return original(self, *rest)

    monkeypatch.setattr(Positions, "admitted", admitted)


def sink(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sink, again and again, until it is given up."""
    monkeypatch.setattr(BrokerSink, "run", failing(BrokerSink.run))


def outbox(monkeypatch: pytest.MonkeyPatch) -> None:
    """What moves messages to the disk."""
    monkeypatch.setattr(Outbox, "run", failing(Outbox.run))


def a_venue(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task among the feeds."""
    monkeypatch.setattr(app, "run_venue", failing(_for_ever))


async def _for_ever(*arguments: Any) -> None:
    await run_venue(*arguments)
    await trio.sleep_forever()


def memory_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory guard, until it is given up."""
    monkeypatch.setattr(MemoryGuard, "run", failing(MemoryGuard.run))


def beside_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Something in the root: a page's server, or the embedded one's."""
    begin = Collector._begin

    async def with_another(self: Collector, root: trio.Nursery, of: Outbox) -> Any:
        root.start_soon(failing(trio.sleep_forever))
        return await begin(self, root, of)

    monkeypatch.setattr(Collector, "_begin", with_another)


EVERY = [pump, a_batch, sink, outbox, a_venue, memory_guard, beside_all]


@pytest.mark.parametrize("fails", EVERY, ids=lambda each: each.__name__)
async def test_what_memory_holds_is_on_disk_before_a_failure_ends_the_process(
    fails: Callable[[pytest.MonkeyPatch], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    autojump_clock: MockClock,
) -> None:
    """All of it, in order, gaps that stood open too; the next process stores it, and a judge who
    knows what the exchange said finds no breach.
    """
    exchange, broker, stage = set_up(tmp_path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(exchange.run)
        nursery.start_soon(cut_off, exchange)
        with monkeypatch.context() as patched:
            fails(patched)
            first = stage(nursery)
            with capture_logs() as logs, pytest.RaisesGroup(BugError, flatten_subgroups=True):
                await first.run()
        died = trio.current_time()
        board = first.board
        held = on_disk(tmp_path)
        assert died >= FAILS
        assert first.undelivered == 0
        assert len(held) == sum(board.received.values()) + sum(board.gaps.values()) > 100
        assert sum(board.lost.values()) == 0
        assert sum(board.gaps.values()) > 0
        line = next(line for line in logs if line["event"] == "collector.failed")
        assert "BugError" in line["reason"]
        assert [line["messages"] for line in logs if line["event"] == "collector.spooled"] == [
            len(held)
        ]
        broker.down_until = 0.0
        again = trio.current_time()
        second = stage(nursery)
        nursery.start_soon(second.run)
        await trio.sleep(60)
        until = trio.current_time() - 2.0
        second.stopping.set()
        with trio.fail_after(20):
            await second.ended.wait()
        terms = Terms(again + 30, until, "aggregated", DEPTH, stops=[(died - 1, again)])
        assert judged([exchange], {VENUE: list(OFFERS[VENUE])}, broker.stream, terms) == []
        assert [each.payload for each in broker.stream[: len(held)]] == held
        nursery.cancel_scope.cancel()


async def test_a_disk_that_hangs_holds_a_failure_up_no_longer_than_the_grace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """What could not be put there is said."""
    pump(monkeypatch)
    exchange, _, stage = set_up(tmp_path)

    async def hanging(function: Callable[..., T], *arguments: Any) -> T:
        if trio.current_time() >= FAILS:
            await trio.sleep_forever()
        return await at_once(function, *arguments)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(exchange.run)
        collector = stage(nursery)
        collector.worker = hanging
        with capture_logs() as logs, pytest.RaisesGroup(BugError, flatten_subgroups=True):
            await collector.run()
        assert FAILS <= trio.current_time() <= FAILS + collector.config.shutdown_grace + 0.1
        assert collector.undelivered > 100
        lines = [line["event"] for line in logs[-2:]]
        assert lines == ["collector.undelivered", "collector.failed"]
        nursery.cancel_scope.cancel()


def set_up(place: Path) -> tuple[Truthful, Broker, Callable[[trio.Nursery], Collector]]:
    """An exchange, a broker that is away, and what makes a collector with its spool there."""
    chance, clock = random.Random(7), Clock(EPOCH * 1_000_000_000)
    plan = attrs.evolve(
        Plan.of(3),
        venues=(VENUE,),
        mode="updates",
        depth=DEPTH,
        snapshot_interval=10.0,
        channel=100_000,
        life=0.0,
    )
    disk = OutboxConfig(500_000, spool=SpoolConfig(path=place, min_free=1))
    config = attrs.evolve(configured(plan), outbox=disk)
    exchange = Truthful(
        VENUE,
        7,
        Rates(3.0, 6.0, step=0.25),
        lambda: EPOCH * 1000 + round(trio.current_time() * 1000),
    )
    broker = Broker(config.nats, chance)
    broker.kill(float("inf"))

    def stage(nursery: trio.Nursery) -> Collector:
        net = Net({VENUE: exchange}, chance, nursery)
        return staged(config, clock, chance, net, broker)

    return exchange, broker, stage


async def cut_off(exchange: Truthful) -> None:
    """Sight is lost shortly before the failure, and not had again until after it."""
    await trio.sleep_until(PUMP_STOPS + 0.5)
    exchange.faults.refuse(2.0)
    exchange.faults.cut()


def on_disk(place: Path) -> list[bytes]:
    """What the spool holds, in its order."""
    spool = Spool(place, 10**9, 1)
    spool.open("now")
    held = [message.payload for block in spool.blocks() for _, message in block.messages()]
    spool.close()
    return held
