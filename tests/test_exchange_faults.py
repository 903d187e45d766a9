"""What an exchange may do to us, over real sockets, and what the pages say meanwhile (R5).

Each fault befalls Binance spot, while OKX beside it must not notice. Printed with `-s`.
"""

import json
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from typing import Any
from urllib.parse import urlsplit

import attrs
import pytest
import trio
from consumer import Consumer
from forms import some
from loopback import untrusting
from nats_server import Server
from patience import PATIENCE
from peers import frame
from rig import Rig, configured
from wiretap import Relay, relaying

from marketprism import simulator
from marketprism.app import Collector
from marketprism.feeds import host_access
from marketprism.feeds.http_answers import Guess
from marketprism.settings.supervision import BackoffConfig, BreakerConfig, FreshnessConfig
from marketprism.simulator import Address, Exchange
from marketprism.simulator.skin import Answer

pytestmark = pytest.mark.once

SYMBOLS = ("BTC-USDT", "ETH-USDT")
LIMITS = {"silence_timeout": 3, "connect_timeout": 2, "max_message_bytes": 2**20}
Pages = dict[str, Any]


@attrs.define(eq=False)
class Scene:
    """Where a fault happens."""

    exchange: Exchange
    relay: Relay
    nursery: trio.Nursery

    async def break_in(self, data: bytes, pause: float = 0.01) -> None:
        """Write it upon the wire again and again, until the connection is gone."""

        async def write() -> None:
            while True:
                await self.relay.write(data)
                await trio.sleep(pause)

        self.nursery.start_soon(write)


@attrs.frozen
class Fault:
    """One of the table's rows."""

    begin: Callable[[Scene], Awaitable[None]]
    words: str
    """What must stand on a page while it lasts."""
    within: float
    """Seconds until it does."""
    end: Callable[[Scene], None] = lambda _: None
    reasons: frozenset[str] = frozenset({"disconnect"})
    """Of the gaps that may come."""
    limits: dict[str, Any] = attrs.field(factory=dict)


def at_once(deed: Callable[[Scene], object]) -> Callable[[Scene], Awaitable[None]]:
    """A deed that waits for nothing."""

    async def begin(scene: Scene) -> None:
        deed(scene)

    return begin


async def _slow_handshake(scene: Scene) -> None:
    scene.relay.hold()
    scene.exchange.faults.cut()


async def _endless_fragments(scene: Scene) -> None:
    scene.relay.hold()
    await trio.sleep(0.1)
    await scene.relay.write(frame(b'{"e":', final=False))
    await scene.break_in(frame(b"x" * 120, 0, final=False) * 200)


async def _refused(scene: Scene, status: int) -> None:
    scene.exchange.faults.refuse(4, status)
    scene.exchange.faults.cut()


async def _rest_fails(scene: Scene, status: int) -> None:
    scene.exchange.faults.fail(status, count=1, retry_after=3, path="/api/v3/depth")
    scene.exchange.faults.cut()


async def _banned(scene: Scene, status: int, how: Callable[[int], Answer]) -> None:
    """`how` makes the answer of the exchange's time, milliseconds, when it is over."""
    said = how(scene.exchange.now_ms() + 3_000)
    bans = iter([attrs.evolve(said, status=status)])
    vars(scene.exchange.faults.waiting)["failure"] = lambda path: (
        next(bans, None) if path == "/api/v3/depth" else None
    )
    scene.exchange.faults.cut()


def in_words(until: int) -> Answer:
    """The end of a ban in the body."""
    words = f"Way too many requests; IP(127.0.0.1) banned until {until}."
    return Answer(0, json.dumps({"code": -1003, "msg": words}).encode())


def as_a_date(until: int) -> Answer:
    """The end of a stop in a header; its seconds are whole."""
    return Answer(0, b"", {"Retry-After": formatdate(until / 1000, usegmt=True)})


def closed(code: int) -> Fault:
    """A close frame with this code."""
    return Fault(at_once(lambda scene: scene.exchange.faults.cut(code=code)), f"closed: {code}", 2)


