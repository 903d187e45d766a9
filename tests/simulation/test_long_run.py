"""Days, seven in the long form: what an exchange allows is never exceeded."""

import importlib
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

import attrs
import pytest
import trio
from broker import Broker
from chaos import Chaos, Clock
from forms import form
from stage import staged
from trio.testing import MockClock
from truth import Truthful
from universe import EPOCH, Plan, configured, pinned, quiet
from web import Net

from marketprism.records import DataType
from marketprism.settings.exchanges import OrderbookOptions
from marketprism.settings.settings import Config
from marketprism.simulator.skin import Rates

DAY = 86_400.0
DAYS = form(2.0, 7.0)
LIFE = 23.5 * 3600.0
VENUES = ("binance_spot", "binance_derivatives", "okx_spot", "okx_derivatives")
KINDS = ["cut", "end", "hole", "vanished", "unreachable", "closed", "shutdown", "rejected", "fail"]
NATIVE = {"okx_spot": "BTC-USDT", "okx_derivatives": "BTC-USDT-SWAP"}
CONNECTS = {"binance": (300, 300.0), "okx": (3, 1.0)}
"""Attempts, in so many seconds, that the exchange allows an address."""
WEIGHTS = {
    ("binance_spot", "weight"): (6000, 60.0),
    ("binance_derivatives", "weight"): (2400, 60.0),
    ("binance_derivatives", "ratios"): (1000, 300.0),
    ("okx", "/api/v5/market/books"): (40, 2.0),
    ("okx", "/api/v5/public/instruments"): (20, 2.0),
}
LEFT_OUT = {DataType.OPEN_INTEREST, DataType.VOLATILITY_INDEX, DataType.FUNDING_RATE}
"""What comes so often that a week of it takes long."""

SLOWER = [
    ("marketprism.observe.watching", "LOOK_SECONDS", 600.0),
    ("marketprism.feeds.venue_tasks", "LOOK_SECONDS", 600.0),
    ("marketprism.feeds.connection", "TICK_SECONDS", 20.0),
    ("marketprism.feeds.liveness", "PING_EVERY", 1200.0),
    ("marketprism.simulator.market", "BATCH_MS", 60_000),
    ("marketprism.simulator.perpetual", "_SECOND", 600_000),
    ("marketprism.simulator.perpetual", "_LIQUIDATION_GAP", 3.6e6),
]
"""What happens many times a minute, and has nothing to do with limits, happens seldom."""


@attrs.define
class Week:
    """What the exchanges counted."""

    dialled: dict[str, list[float]]
    asked: dict[tuple[str, str], list[tuple[float, int]]]
    counts: Counter[str]
    errors: list[str]
    late: list[str]
    """Streams that were not live at the end."""


def most_within(events: Iterable[tuple[float, int]], seconds: float) -> int:
    """The most that was asked in any stretch of that length."""
    most, sum_, kept = 0, 0, list(events)
    start = 0
    for at, weight in kept:
        sum_ += weight
        while kept[start][0] <= at - seconds:
            sum_ -= kept[start][1]
            start += 1
        most = max(most, sum_)
    return most


def slowed(config: Config) -> Config:
    """As little as can be said: no heartbeats but rare ones, the packaged limits all the same."""
    exchanges = {
        name: attrs.evolve(
            venue,
            symbols=venue.symbols[:1],
            data_types=tuple(each for each in venue.data_types if each not in LEFT_OUT),
            limits=attrs.evolve(
                venue.limits,
                heartbeat=1200.0 if venue.limits.heartbeat else 0.0,
                silence_timeout=3600.0,
            ),
        )
        for name, venue in config.exchanges.items()
    }
    memory = attrs.evolve(config.memory, relief_interval=1200.0)
    return attrs.evolve(config, exchanges=exchanges, memory=memory)


async def _storm(chaos: Chaos, until: float) -> None:
    """Now and then a storm: the REST of a venue says 429 for a while, and connections go."""
    while trio.current_time() < until:
        await trio.sleep(chaos.chance.expovariate(1 / 20_000))
        exchange = chaos.venue()
        assert exchange is not None
        exchange.faults.fail(429, count=chaos.chance.randint(5, 60), retry_after=30)
        exchange.faults.cut()
        chaos.counts["storm"] += 1


