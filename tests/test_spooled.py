"""The real process with NATS away: stopped or killed, the next one delivers what it left."""

import json
import signal
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import attrs
import httpx
import loopback
import pytest
import trio
from forms import form
from nats_server import Server
from patience import PATIENCE
from ports import free_port

from marketprism import simulator

pytestmark = pytest.mark.once

SPOOLED = form(2_000, 5_000)
"""Messages on disk before it is killed."""


@attrs.define(eq=False)
class Service:
    """Processes of one configuration, one after another."""

    directory: Path
    server: Server
    nursery: trio.Nursery
    outbox: dict[str, Any]
    health: int = attrs.field(factory=free_port)
    process: trio.Process | None = None

    async def begin(self, address: simulator.Address) -> None:
        """Start one."""
        config = {
            "exchanges": {
                "binance_spot": {
                    "api": {"base_url": address.base_url, "ws_url": address.ws_url},
                    "symbols": ["BTC-USDT", "ETH-USDT"],
                    "data_types": ["trade"],
                }
            },
            "nats": {"servers": [self.server.url]},
            "outbox": self.outbox,
            "http": {"port": self.health},
            "metrics": {"port": free_port()},
        }
        path = trio.Path(self.directory / "collector.yaml")
        await path.write_text(json.dumps(config))
        self.process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "marketprism", "--config", str(path)],
            cwd=self.directory,
            stderr=subprocess.PIPE,
        )

    async def status(self) -> dict[str, Any]:
        """Its page of that name."""
        async with loopback.client() as client:
            answer = await client.get(f"http://127.0.0.1:{self.health}/status")
        status: dict[str, Any] = answer.json()
        return status

    async def until(self, condition: Any, seconds: float = 20) -> dict[str, Any]:
        """Wait for something on that page; the page."""
        with trio.fail_after(seconds):
            while True:
                try:
                    page = await self.status()
                except httpx.TransportError:
                    page = {}
                if page and condition(page):
                    return page
                await trio.sleep(0.1)

    async def end(self, number: signal.Signals, seconds: float) -> tuple[int, list[dict[str, Any]]]:
        """Its exit code, and what it logged."""
        assert self.process is not None
        assert self.process.stderr is not None
        self.process.send_signal(number)
        log = b""
        with trio.fail_after(seconds):
            async for part in self.process.stderr:
                log += part
            code = await self.process.wait()
        return code, [json.loads(line) for line in log.splitlines()]


def event(log: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """The one line of that event."""
    (line,) = (line for line in log if line["event"] == name)
    return line


async def jumps(server: Server) -> dict[str, list[tuple[int, int]]]:
    """Where the trade ids of each symbol do not go on by one, in the order of the stream."""
    last: dict[str, int] = {}
    found: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for payload in await server.stored():
        fields = json.loads(payload)
        if fields["data_type"] == "trade":
            symbol, number = fields["symbol"], int(fields["trade_id"])
            if number != last.get(symbol, number - 1) + 1:
                found[symbol].append((last[symbol], number))
            last[symbol] = number
    return found


async def test_a_stop_with_nats_away_loses_nothing(
    absent_server: Server, tmp_path: Path, nursery: trio.Nursery
) -> None:
    """Exit 0, quickly; the next process stores every record of both, the first one's first."""
    exchange = simulator.market("binance_spot", seed=3, trades_per_second=1000)
    address = await nursery.start(simulator.serve, exchange)
    service = Service(tmp_path, absent_server, nursery, {})
    await service.begin(address)
    await service.until(lambda page: page["queues"]["outbox"]["held"] > 3000)
    code, log = await service.end(signal.SIGTERM, 3)
    assert code == 0
    stopped = event(log, "collector.stopped")
    spooled = event(log, "collector.spooled")["messages"]
    assert spooled == stopped["received"] + stopped["gaps"] > 3000
    await trio.to_thread.run_sync(absent_server.start)
    await service.begin(address)
    await service.until(lambda page: page["totals"]["published"] > spooled + 1000)
    code, log = await service.end(signal.SIGTERM, 5)
    assert code == 0
    again = event(log, "collector.stopped")
    assert again["stored"] == spooled + again["received"] + again["gaps"]
    assert len(await absent_server.stored()) == again["stored"]
    found = await jumps(absent_server)
    assert all(
        len(each) <= 1 and before < after for each in found.values() for before, after in each
    )


async def test_killed_while_it_spools_nothing_that_was_on_disk_is_lost_or_twice(
    server: Server, tmp_path: Path, nursery: trio.Nursery
) -> None:
    """NATS dies, the disk fills, the process is killed: after both are back the stream goes on
    where it stood, in order, up to the last that was written.
    """
    exchange = simulator.market("binance_spot", seed=4, trades_per_second=1500)
    address = await nursery.start(simulator.serve, exchange)
    service = Service(tmp_path, server, nursery, {"max_messages": 1000})
    await service.begin(address)
    await service.until(lambda page: page["totals"]["published"] > 1000)
    server.kill()
    page = await service.until(lambda page: page["sink"]["spooled"] > SPOOLED)
    assert page["status"] == "unhealthy"
    await service.end(signal.SIGKILL, 3)
    await trio.to_thread.run_sync(server.start)
    before = len(await server.stored())
    await service.begin(address)
    await service.until(lambda page: page["totals"]["published"] > SPOOLED + 2000)
    page = await service.until(lambda page: page["queues"]["spool"]["state"] == "idle")
    assert page["sink"]["spooled"] == 0
    code, _ = await service.end(signal.SIGTERM, 5)
    assert code == 0
    assert len(await server.stored()) > before + SPOOLED
    found = await jumps(server)
    # One for each symbol: what came while no process was there.
    assert all(
        len(each) <= 1 and before < after for each in found.values() for before, after in each
    )


async def test_two_processes_do_not_share_a_spool(
    server: Server, tmp_path: Path, nursery: trio.Nursery
) -> None:
    """The second ends with a line that says which it is."""
    exchange = simulator.market("binance_spot", seed=5)
    address = await nursery.start(simulator.serve, exchange)
    first = Service(tmp_path, server, nursery, {})
    await first.begin(address)
    await first.until(lambda page: page["sink"]["connected"])
    second = Service(tmp_path, server, nursery, {})
    await second.begin(address)
    assert second.process is not None
    assert second.process.stderr is not None
    with trio.fail_after(PATIENCE):
        words = b"".join([part async for part in second.process.stderr]).decode()
        assert await second.process.wait() == 1
    assert f"the spool {tmp_path}/data/spool/spool.sqlite3 is another process's now" in words
    assert (await first.end(signal.SIGTERM, 5))[0] == 0
