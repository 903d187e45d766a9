"""What an exchange refuses for a while, over real sockets and into a real NATS server: an OKX book
in the default run, Deribit's maintenance, 92 s of it, in `nox -s faults`.
"""

import pytest
import trio
from consumer import Consumer
from forms import LONG
from nats_server import Server
from rig import Rig, running

from marketprism import simulator
from marketprism.records import DataType

pytestmark = pytest.mark.once

WITHIN = 60.0
"""Seconds in which all is live again after a refusal that passes."""


async def gapless(rig: Rig) -> Consumer:
    """Stop; what a consumer made of the stream."""
    await rig.settled()
    await rig.stop()
    consumer = await rig.consumed()
    assert consumer.faults == []
    return consumer


async def test_a_book_of_okx_whose_resubscription_is_refused(server: Server) -> None:
    """One update missed, 50026 for a second: parked in those words, then live, after one gap; its
    trades and its neighbour notice nothing, nor does the connection.
    """
    exchange = simulator.market("okx_spot", seed=6, trades_per_second=20, quotes_per_second=20)
    async with running(
        exchange, server, ("BTC-USDT", "ETH-USDT"), venue="okx_spot", limits={"heartbeat": 20.0}
    ) as rig:
        rows = rig.collector.board.streams
        await rig.until(lambda: len(rows) == 4)
        await rig.until(lambda: all(row.state == "live" for row in rows.values()))
        row = rows["okx_spot", (DataType.ORDERBOOK, "BTC-USDT")]
        exchange.faults.refuse_subscriptions(1.0, "50026", "System error")
        exchange.faults.skip(1, "BTC-USDT", "orderbook")
        await rig.until(lambda: row.state == "parked")
        assert row.live is not None
        assert row.live.detail == "50026: System error"
        await rig.until(lambda: row.state == "live", WITHIN)
        before = row.records
        await rig.until(lambda: row.records > before)
        consumer = await gapless(rig)
    assert exchange.accepted == 1
    (gap,) = consumer.gaps
    assert (gap["affected"], gap["symbol"], gap["reason"]) == ("orderbook", "BTC-USDT", "sequence")
    assert all(len(trades) > 10 for trades in consumer.trades.values())


@pytest.mark.skipif(not LONG, reason="two and a half minutes: nox -s faults")
async def test_deribits_maintenance(server: Server) -> None:
    """For 92 s the socket stands, heartbeats are answered, nothing comes and subscribing answers
    11051: both indices live within a minute of its end, and what was missed is filled in.
    """
    exchange = simulator.market("deribit_derivatives", seed=6)
    async with running(exchange, server, ("BTC", "ETH"), venue="deribit_derivatives") as rig:
        rows = rig.collector.board.streams
        await rig.until(lambda: [row.state for row in rows.values()] == ["live"] * 2)
        for stream in list(exchange.streams):
            exchange.faults.mute(92, stream=stream)
        exchange.faults.refuse_subscriptions(92, "11051", "system_maintenance")
        await trio.sleep(85)
        assert [row.state for row in rows.values()] == ["parked"] * 2
        await trio.sleep(7)
        await rig.until(lambda: [row.state for row in rows.values()] == ["live"] * 2, WITHIN)
        await rig.until(lambda: not any(row.cursor and row.cursor.gap for row in rows.values()))
        consumer = await gapless(rig)
    assert exchange.accepted == 1
    assert consumer.gaps == []
