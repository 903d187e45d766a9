"""The whole process short of memory: a real collector, a real NATS server that is away for long."""

import json
import signal
import sys
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import httpx
import loopback
import pytest
import trio
from consumer import Consumer
from forms import LONG
from nats_server import Server
from patience import PATIENCE
from ports import free_port

from marketprism import simulator
from marketprism.simulator import Exchange

pytestmark = pytest.mark.skipif(not LONG, reason="a minute of a busy process: nox -s faults")

MIB = 2**20
SOFT, HARD = 90 * MIB, 98 * MIB
MARGIN = 25 * MIB
"""What may still come while the steps are taken, at this rate."""


@attrs.define(eq=False)
class Process:
    """The collector, as an operator sees it."""

    process: trio.Process
    port: int
    log: Path
    rss: list[int] = attrs.field(factory=list)

    async def get(self, path: str) -> dict[str, Any]:
        """A page of it."""
        async with loopback.client(timeout=PATIENCE) as client:
            answer = await client.get(f"http://127.0.0.1:{self.port}{path}")
        fields: dict[str, Any] = answer.json()
        return fields

    async def until(self, condition: Any, seconds: float = 60) -> dict[str, Any]:
        """The first /status that fulfils it; how much memory was used is noted on the way."""
        with trio.fail_after(seconds):
            while True:
                try:
                    page = await self.get("/status")
                except httpx.TransportError:
                    page = {}
                else:
                    self.rss.append(page["memory"]["rss_bytes"])
                    if condition(page):
                        return page
                await trio.sleep(0.05)

    def events(self, *names: str) -> list[dict[str, Any]]:
        """What it logged under these names, in order."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [line for line in lines if line["event"] in names]


async def start(
    exchange: Exchange, server: Server, directory: Path, nursery: trio.Nursery
) -> Process:
    """A collector of that exchange, whose memory is bounded."""
    address = await nursery.start(simulator.serve, exchange)
    health = free_port()
    config = {
        "exchanges": {
            "binance_spot": {
                "api": {"base_url": address.base_url, "ws_url": address.ws_url},
                "symbols": ["BTC-USDT", "ETH-USDT"],
                "orderbook": {"snapshot_interval": 2},
            }
        },
        "nats": {"servers": [server.url]},
        "memory": {
            "soft": SOFT,
            "hard": HARD,
            "check_interval": 0.1,
            "step_interval": 0.5,
            "relief_interval": 1,
        },
        "channel": {"capacity": 20_000},
        "http": {"port": health},
        "metrics": {"port": free_port()},
    }
    path, log = directory / "collector.yaml", directory / "stderr.jsonl"
    path.write_text(json.dumps(config))
    with log.open("wb") as stderr:
        run = partial(
            trio.run_process,
            [sys.executable, "-m", "marketprism", "--config", str(path)],
            cwd=directory,
            stderr=stderr,
        )
        process = await nursery.start(run)
    return Process(process, health, log)


def holes(payloads: list[bytes]) -> dict[str, list[tuple[int, int, int]]]:
    """By symbol, each gap of a book: the id before it, its first and its last; fails where the
    snapshot after it is not of the last one, or something comes before that.
    """
    known: dict[str, int] = {}
    waiting: dict[str, int] = {}
    found: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
    for fields in map(json.loads, payloads):
        symbol = fields["symbol"]
        if fields["data_type"] == "gap" and fields["affected"] == "orderbook":
            first, last = int(fields["first_missing_id"]), int(fields["last_missing_id"])
            found[symbol].append((known[symbol], first, last))
            waiting[symbol] = last
        elif fields["data_type"] == "orderbook":
            if symbol in waiting:
                assert fields["update_type"] == "snapshot"
                assert fields["last_update_id"] == waiting.pop(symbol)
            known[symbol] = fields["last_update_id"]
    assert not waiting
    return found


async def test_memory_is_shed_before_the_limit_and_all_is_well_when_it_is_back(
    server: Server, tmp_path: Path, nursery: trio.Nursery
) -> None:
    """NATS is away: health says who holds the memory, burdens are shed in order, and memory stays
    where it is allowed to be. NATS returns: all is taken up again, and what was withheld lies in
    its gaps to the id.
    """
    exchange = simulator.market(
        "binance_spot", seed=3, trades_per_second=2000, quotes_per_second=2000
    )
    collector = await start(exchange, server, tmp_path, nursery)
    page = await collector.until(
        lambda page: (
            page
            and page["totals"]["published"] > 2000
            and page["memory"]["holders"]["books"]["books"] == 2
        )
    )
    memory = page["memory"]
    assert (memory["soft_bytes"], memory["hard_bytes"]) == (SOFT, HARD)
    assert memory["source"] == "configured"
    assert memory["rss_bytes"] < SOFT, "the process alone is already as large"

    server.kill()
    await collector.until(lambda page: page and page["memory"]["rss_bytes"] > SOFT)
    await collector.until(lambda page: page and "books" in page["memory"]["shed"])
    health = await collector.get("/health")
    words = health["checks"]["memory"]["detail"]
    assert health["checks"]["memory"]["status"] == "degraded"
    assert "memory is high" in words
    assert "the outbox about" in words
    assert "given up to save memory: books" in words
    everything = ["books", "buffers", "spool"]
    page = await collector.until(lambda page: page and page["memory"]["shed"] == everything)
    assert page["queues"]["channel"]["conflating"]
    await trio.sleep(4)
    await collector.until(lambda page: page)
    assert max(collector.rss) < HARD + MARGIN

    server.start()
    await collector.until(lambda page: page and page["memory"]["shed"] == [], 90)
    page = await collector.until(
        lambda page: page and not page["queues"]["channel"]["conflating"] and drained(page)
    )
    assert page["totals"]["conflated"] > 0
    before = page["totals"]["published"]
    page = await collector.until(lambda page: page and page["totals"]["published"] > before + 2000)
    health = await collector.get("/health")
    ill = {name: row for name, row in health["checks"].items() if row["status"] != "healthy"}
    assert ill == {}
    collector.process.send_signal(signal.SIGTERM)
    with trio.fail_after(PATIENCE):
        assert await collector.process.wait() == 0

    actions = [
        (line["event"].removeprefix("memory."), line["burden"])
        for line in collector.events("memory.shed", "memory.relieved")
    ]
    assert actions[:3] == [("shed", burden) for burden in everything]
    assert actions[-3:] == [("relieved", burden) for burden in reversed(everything)]
    stored = await server.stored()
    consumer = Consumer()
    for payload in stored:
        consumer.take(payload)
    assert consumer.faults == []
    assert {gap["reason"] for gap in consumer.gaps} == {"overflow"}
    found = holes(stored)
    assert set(found) == {"BTC-USDT", "ETH-USDT"}
    assert all(first == before + 1 for gaps in found.values() for before, first, _ in gaps)
    (stopped,) = collector.events("collector.stopped")
    lost = {
        affected: sum(gap["lost"] for gap in consumer.gaps if gap["affected"] == affected)
        for affected in ("orderbook", "trade")
    }
    # Snapshots that were skipped while the channel was pressed are in no gap.
    assert 0 < lost["orderbook"] <= stopped["conflated"]
    assert lost["trade"] == stopped["lost"]


def drained(page: dict[str, Any]) -> bool:
    """Nothing waits for the sink but what just came, and nothing is on disk."""
    queues = page["queues"]
    waiting = queues["outbox"]["held"] + queues["channel"]["held"]
    return bool(waiting < 1000 and not queues["spool"]["held"])
