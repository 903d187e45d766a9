"""The real process, where something fails that nobody survives: what it read is not lost."""

import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import trio
from consumer import Consumer
from nats_server import Server
from patience import PATIENCE
from service import Service, configuration

from marketprism import simulator

pytestmark = pytest.mark.once

PROGRAM = """
import sys

import trio

from marketprism import app
from marketprism.__main__ import main


def failing(function, board_of):
    async def fail(*arguments, **options):
        board = board_of(arguments, options)

        async def watch():
            while board.received.total() < 300:
                await trio.sleep(0.02)
            raise RuntimeError("a bug")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            await function(*arguments, **options)
            await trio.sleep_forever()

    return fail


fails, sys.argv[1:] = sys.argv[1], ["--config", sys.argv[2]]
original = getattr(app, fails)
boards = {
    "pump": lambda arguments, _: arguments[2],
    "run_venue": lambda arguments, _: arguments[2].board,
    "serve": lambda _, options: options["board"],
}
setattr(app, fails, failing(original, boards[fails]))
sys.exit(main())
"""


class Doomed(Service):
    """One that fails by itself."""

    def __init__(self, directory: Path, content: dict[str, Any], fails: str) -> None:
        super().__init__(directory, content)
        (directory / "doomed.py").write_text(PROGRAM)
        self.command = [sys.executable, str(directory / "doomed.py"), fails, str(self.file)]


@pytest.mark.parametrize("fails", ["pump", "run_venue", "serve"])
async def test_a_failure_that_ends_the_process_leaves_what_it_read_on_disk(
    fails: str, absent_server: Server, tmp_path: Path, nursery: trio.Nursery
) -> None:
    """NATS is away, and all that was read is in memory: exit 1, and the next process stores it."""
    exchange = simulator.market("binance_spot", seed=3, trades_per_second=500)
    address = await nursery.start(simulator.serve, exchange)
    content = configuration({"binance_spot": (address, ("BTC-USDT",))}, absent_server)
    content["nats"]["restart_lookup"] = 0.2
    doomed = Doomed(tmp_path, content, fails)
    await doomed.start()
    with trio.fail_after(PATIENCE):
        assert await doomed.process.wait() == 1
    assert doomed.log("collector.failed"), doomed.told
    (failed,) = doomed.log("collector.failed")
    assert failed["reason"] == "RuntimeError: a bug"
    (spooled,) = doomed.log("collector.spooled")
    assert spooled["messages"] == failed["received"] + failed["gaps"] - failed["lost"] > 100
    assert not doomed.log("collector.undelivered")
    await trio.to_thread.run_sync(absent_server.start)
    following = Service(tmp_path, content)
    await following.start()
    await following.healthy()
    assert await following.ends(signal.SIGTERM) == 0
    payloads = await absent_server.stored()
    (stopped,) = following.log("collector.stopped")
    assert len(payloads) == spooled["messages"] + stopped["received"] + stopped["gaps"]
    consumer = Consumer()
    for payload in payloads:
        consumer.take(payload)
    assert consumer.faults == []
    assert {gap["reason"] for gap in consumer.gaps} <= {"restart", "sequence", "disconnect"}
    trades = [json.loads(p) for p in payloads if json.loads(p)["data_type"] == "trade"]
    ids = [int(trade["trade_id"]) for trade in trades]
    assert ids == sorted(set(ids))
    nursery.cancel_scope.cancel()
