"""One seed, one universe: exchanges, a network, a broker, the collector, and what befalls them."""

import gc
import hashlib
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal, TypeVar
from unittest.mock import patch

import attrs
import mishaps  # noqa: F401 (they register themselves)
import refusals  # noqa: F401 (they too)
import structlog
import trio
import trio._core._run as trio_run
from broker import Broker, Stored
from chaos import FAULTS, Chaos, Clock
from judge import Terms, judged
from owner import Owner
from stage import staged
from trio.testing import MockClock
from truth import Truthful
from web import Net

from marketprism import assembly
from marketprism.errors import StartFailed
from marketprism.feeds import OFFERS
from marketprism.outbox.spool import Spool
from marketprism.settings.config import load
from marketprism.settings.exchanges import Api, Limits, OrderbookOptions, TradeOptions
from marketprism.settings.settings import ChannelConfig, Config, OutboxConfig, SpoolConfig
from marketprism.settings.sources import DEFAULTS
from marketprism.simulator.skin import Rates

T = TypeVar("T")

VENUES = (
    "binance_spot",
    "binance_derivatives",
    "okx_spot",
    "okx_derivatives",
    "deribit_derivatives",
)
EPOCH = 1_780_000_000
"""Seconds, in May 2026; not a multiple of five minutes."""
LIVE_WITHIN = 60.0
"""Seconds after the last fault within which all must be well (R1)."""
WATCHED = 12.0
"""Seconds for which all must then stay well."""
IN_FLIGHT = 2.0
"""Seconds before the stop in which what is said need not have come."""
REMEMBERED = 10.0
"""Seconds for which the broker knows message ids: it may be away for twice as long."""
SYMBOLS = {
    "binance_spot": ("BTC-USDT", "ETH-USDT"),
    "binance_derivatives": ("BTC-USDT", "ETH-USDT"),
    "okx_spot": ("BTC-USDT", "ETH-USDT"),
    "okx_derivatives": ("BTC-USDT", "BTC-USD"),
    "deribit_derivatives": ("BTC",),
}
NATIVE = {
    "okx_derivatives": ("BTC-USDT-SWAP", "BTC-USD-SWAP"),
    "deribit_derivatives": ("btc_usd",),
}


@attrs.frozen
class Plan:
    """What a seed stands for."""

    seed: int
    venues: tuple[str, ...]
    kinds: tuple[str, ...]
    """The faults that happen."""
    mean_gap: float
    """Seconds between two faults, on average."""
    rage: float
    """Seconds of faults."""
    depth: int
    mode: Literal["updates", "snapshot"]
    audit_interval: float
    trade_kind: str
    snapshot_interval: float
    channel: int
    outbox: int
    checksums: bool
    step: float
    """Seconds between two moments at which exchanges speak: what is due comes together."""
    life: float
    """Seconds after which another connection takes over; 0: never."""
    restarts: float
    """Seconds between two restarts of the collector, on average; 0: there are none."""
    spool: int = 0
    """Bytes that may go to disk; 0: memory is all there is."""
    busy: float = 1.0
    """How much happens in its markets, of what can."""
    one_by_one: float = 0.0
    """Seconds from one command to the next, each about one stream; 0: as is usual."""

    @property
    def faults(self) -> list[str]:
        """Not all of its kinds where the collector is restarted. Who begins while the sink is away
        believes the first book that is told, however old; and only by its times does a new process
        see which of what is stored is the latest.
        """
        left_out = ("stale", "clock_set") if self.restarts else ()
        return [kind for kind in self.kinds if kind not in left_out]

    @classmethod
    def of(cls, seed: int) -> "Plan":
        """The same for the same seed."""
        chance = random.Random(f"plan {seed}")
        first = VENUES[seed % len(VENUES)]
        others = [venue for venue in VENUES if venue != first]
        more = chance.choice([0, 0, 0, 1, 2])
        kinds = sorted(FAULTS)
        tight = chance.random() < 0.25
        mode: Literal["updates", "snapshot"] = "snapshot" if chance.random() < 0.12 else "updates"
        # Of their own, so that what a seed stood for before stays.
        extra = random.Random(f"books {seed}")
        shallow = extra.choice([50, 100, None, None])
        audit_interval = extra.choice([0.0, 2.0, 15.0])
        owner = random.Random(f"restarts {seed}")
        restarts = owner.choice([0.0, 0.0, owner.uniform(8.0, 50.0)])
        busy = extra.choice([0.2, 0.4, 1.0])
        plan = cls(
            seed,
            (first, *chance.sample(others, more)),
            tuple(kinds if chance.random() < 0.5 else chance.sample(kinds, 8)),
            chance.uniform(1.2, 7.0),
            chance.uniform(60.0, 120.0),
            chance.choice([400, 5000]),
            mode,
            audit_interval,
            chance.choice(["raw", "aggregated"]),
            chance.choice([0.0, 10.0] if mode == "updates" else [1.0, 10.0]),
            chance.randint(40, 150) if tight else 100_000,
            chance.randint(40, 150) if tight else 500_000,
            chance.random() < 0.7,
            chance.choice([0.25, 0.5, 1.0]),
            chance.choice([0.0, chance.uniform(12.0, 60.0)]),
            restarts,
            busy=busy,
        )
        return plan if shallow is None else attrs.evolve(plan, depth=shallow)


