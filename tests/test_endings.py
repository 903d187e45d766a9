"""SIGTERM under load, again and again: the real process keeps what it read (R7)."""

import json
import signal
from pathlib import Path

import pytest
import trio
from consumer import Consumer
from forms import form
from nats_server import Server
from service import Service, configuration

from marketprism import simulator

pytestmark = pytest.mark.once

TIMES = form(2, 50)


async def test_a_stop_under_load_is_quick_and_loses_nothing(
    server: Server, tmp_path: Path, nursery: trio.Nursery
) -> None:
    """Exit 0 within five seconds at some 5,000 messages a second, each time; the next one goes on
    from there: what was read is in the stream, on disk for the next, or in a gap.
    """
    exchange = simulator.market(
        "binance_spot", seed=3, trades_per_second=2500, quotes_per_second=500
    )
    address = await nursery.start(simulator.serve, exchange)
    symbols = ("BTC-USDT", "ETH-USDT")
    content = configuration({"binance_spot": (address, symbols)}, server)
    stored = 0
    for turn in range(TIMES):
        service = Service(tmp_path / str(turn), content)
        await service.start()
        await service.healthy()
        await trio.sleep(1.0)
        assert await service.ends(signal.SIGTERM, within=5) == 0
        (stopped,) = service.log("collector.stopped")
        spooled = sum(line["messages"] for line in service.log("collector.spooled"))
        left = stopped["received"] + stopped["gaps"] - stopped["lost"] - stopped["conflated"]
        assert stopped["stored"] + spooled == left
        stored += stopped["stored"]
    consumer = Consumer()
    payloads = await server.stored()
    for payload in payloads:
        consumer.take(payload)
    assert consumer.faults == []
    assert {json.loads(p)["exchange"] for p in payloads} == {"binance"}
    assert len(payloads) == stored
    nursery.cancel_scope.cancel()