NO_GAP: frozenset[str] = frozenset()
FAULTS: dict[str, Fault] = {
    "cut": Fault(at_once(lambda scene: scene.exchange.faults.cut()), "closed: 1006", 2),
    "reset": Fault(at_once(lambda scene: scene.relay.reset()), "closed: 1006", 2),
    "close 1001": closed(1001),
    "close 1007": closed(1007),
    "close 1009": closed(1009),
    "half-open": Fault(
        at_once(lambda scene: scene.relay.hold()),
        "nothing came for 3 s",
        6,
        lambda scene: scene.relay.go_on(),
        frozenset({"stale", "disconnect"}),
    ),
    "slow handshake": Fault(
        _slow_handshake, "no connection in time", 6, lambda scene: scene.relay.go_on()
    ),
    "garbage": Fault(
        at_once(lambda scene: scene.exchange.faults.garbage("truncated")),
        "not JSON",
        2,
        reasons=NO_GAP,
    ),
    "oversize": Fault(at_once(lambda scene: scene.exchange.faults.oversize(2**21)), "1009", 3),
    "endless fragments": Fault(
        _endless_fragments,
        "1009",
        PATIENCE,
        lambda scene: scene.relay.go_on(),
        # On a busy machine it takes long until they are too many, and nothing is said meanwhile.
        limits={"silence_timeout": PATIENCE},
    ),
    "acknowledged, no data": Fault(
        at_once(lambda scene: scene.exchange.faults.mute(5, stream="btcusdt@trade")),
        "renew",
        6,
        reasons=frozenset({"stale", "disconnect"}),
    ),
    "REST 429": Fault(
        lambda scene: _rest_fails(scene, 429),
        "status 429 (-1003: Too much request weight used; current limit is 6000 per minute.), "
        "stopped for 3 s",
        8,
    ),
    "REST 418": Fault(
        lambda scene: _rest_fails(scene, 418),
        "status 418 (-1003: Way too much request weight used; IP banned until later.), "
        "stopped for 3 s",
        8,
    ),
    "REST 418 in words": Fault(lambda scene: _banned(scene, 418, in_words), "banned until", 8),
    "REST 403 in words": Fault(lambda scene: _banned(scene, 403, in_words), "banned until", 8),
    "REST 429 with a date": Fault(lambda scene: _banned(scene, 429, as_a_date), "stopped for", 8),
    "REST 503": Fault(lambda scene: _rest_fails(scene, 503), "no snapshot: status 503", 8),
    "serverShutdown": Fault(
        at_once(lambda scene: scene.exchange.faults.server_shutdown(5.0)),
        '"rotations": {"ok": 1',
        5,
        reasons=NO_GAP,
    ),
    "its life is over": Fault(
        at_once(lambda _: None),
        '"rotations": {"ok": 3',
        20,
        reasons=NO_GAP,
        limits={"connection_life": 2.0},
    ),
    "handshake 429": Fault(lambda scene: _refused(scene, 429), "status 429", 3),
    "handshake 403": Fault(lambda scene: _refused(scene, 403), "403", 3),
    "handshake 451": Fault(lambda scene: _refused(scene, 451), "451", 3),
    "handshake 503": Fault(lambda scene: _refused(scene, 503), "503", 3),
}


async def pages(rig: Rig) -> Pages:
    """What the operator sees of the victim; of the bystander nothing."""
    _, connections = await rig.get("/connections")
    _, status = await rig.get("/status")
    _, health = await rig.get("/health")
    hosts = {urlsplit(row["url"]).netloc for row in connections["connections"] if row["url"]}
    return {
        "connections": [r for r in connections["connections"] if r["venue"] == "binance_spot"],
        "streams": [r for r in status["streams"] if r["venue"] == "binance_spot"],
        "hosts": [row for row in status["hosts"] if row["reason"] and hosts],
        "rejected": status["rejected"],
        "health": health["status"],
    }