@attrs.define
class Outcome:
    """What came of a universe."""

    plan: Plan
    breaches: list[str]
    trace: str
    """The hash of everything that was stored and done, with its time."""
    counts: Counter[str]
    seconds: float
    """Virtual ones."""
    stored: int
    done: list[tuple[float, str, str]]
    stream: list[Stored]
    dropped: int
    """Accepted messages that were lost."""


@cache
def packaged(venues: tuple[str, ...]) -> Config:
    """The packaged configuration, which is the same in all universes."""
    return load(path=None, environ={}, directory=DEFAULTS, venues=dict(OFFERS), only=venues)


def _limits(usual: Limits, plan: Plan) -> Limits:
    limits = attrs.evolve(usual, connection_life=plan.life)
    if not plan.one_by_one:
        return limits
    return attrs.evolve(limits, message_interval=plan.one_by_one, subscribe_batch=1)


def configured(plan: Plan) -> Config:
    """The packaged configuration, with virtual hosts."""
    config = packaged(plan.venues)
    exchanges = {
        name: attrs.evolve(
            config.exchanges[name],
            api=Api(f"http://{name}", f"ws://{name}"),
            symbols=SYMBOLS[name],
            trade=TradeOptions("raw" if plan.trade_kind == "raw" else "aggregated"),
            orderbook=OrderbookOptions(
                plan.mode, plan.depth, plan.snapshot_interval, plan.audit_interval
            ),
            limits=_limits(config.exchanges[name].limits, plan),
        )
        for name in plan.venues
    }
    # Five minutes between attempts at a host that refuses us leave no room for the 60 s of R1:
    # that is about hosts which will not have us, not about the weather.
    supervision = attrs.evolve(config.supervision, refused_retry=20.0)
    stream = attrs.evolve(config.nats.stream, duplicate_window=REMEMBERED)
    return attrs.evolve(
        config,
        exchanges=exchanges,
        nats=attrs.evolve(config.nats, stream=stream),
        supervision=supervision,
        # Books give way at half of it: what a market says at once must fit into that half.
        channel=ChannelConfig(2 * plan.channel),
        outbox=OutboxConfig(plan.outbox, spool=SpoolConfig(enabled=False)),
    )


def lived(of: int | Plan) -> Outcome:
    """Let a universe, of a seed or as it was planned, live to its end, and judge it."""
    plan = Plan.of(of) if isinstance(of, int) else of
    config = configured(plan)
    clock = MockClock(autojump_threshold=0)
    with pinned(plan.seed), quiet() as errors, tempfile.TemporaryDirectory() as place:
        if plan.spool:
            spool = SpoolConfig(path=Path(place), max_bytes=plan.spool, min_free=1)
            config = attrs.evolve(config, outbox=attrs.evolve(config.outbox, spool=spool))
        with spools() as kill:
            return trio.run(_live, plan, config, errors, kill, clock=clock)


@attrs.define(eq=False)
class MortalSpool(Spool):
    """One that is closed for good when its process is killed."""

    killed: bool = False

    def open(self, now: str) -> None:
        if self.killed:
            raise StartFailed("the process was killed")
        super().open(now)


@contextmanager
def spools() -> Iterator[Callable[[], None]]:
    """What to call when a collector is killed, before its tasks end: the dead write nothing, and
    their spool's lock ends with them.
    """
    made: list[MortalSpool] = []

    def make(*arguments: Any) -> Spool:
        made.append(MortalSpool(*arguments))
        return made[-1]

    def kill() -> None:
        for spool in made[-1:]:
            spool.killed = True
            spool.close()

    with patch.object(assembly, "Spool", make):
        yield kill


