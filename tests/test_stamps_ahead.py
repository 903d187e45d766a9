"""Stamps of a time to come, through the whole process: exchanges on loopback, a real NATS."""

import json
from collections import Counter
from typing import Any

import loopback
import pytest
import trio
from nats_server import Server
from rig import Rig, configured, running

from marketprism.app import Collector
from marketprism.records import DataType
from marketprism.simulator import Exchange, market, serve
from marketprism.simulator.faults import Faults

pytestmark = pytest.mark.once

DAY, FAR = 86_400, 10**12
KINDS = {
    "binance_spot": ("trade", "orderbook"),
    "binance_derivatives": ("trade", "orderbook", "funding_rate"),
    "okx_spot": ("trade", "orderbook"),
    "okx_derivatives": ("trade", "orderbook", "open_interest"),
    "deribit_derivatives": ("volatility_index",),
}
"""What comes often enough to be waited for."""


def busy(venue: str) -> Exchange:
    """A market in which much happens."""
    return market(venue, seed=1, trades_per_second=40, quotes_per_second=80)


def records(rig: Rig) -> Counter[str]:
    """How many records there are of each data type."""
    counts: Counter[str] = Counter()
    for row in rig.collector.board.stream_rows():
        counts[str(row.data_type)] += row.records
    return counts


def ahead(rig: Rig) -> Counter[str]:
    """How many had a time to come."""
    counts: Counter[str] = Counter()
    for row in rig.collector.board.stream_rows():
        counts[str(row.data_type)] += row.stamps_ahead
    return counts


async def further(rig: Rig, kinds: tuple[str, ...], count: int) -> None:
    """Wait until so many more records of each of them have come."""
    before = records(rig)
    await rig.until(lambda: all(records(rig)[kind] >= before[kind] + count for kind in kinds))


async def stored(server: Server) -> list[dict[str, Any]]:
    """The payloads of the stream."""
    return [json.loads(payload) for payload in await server.stored()]


@pytest.mark.parametrize("jump", [0, FAR], ids=["time", "time and number"])
@pytest.mark.parametrize("venue", KINDS)
async def test_they_block_nothing_and_are_counted(venue: str, jump: int, server: Server) -> None:
    """Whatever kind comes so, it goes on. Without a gap; but what was told under another number is
    missing under its own.
    """
    exchange, kinds = busy(venue), KINDS[venue]
    symbols = ("BTC",) if venue == "deribit_derivatives" else ("BTC-USDT",)
    types = [DataType(kind) for kind in kinds]
    async with running(exchange, server, symbols, venue=venue, data_types=types) as rig:
        await rig.settled()
        await further(rig, kinds, 2)
        for kind in kinds:
            exchange.faults.ahead(DAY, kind=kind, jump=jump)
        await rig.until(lambda: all(ahead(rig)[kind] for kind in kinds))
        await further(rig, kinds, 3)
        assert ahead(rig) == dict.fromkeys(kinds, 1)
        await rig.stop()
        consumer = await rig.consumed()
        gaps = [(gap["affected"], gap["lost"]) for gap in consumer.gaps if gap["lost"] != 0]
        assert {affected for affected, _ in gaps} <= ({"trade", "orderbook"} if jump else set())
        assert len(gaps) <= 2
        assert all(lost == 1 for affected, lost in gaps if affected == "trade")
        assert consumer.faults == []
        assert rig.collector.board.rejected == {}


async def test_the_last_message_before_a_restart_may_be_such_a_one(server: Server) -> None:
    """It is a position by its id: what was missed is one gap, counted, and nothing comes twice."""
    exchange = busy("binance_spot")
    async with trio.open_nursery() as nursery:
        address = await nursery.start(serve, exchange)

        async def collected() -> Rig:
            config = configured(
                address, server, ("BTC-USDT",), data_types=[DataType.TRADE], kind="raw"
            )
            collector = Collector(config, tls=loopback.untrusting)
            nursery.start_soon(collector.run)
            await collector.started.wait()
            return Rig(exchange, collector, server, nursery)

        rig = await collected()
        await further(rig, ("trade",), 5)
        exchange.faults.ahead(DAY, count=10**9, kind="trade")
        await rig.until(lambda: ahead(rig)["trade"] > 5)
        await rig.stop()
        exchange.faults = Faults(exchange)
        before = await stored(server)
        rig = await collected()
        await further(rig, ("trade",), 5)
        await rig.stop()
        nursery.cancel_scope.cancel()
    last = before[-1]
    assert last["timestamp"] > last["collected_at"]
    gap, first, *_ = (await stored(server))[len(before) :]
    assert (gap["affected"], gap["reason"]) == ("trade", "restart")
    assert int(gap["first_missing_id"]) == int(last["trade_id"]) + 1
    assert int(first["trade_id"]) == int(gap["last_missing_id"]) + 1
    assert (await rig.consumed()).faults == []