async def _week(seed: int, days: float, errors: list[str]) -> Week:
    plan = attrs.evolve(
        Plan.of(seed),
        venues=VENUES,
        depth=400,
        mode="updates",
        snapshot_interval=0.0,
        audit_interval=OrderbookOptions().audit_interval,
        channel=100_000,
        life=LIFE,
    )
    chance = random.Random(seed)
    clock = Clock(EPOCH * 1_000_000_000)
    rates = Rates(1 / 600, 1 / 120, step=120.0)
    exchanges = {
        venue: Truthful(
            venue,
            seed,
            rates,
            lambda: EPOCH * 1000 + round(trio.current_time() * 1000),
            symbols=[NATIVE.get(venue, "BTCUSDT")],
            ping_interval=1200.0,
        )
        for venue in VENUES
    }
    config = slowed(configured(plan))
    broker = Broker(config.nats, chance)
    async with trio.open_nursery() as nursery:
        net = Net(exchanges, chance, nursery)
        for exchange in exchanges.values():
            exchange.remembers = False
            exchange.skin.silence_seconds = 3600.0
            nursery.start_soon(exchange.run)
        collector = staged(config, clock, chance, net, broker)
        nursery.start_soon(collector.run)
        chaos = Chaos(chance, exchanges, net, broker, clock)
        nursery.start_soon(_storm, chaos, days * DAY)
        await chaos.rage(days * DAY, 1500.0, [*KINDS, "clock_set"])
        await trio.sleep(4 * 3600)
        late = [
            f"{venue} {row.data_type} {row.instrument.symbol} is {row.state}"
            for (venue, _), row in collector.board.streams.items()
            if row.state not in ("live", "acknowledged")
        ]
        nursery.cancel_scope.cancel()
    asked: dict[tuple[str, str], list[tuple[float, int]]] = {}
    for exchange in exchanges.values():
        for at, weight, budget in exchange.asked:
            asked.setdefault((exchange.venue, budget), []).append((at, weight))
    return Week(net.dialled, asked, chaos.counts, errors, late)


def test_in_days_no_limit_of_an_exchange_is_exceeded(
    monkeypatch: pytest.MonkeyPatch, say: Callable[[str], None]
) -> None:
    """Disconnects, storms of 429, jumps of the wall clock: attempts and weight, as the exchanges
    count them, stay below what they allow in any window; and all is live at the end.
    """
    for name, constant, value in SLOWER:
        monkeypatch.setattr(importlib.import_module(name), constant, value)
    began = time.process_time()
    with pinned(7), quiet() as errors:
        week = trio.run(_week, 7, DAYS, errors, clock=MockClock(autojump_threshold=0))
    took = time.process_time() - began
    assert week.errors == []
    assert week.late == []
    dials: dict[str, int] = {}
    for name, (allowed, seconds) in CONNECTS.items():
        hosts = [times for host, times in week.dialled.items() if host.startswith(name)]
        for times in hosts:
            most = most_within([(at, 1) for at in times], seconds)
            dials[name] = max(dials.get(name, 0), most)
            assert most <= allowed, f"{most} attempts at {name} within {seconds} s"
    for (venue, budget), events in sorted(week.asked.items()):
        of = next((key for key in WEIGHTS if venue.startswith(key[0]) and key[1] == budget), None)
        if of is not None:
            allowed, seconds = WEIGHTS[of]
            most = most_within(events, seconds)
            assert most <= allowed, f"{most} of {budget} of {venue} within {seconds} s"
    attempts, storms = sum(map(len, week.dialled.values())), week.counts.total()
    say(f"{DAYS:g} days in {took:.0f} s, {storms} faults, {attempts} attempts, at most {dials}")


def test_a_stretch_is_counted_wherever_it_begins() -> None:
    """The measure itself."""
    events: Sequence[tuple[float, int]] = [(0.0, 2), (1.0, 3), (1.9, 1), (2.5, 4)]
    assert most_within(events, 2.0) == 8
    assert most_within(events, 1.0) == 5
    assert all(early[0] < late[0] for early, late in pairwise(events))