def said(seen: Pages) -> str:
    """A line of it."""
    (row,) = seen["connections"][:1] or [{}]
    words = f"/connections: {row.get('state')}, {row.get('reason')}, breaker {row.get('breaker')}; "
    states = sorted(
        {f"{s['state']} {s['detail'] or ''} {s['alarm'] or ''}".strip() for s in seen["streams"]}
    )
    return words + f"/status: {'; '.join(states)}; /health: {seen['health']}"


@pytest.mark.parametrize(
    "name",
    some(
        FAULTS,
        *("reset", "close 1007", "close 1009", "REST 418", "REST 403 in words", "handshake 451"),
        *("handshake 503", "REST 429 with a date"),
    ),
)
async def test_a_fault_is_shown_survived_and_told(
    name: str,
    server: Server,
    nursery: trio.Nursery,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Seen in time, in words; live again; the gaps are true; nobody else and no task is touched."""
    fault = FAULTS[name]
    monkeypatch.setattr(host_access, "BAN", Guess(2.0, 2.0))
    victim = simulator.market("binance_spot", seed=5, trades_per_second=30, quotes_per_second=20)
    bystander = simulator.market("okx_spot", seed=6, trades_per_second=30, quotes_per_second=20)
    address = await nursery.start(simulator.serve, victim)
    beside = await nursery.start(simulator.serve, bystander)
    async with relaying(urlsplit(address.ws_url).port or 0) as relay:
        through = Address(f"ws://127.0.0.1:{relay.port}", address.base_url)
        config = configured(through, server, SYMBOLS, kind="raw", limits=LIMITS | fault.limits)
        other = configured(beside, server, SYMBOLS, venue="okx_spot")
        silence = fault.limits.get("silence_timeout", 2)
        supervision = attrs.evolve(
            config.supervision,
            backoff=BackoffConfig(first=2, cap=2),
            breaker=BreakerConfig(recovery_timeout=1),
            freshness=FreshnessConfig(
                first_record=silence,
                first_trade=silence,
                floor=silence,
                ceiling=silence + 1,
                factor=2,
            ),
            refused_retry=1,
        )
        both = {**config.exchanges, **other.exchanges}
        collector = Collector(
            attrs.evolve(config, exchanges=both, supervision=supervision),
            # Half of the longest wait, always: a second in which the pages can be read.
            jitter=lambda: 0.5,
            tls=untrusting,
        )
        nursery.start_soon(collector.run)
        rig = Rig(victim, collector, server, nursery)
        await flowing(rig)
        tasks = trio.lowlevel.current_statistics().tasks_living
        async with trio.open_nursery() as mischief:
            began = trio.current_time()
            await fault.begin(Scene(victim, relay, mischief))
            with trio.fail_after(fault.within):
                seen = await pages(rig)
                while fault.words not in json.dumps(seen):
                    await trio.sleep(0.1)
                    seen = await pages(rig)
            shown = trio.current_time() - began
            fault.end(Scene(victim, relay, mischief))
            mischief.cancel_scope.cancel()
        await flowing(rig)
        healed = trio.current_time() - began
        await rig.until(lambda: trio.lowlevel.current_statistics().tasks_living <= tasks + 2, 5)
        await rig.stop()
    consumers = {"binance": Consumer(), "okx": Consumer()}
    for payload in await server.stored():
        consumers[json.loads(payload)["exchange"]].take(payload)
    gaps = consumers["binance"].gaps
    with capsys.disabled():
        told = sorted({f"{gap['affected']} {gap['reason']}" for gap in gaps})
        print(
            f"\n{name}: shown after {shown:.1f} s, {said(seen)}; live after {healed:.1f} s;", told
        )
    assert consumers["binance"].faults == consumers["okx"].faults == []
    assert consumers["okx"].gaps == []
    assert {gap["reason"] for gap in gaps} <= fault.reasons
    nursery.cancel_scope.cancel()


async def flowing(rig: Rig) -> None:
    """Every stream lives, and its records come."""
    board = rig.collector.board
    await rig.until(lambda: len(board.streams) == 8)
    before = {key: row.records for key, row in board.streams.items()}
    await rig.until(
        lambda: all(
            row.state == "live" and row.alarm is None and row.records > before[key] + 3
            for key, row in board.streams.items()
        )
    )
