"""Markets that come, rest and come back, through the whole system and over real sockets."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from loopback import untrusting
from nats_server import Server
from rig import Rig, configured, running

from marketprism import simulator
from marketprism.app import Collector
from marketprism.feeds import metadata
from marketprism.feeds import venue_tasks as venues
from marketprism.settings.supervision import FreshnessConfig
from marketprism.simulator import Exchange

pytestmark = pytest.mark.once

QUICK = FreshnessConfig(first_record=1.5, first_trade=600, floor=1.5, ceiling=3, factor=2)


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The list of markets is looked at closely, and read soon."""
    monkeypatch.setattr(venues, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(metadata, "APART", 0.5)
    monkeypatch.setattr("marketprism.feeds.collection.SPEAKING", 1_000_000_000)


@asynccontextmanager
async def collecting(exchange: Exchange, server: Server, venue: str) -> AsyncIterator[Rig]:
    """The whole system; what is missing is asked for each second."""
    async with trio.open_nursery() as nursery:
        address = await nursery.start(simulator.serve, exchange)
        config = configured(address, server, ("BTC-USDT", "ETH-USDT"), venue=venue)
        supervision = attrs.evolve(config.supervision, freshness=QUICK, refused_retry=1.0)
        collector = Collector(attrs.evolve(config, supervision=supervision), tls=untrusting)
        nursery.start_soon(collector.run)
        await collector.started.wait()
        yield Rig(exchange, collector, server, nursery)
        nursery.cancel_scope.cancel()


def states(rig: Rig, symbol: str) -> set[str]:
    """Where that market's streams stand."""
    rows = rig.collector.board.stream_rows()
    return {row.state for row in rows if row.instrument.symbol == symbol}


async def detail(rig: Rig, check: str) -> Any:
    """What /health says of it."""
    _, body = await rig.get("/health")
    return body["checks"][check]


@pytest.mark.parametrize("venue", ["okx_spot", "binance_spot"])
async def test_a_market_that_lists_while_we_run_is_collected(venue: str, server: Server) -> None:
    """On the connection that there is; the other market never notices."""
    exchange = simulator.market(venue, seed=4, trades_per_second=30)
    exchange.faults.unlist("ETH-USDT" if venue == "okx_spot" else "ETHUSDT", 3.0)
    async with collecting(exchange, server, venue) as rig:
        await rig.until(lambda: states(rig, "BTC-USDT") == {"live"})
        assert states(rig, "ETH-USDT") == set()
        assert "does not have ETH-USDT" in (await detail(rig, "venues"))["detail"]
        await rig.until(lambda: states(rig, "ETH-USDT") == {"live"})
        assert states(rig, "BTC-USDT") == {"live"}
        assert exchange.accepted == 1
        await rig.stop()
        consumer = await rig.consumed()
    assert consumer.faults == []
    assert consumer.gaps == []
    assert {"BTC-USDT", "ETH-USDT"} <= set(consumer.books)


async def test_a_market_that_halts_is_left_and_comes_back(server: Server) -> None:
    """The pages say so; the other market's records never stop, and have no gap."""
    exchange = simulator.market("okx_spot", seed=4, trades_per_second=30, quotes_per_second=40)
    async with collecting(exchange, server, "okx_spot") as rig:
        await rig.until(lambda: states(rig, "BTC-USDT") == states(rig, "ETH-USDT") == {"live"})
        exchange.faults.halt("ETH-USDT", 9.0)
        await rig.until(lambda: states(rig, "ETH-USDT") == {"paused"})
        _, status = await rig.get("/status")
        told = [row for row in status["streams"] if row["symbol"] == "ETH-USDT"]
        assert {(row["state"], row["detail"]) for row in told} == {("paused", "suspend")}
        assert "okx_spot ETH-USDT is paused (suspend)" in (await detail(rig, "streams"))["detail"]
        await rig.until(lambda: not any("ETH" in stream for stream in exchange.streams))
        await rig.until(lambda: states(rig, "ETH-USDT") == {"live"})
        await rig.stop()
        consumer = await rig.consumed()
    assert consumer.faults == []
    assert {gap["symbol"] for gap in consumer.gaps} == {"ETH-USDT"}


async def test_snapshots_too_large_for_the_server_are_told(
    absent_server: Server, tmp_path: Path
) -> None:
    """Books cannot be used without them: /health says so, and what to set."""
    limits = tmp_path / "limits.conf"
    limits.write_text("max_payload: 8192")
    absent_server.start("-c", str(limits))
    exchange = simulator.market("binance_spot", seed=4, trades_per_second=30)
    async with running(exchange, absent_server, ("BTC-USDT",), depth=400) as rig:
        await rig.until(lambda: rig.collector.board.sink.too_large)
        check = await detail(rig, "sink")
        assert check["status"] == "degraded"
        assert "messages of orderbook were too large and are not stored" in check["detail"]
        assert "8,192 are taken; raise max_payload of the NATS server" in check["detail"]
        _, status = await rig.get("/status")
        assert status["sink"]["oversize_by_data_type"]["orderbook"] >= 1
        assert status["sink"]["most_bytes"] == 8192
