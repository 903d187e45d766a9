"""`demo`: simulated exchanges, an embedded NATS server and the collector, in one process."""

import shutil
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import attrs
import trio

from marketprism import config, log, signals, simulator
from marketprism.app import Collector, run_until_signalled
from marketprism.feeds import OFFERS
from marketprism.records import DataType
from marketprism.settings import Api, Config, LogLevel, ProxyConfig
from marketprism.status import Board

LINE_EVERY = 0.5
"""Seconds between two states of the live line."""
VARIABLES = ("HEALTH_CHECK_HOST", "HEALTH_CHECK_PORT", "METRICS_HOST", "METRICS_PORT")


def run(level: LogLevel, environ: Mapping[str, str], only: Sequence[str] = ()) -> None:
    """Show the whole system until Ctrl-C: all venues, or `only` some, on the ports that the
    environment names.
    """
    log.configure(level)
    log.stand_in()
    with tempfile.TemporaryDirectory(prefix="marketprism-demo-") as place:
        signals.end_at_once(0, partial(shutil.rmtree, place, ignore_errors=True))
        loaded = config.load(
            path=config.DEFAULTS / "collector/unified_data_collection.yaml",
            environ={name: environ[name] for name in VARIABLES if name in environ},
            directory=Path(place),
            venues=OFFERS,
            only=only,
        )
        trio.run(_demo, loaded)


async def _demo(loaded: Config) -> None:
    async with trio.open_nursery() as nursery:
        addresses = {}
        for number, name in enumerate(loaded.exchanges):
            exchange = simulator.market(name, seed=number)
            addresses[name] = await nursery.start(simulator.serve, exchange)
        collector = Collector(_pointed(loaded, addresses))
        nursery.start_soon(_show, collector)
        await run_until_signalled(collector)
        nursery.cancel_scope.cancel()
    print(f"\nstopped; {_totals(collector.board)}", flush=True)


def _pointed(loaded: Config, addresses: Mapping[str, simulator.Address]) -> Config:
    """The default configuration, with its exchanges and ports on this machine."""
    exchanges = {
        name: attrs.evolve(venue, api=Api(addresses[name].base_url, addresses[name].ws_url))
        for name, venue in loaded.exchanges.items()
    }
    return attrs.evolve(
        loaded,
        exchanges=exchanges,
        http=attrs.evolve(loaded.http, port=_port(loaded.http.host, loaded.http.port)),
        metrics=attrs.evolve(loaded.metrics, port=_port(loaded.metrics.host, loaded.metrics.port)),
        proxy=ProxyConfig(),
    )


def _port(host: str, wanted: int) -> int:
    """`wanted`, or 0 (a free one) when it is taken: a demo yields to whatever runs already."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return wanted if probe.connect_ex((host, wanted)) else 0


async def _show(collector: Collector) -> None:
    """The live line: what came, and how fast, of each data type."""
    board = collector.board
    await collector.started.wait()
    http, ports = collector.config.http, collector.ports
    print(f"simulated: {', '.join(collector.config.exchanges)}", flush=True)
    print(f"health:    http://{http.host}:{ports['health']}/health  (also /status, /connections)")
    print(f"metrics:   http://{collector.config.metrics.host}:{ports['metrics']}/metrics")
    print(f"NATS:      {board.sink.target or 'starting'}; Ctrl-C stops", flush=True)
    width = shutil.get_terminal_size().columns - 1 if sys.stdout.isatty() else None
    before, began = _received(board), trio.current_time()
    while True:
        await trio.sleep(LINE_EVERY)
        now = trio.current_time()
        counts = _received(board)
        seconds, began_at = now - began, now
        rates = "  ".join(
            f"{name} {(total - before.get(name, 0)) / seconds:,.0f}/s"
            for name, total in counts.items()
        )
        began, before = began_at, counts
        stored = sum(board.published.values())
        gaps = sum(board.gaps.values())
        line = f"stored {stored:,}  gaps {gaps}  {rates or 'nothing yet'}"
        if width is None:
            print(line, flush=True)
        else:
            print(f"\r\x1b[K{line[:width]}", end="", flush=True)


def _received(board: Board) -> dict[str, int]:
    counts = dict.fromkeys(map(str, DataType), 0)
    for (_, _, data_type), count in board.received.items():
        counts[data_type] += count
    return {name: count for name, count in counts.items() if count}


def _totals(board: Board) -> str:
    received, stored = sum(board.received.values()), sum(board.published.values())
    gaps = sum(board.gaps.values())
    return f"received {received:,} records, stored {stored:,} messages, {gaps} of them gaps"
