"""SIGTERM under load, again and again: the real process keeps what it read (R7)."""

import json
import signal
import sys
from pathlib import Path

import pytest
import trio
from consumer import Consumer
from forms import form
from loopback import untrusting
from market_log import Feed
from nats_server import Server
from patience import PATIENCE
from ports import free_port
from service import Service, configuration

from marketprism import simulator
from marketprism.app import Collector
from marketprism.outbox.spool import Spool
from marketprism.settings.nats import EmbeddedConfig, NatsConfig
from marketprism.settings.settings import (
    Config,
    HttpConfig,
    MetricsConfig,
    OutboxConfig,
    SpoolConfig,
)

pytestmark = pytest.mark.once

TIMES = form(1, 50)


NEVER_READY = """#!{python}
import http.server, sys

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_error(503)

port = int(sys.argv[sys.argv.index("-m") + 1])
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


@pytest.mark.parametrize("met", ["its spool is read", "its server recovers"])
async def test_a_stop_while_it_starts_is_quick_and_loses_nothing(
    met: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery
) -> None:
    """Nothing that it waits for keeps it; what a former process left is as it was."""
    executable, program = sys.executable, tmp_path / "nats-server"
    program.write_text(NEVER_READY.format(python=executable))
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    store = EmbeddedConfig(port=free_port(), monitor_port=free_port(), store_dir=tmp_path / "nats")
    config = Config(
        nats=NatsConfig(embedded=store),
        outbox=OutboxConfig(spool=SpoolConfig(path=tmp_path / "spool")),
        http=HttpConfig(port=free_port()),
        metrics=MetricsConfig(port=free_port()),
    )
    feed, spool = Feed(), Spool(tmp_path / "spool", 10**9, 0)
    messages = [(2 + 2 * place, feed.trade()) for place in range(30_000)]
    spool.open("now")
    spool.write(messages, 40)
    spool.close()
    collector = Collector(config, tls=untrusting)
    nursery.start_soon(collector.run)
    if met == "its server recovers":
        with trio.fail_after(PATIENCE):
            await listening(store.monitor_port)
        assert collector.undelivered > 0
    collector.stopping.set()
    with trio.fail_after(PATIENCE):
        await collector.ended.wait()
    assert collector.undelivered == 0
    spool.open("now")
    assert [each for block in spool.blocks() for each in block.messages()] == messages
    spool.close()


async def listening(port: int) -> None:
    """Wait until somebody does."""
    while True:
        try:
            await (await trio.open_tcp_stream("127.0.0.1", port)).aclose()
        except OSError:
            await trio.sleep(0.05)
        else:
            return


async def test_a_stop_under_load_is_quick_and_loses_nothing(server: Server, tmp_path: Path) -> None:
    """Exit 0 within its grace at some 5,000 messages a second, each time; the next one goes on
    from there: what was read is in the stream, on disk for the next, or in a gap.
    """
    exchange = simulator.market(
        "binance_spot", seed=3, trades_per_second=2500, quotes_per_second=500
    )
    stored = 0
    async with trio.open_nursery() as trading:
        address = await trading.start(simulator.serve, exchange)
        symbols = ("BTC-USDT", "ETH-USDT")
        content = configuration({"binance_spot": (address, symbols)}, server)
        for turn in range(TIMES):
            service = Service(tmp_path / str(turn), content)
            await service.start()
            await service.healthy()
            await trio.sleep(1.0)
            assert await service.ends(signal.SIGTERM) == 0
            (stopped,) = service.log("collector.stopped")
            spooled = sum(line["messages"] for line in service.log("collector.spooled"))
            left = stopped["received"] + stopped["gaps"] - stopped["lost"] - stopped["conflated"]
            assert stopped["stored"] + spooled == left
            stored += stopped["stored"]
        trading.cancel_scope.cancel()
    consumer = Consumer()
    payloads = await server.stored()
    for payload in payloads:
        consumer.take(payload)
    assert consumer.faults == []
    assert {json.loads(p)["exchange"] for p in payloads} == {"binance"}
    assert len(payloads) == stored