async def _live(plan: Plan, config: Config, errors: list[str], kill: Callable[[], None]) -> Outcome:
    chance = random.Random(plan.seed)
    clock = Clock((EPOCH + chance.randrange(300)) * 1_000_000_000)
    base_ms = clock.base // 1_000_000
    rates = Rates(
        plan.busy * chance.uniform(0.5, 3.0), plan.busy * chance.uniform(1.0, 6.0), plan.step
    )
    exchanges = {
        venue: Truthful(
            venue,
            plan.seed,
            rates,
            lambda: base_ms + round(trio.current_time() * 1000),
            checksums=plan.checksums,
            symbols=NATIVE.get(venue),
        )
        for venue in plan.venues
    }
    if "placeholders" in plan.kinds:
        for exchange in exchanges.values():
            exchange.standings.keep_places(None)
    broker = Broker(config.nats, chance)
    async with trio.open_nursery() as nursery:
        net = Net(exchanges, chance, nursery)
        for exchange in exchanges.values():
            nursery.start_soon(exchange.run)

        chance_of_owner = random.Random(f"owner {plan.seed}")
        owner = Owner(
            partial(staged, config, clock, chance, net, broker),
            chance_of_owner,
            plan.restarts,
            kill,
        )
        chaos = Chaos(chance, exchanges, net, broker, clock)
        nursery.start_soon(owner.run, chaos)
        await trio.sleep(chance.uniform(0.0, 12.0))
        await chaos.rage(plan.rage, plan.mean_gap, plan.faults)
        await owner.content()
        calm = trio.current_time()
        await trio.sleep(LIVE_WITHIN + WATCHED)
        until = trio.current_time() - IN_FLIGHT
        collector = owner.collector
        collector.stopping.set()
        with trio.move_on_after(10):
            await collector.ended.wait()
        every = plan.snapshot_interval if plan.mode == "snapshot" else None
        terms = Terms(
            calm + LIVE_WITHIN,
            until,
            plan.trade_kind,
            plan.depth,
            every,
            owner.stops,
            clock.base / 1e9,
        )
        offers = {venue: list(OFFERS[venue]) for venue in plan.venues}
        breaches = [f"a bug: {error}" for error in errors]
        if not collector.ended.is_set() or collector.undelivered:
            breaches.append(f"it stopped with {collector.undelivered} undelivered")
        breaches += judged(exchanges.values(), offers, broker.stream, terms)
        nursery.cancel_scope.cancel()
    return Outcome(
        plan,
        breaches,
        _trace(broker.stream, chaos.done),
        chaos.counts,
        trio.current_time(),
        len(broker.stream),
        chaos.done,
        broker.stream,
        collector.board.spool.dropped,
    )


def _trace(stored: Sequence[Stored], done: Sequence[Any]) -> str:
    digest = hashlib.sha256()
    for message in stored:
        digest.update(repr(attrs.astuple(message)).encode())
    for fault in done:
        digest.update(repr(fault).encode())
    return digest.hexdigest()


@contextmanager
def pinned(seed: int) -> Iterator[None]:
    """What would make two runs differ, fixed: Trio's order of tasks, the pings' payloads, and when
    the collector of garbage ends what nobody holds.
    """
    deterministic = trio_run._ALLOW_DETERMINISTIC_SCHEDULING
    before, trio_before = random.getstate(), trio_run._r.getstate()
    trio_run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]
    trio_run._r.seed(seed)
    random.seed(seed)
    gc.collect()
    # What is there before is no garbage: not to be looked through once more for each universe.
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        trio_run._ALLOW_DETERMINISTIC_SCHEDULING = deterministic  # type: ignore[misc]
        trio_run._r.setstate(trio_before)
        random.setstate(before)


@contextmanager
def quiet() -> Iterator[list[str]]:
    """No log, but the bugs that the supervisor bore."""
    bugs: list[str] = []

    def collect(_logger: Any, _method: str, event: structlog.typing.EventDict) -> str:
        if event["event"].startswith("task."):
            bugs.append(f"{event.get('task')}: {event.get('reason')} {event.get('exc_info')!r}")
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(
        processors=[collect], wrapper_class=structlog.make_filtering_bound_logger(40)
    )
    try:
        yield bugs
    finally:
        structlog.configure(**before)
