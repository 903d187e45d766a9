"""SIGKILL of the whole collector, again and again: what the stream holds afterwards (R8)."""

import json
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from consumer import Consumer
from forms import form
from loopback import untrusting
from nats_server import Server
from ports import free_port
from rig import Rig, configured

from marketprism import simulator
from marketprism.app import Collector
from marketprism.feeds import OFFERS
from marketprism.records import DataType

pytestmark = pytest.mark.once

KILLS = form(2, 20)
"""So often it is killed."""
LIFE = 600
"""Messages that are stored between two kills."""
WINDOW = 0.5
"""Seconds for which the server remembers ids: less than a restart takes."""
SYMBOLS = {"deribit_derivatives": ["BTC"]}
PROVEN = {"orderbook", "trade", "volatility_index", "lsr_top_position", "lsr_all_account"} | {
    "funding_rate"
}
"""What may be proven continuous over a restart: by ids, by rows, by what is filled in, or because
the exchange tells the last one again as its latest."""
STEPS = {"volatility_index": 2.1, "lsr_top_position": 300.0, "lsr_all_account": 300.0}
"""Seconds from record to record, at most, where nothing is missing."""


async def stored(server: Server) -> int:
    """How many messages the stream has."""
    info = await server.manage("STREAM.INFO.MARKET_DATA")
    return int(info.get("state", {}).get("messages", 0))


async def started(path: Path) -> trio.Process:
    """The collector, as a process of its own."""
    return await trio.lowlevel.open_process(
        [sys.executable, "-m", "marketprism", "--config", str(path)],
        cwd=path.parent,
        stderr=subprocess.DEVNULL,
    )


def seconds(text: str) -> float:
    """A time of a payload."""
    return datetime.fromisoformat(text).timestamp()


async def test_a_collector_that_is_killed_again_and_again_stores_nothing_twice(
    server: Server, tmp_path: Path, nursery: trio.Nursery
) -> None:
    """Of all venues, each stream goes on from its own last message: it is proven continuous, or
    stands behind a gap.
    """
    exchanges = {}
    for venue in OFFERS:
        exchange = simulator.market(venue, seed=9, trades_per_second=50, quotes_per_second=60)
        address = await nursery.start(simulator.serve, exchange)
        exchanges[venue] = {
            "api": {"base_url": address.base_url, "ws_url": address.ws_url},
            "symbols": SYMBOLS.get(venue, ["BTC-USDT"]),
        }
        if DataType.ORDERBOOK in OFFERS[venue]:
            exchanges[venue]["orderbook"] = {"snapshot_interval": "1s"}
    config = {
        "exchanges": exchanges,
        "nats": {"servers": [server.url], "stream": {"duplicate_window": WINDOW}},
        "http": {"port": free_port()},
        "metrics": {"port": free_port()},
    }
    path = tmp_path / "collector.yaml"
    path.write_text(json.dumps(config))
    killed: list[float] = []
    before = 0
    with trio.fail_after(20 * (KILLS + 1)):
        for kill in range(KILLS + 1):
            process = await started(path)
            while await stored(server) < before + LIFE:  # noqa: ASYNC110 (another process)
                await trio.sleep(0.2)
            if kill < KILLS:
                process.kill()
                killed.append(datetime.now(UTC).timestamp())
            else:
                process.send_signal(signal.SIGTERM)
            await process.wait()
            before = await stored(server)
    messages = await server.messages()
    ids = Counter((message.headers or {})["Nats-Msg-Id"] for message in messages)
    assert [each for each, times in ids.items() if times > 1] == []
    consumers: dict[tuple[str, str], Consumer] = defaultdict(Consumer)
    streams: dict[tuple[str, str, str], list[dict[str, Any]]] = defaultdict(list)
    for message in messages:
        fields = json.loads(message.data)
        market = fields["exchange"], fields["market_type"]
        consumers[market].take(message.data)
        streams[*market, fields.get("affected", fields["data_type"])].append(fields)
    assert [fault for consumer in consumers.values() for fault in consumer.faults] == []
    for stream, entries in streams.items():
        for moment in killed:
            over(stream, moment, entries)
    told = {data_type for *_, data_type in streams}
    assert told >= {str(each) for offer in OFFERS.values() for each in offer} - {"liquidation"}


async def test_where_nats_is_away_at_the_restart_gaps_go_ahead_of_what_was_read(
    server: Server, nursery: trio.Nursery
) -> None:
    """The feeds wait a moment, and begin; when NATS comes, the gap since the last stored message
    is in the stream before the first of the new ones.
    """
    exchange = simulator.market("binance_spot", seed=4, trades_per_second=50)
    address = await nursery.start(simulator.serve, exchange)
    config = configured(address, server, ("BTC-USDT", "ETH-USDT"), kind="raw")
    config = attrs.evolve(config, nats=attrs.evolve(config.nats, restart_lookup=0.5))
    for life in range(2):
        collector = Collector(config, tls=untrusting)
        rig = Rig(exchange, collector, server, nursery)
        if life:
            server.kill()
        nursery.start_soon(collector.run)
        if life:
            received = collector.board.received
            await rig.until(lambda received=received: sum(received.values()) > 100)
            await trio.to_thread.run_sync(server.start)
        published = collector.board.published
        await rig.until(lambda published=published: sum(published.values()) > 200)
        await rig.stop()
    consumer = await rig.consumed()
    assert consumer.faults == []
    found = [(gap["affected"], gap["symbol"], gap["reason"]) for gap in consumer.gaps]
    assert sorted(found) == [
        (affected, symbol, "restart")
        for affected in ("orderbook", "trade")
        for symbol in ("BTC-USDT", "ETH-USDT")
    ]
    for gap in consumer.gaps:
        assert gap["connection"] == "restart"
        assert gap["started_at"] < gap["ended_at"]
        if gap["affected"] == "trade":
            numbers = consumer.trades[gap["symbol"]]
            first, last = int(gap["first_missing_id"]), int(gap["last_missing_id"])
            assert {first - 1, last + 1} < set(numbers)
            assert gap["lost"] == last - first + 1
            assert not set(range(first, last + 1)) & set(numbers)


def over(stream: tuple[str, str, str], moment: float, entries: list[dict[str, Any]]) -> None:
    """A kill at `moment` is within a gap, or what was stored before and after it joins."""
    data_type = stream[2]
    records = [each for each in entries if each["data_type"] != "gap"]
    before = [each for each in records if seconds(each["collected_at"]) <= moment]
    after = [each for each in records if seconds(each["collected_at"]) > moment]
    if not before:
        return
    gaps = [
        gap
        for gap in entries
        if gap["data_type"] == "gap"
        and gap["reason"] == "restart"
        and seconds(gap["started_at"]) <= moment <= seconds(gap["ended_at"])
    ]
    if gaps:
        last = seconds(before[-1]["collected_at"])
        # It may begin up to a second earlier, where that keeps its id apart from another's.
        assert -1.002 < seconds(gaps[0]["started_at"]) - last < 0.002, stream
        return
    assert data_type in PROVEN, f"{stream}: no gap at {moment}"
    if after and data_type in STEPS:
        step = seconds(after[0]["timestamp"]) - seconds(before[-1]["timestamp"])
        assert 0 < step <= STEPS[data_type], stream
    if after and data_type == "trade":
        assert int(after[0]["trade_id"]) == int(before[-1]["trade_id"]) + 1, stream
