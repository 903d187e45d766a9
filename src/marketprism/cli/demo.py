"""`demo`: simulated exchanges, an embedded NATS server and the collector, in one process."""

import shutil
import socket
import sys
import tempfile
from collections import deque
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from textwrap import wrap
from urllib.parse import urlsplit

import attrs
import trio

from marketprism import signals, simulator
from marketprism.app import Collector
from marketprism.board.board import Board
from marketprism.feeds import OFFERS
from marketprism.observe import log
from marketprism.records import DataType
from marketprism.settings import config, sources
from marketprism.settings.exchanges import Api
from marketprism.settings.settings import Config, LogLevel, ProxyConfig
from marketprism.stopping import run_until_signalled

LINE_EVERY = 0.5
"""Seconds between two states of the live lines."""
RATES_OVER = 10
"""States that the rates look back."""
VARIABLES = ("HEALTH_CHECK_HOST", "HEALTH_CHECK_PORT", "METRICS_HOST", "METRICS_PORT")


def run(level: LogLevel, environ: Mapping[str, str], only: Sequence[str] = ()) -> None:
    """Show the whole system until Ctrl-C: all venues, or `only` some, on the ports that the
    environment names.
    """
    with tempfile.TemporaryDirectory(prefix="marketprism-demo-") as place:
        signals.end_at_once(0, partial(shutil.rmtree, place, ignore_errors=True))
        loaded = config.load(
            path=sources.DEFAULTS / "collector/unified_data_collection.yaml",
            environ={name: environ[name] for name in VARIABLES if name in environ},
            directory=Path(place),
            venues=OFFERS,
            only=only,
        )
        # What is wrong with that has been said: from here on, nobody waits for who reads.
        log.configure(level)
        log.stand_in()
        trio.run(_demo, loaded)


async def _demo(loaded: Config) -> None:
    async with trio.open_nursery() as nursery:
        addresses = {}
        for number, name in enumerate(loaded.exchanges):
            exchange = simulator.market(name, seed=number)
            addresses[name] = await nursery.start(simulator.serve, exchange)
        collector = Collector(_pointed(loaded, addresses))
        nursery.start_soon(_show, collector, loaded)
        await run_until_signalled(collector.run, collector.stopping)
        nursery.cancel_scope.cancel()
    print(f"\nstopped; {_totals(collector.board)}", flush=True)


def _pointed(loaded: Config, addresses: Mapping[str, simulator.Address]) -> Config:
    """The default configuration, with its exchanges on this machine, on ports that are free."""
    exchanges = {
        name: attrs.evolve(venue, api=Api(addresses[name].base_url, addresses[name].ws_url))
        for name, venue in loaded.exchanges.items()
    }
    http, metrics, embedded = loaded.http, loaded.metrics, loaded.nats.embedded
    embedded = attrs.evolve(
        embedded,
        port=_port(embedded.host, embedded.port),
        monitor_port=_port(embedded.host, embedded.monitor_port),
    )
    return attrs.evolve(
        loaded,
        exchanges=exchanges,
        http=attrs.evolve(http, port=_port(http.host, http.port)),
        metrics=attrs.evolve(metrics, port=_port(metrics.host, metrics.port)),
        nats=attrs.evolve(loaded.nats, embedded=embedded),
        proxy=ProxyConfig(),
    )


def _port(host: str, wanted: int) -> int:
    """`wanted`, or 0 (a free one) when it is taken: a demo yields to whatever runs already."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return wanted if probe.connect_ex((host, wanted)) else 0


def _where(collector: Collector, wanted: Config) -> str:
    """Where to look, and which ports are others than those that were wanted."""
    config, ports = collector.config, collector.ports
    nats = collector.board.sink.embedded or ""
    rows = [
        ("health", config.http.host, ports["health"], wanted.http.port, "/health"),
        ("metrics", config.metrics.host, ports["metrics"], wanted.metrics.port, "/metrics"),
    ]
    lines = wrap(f"simulated: {', '.join(config.exchanges)}", 79, subsequent_indent=" " * 11)
    for name, host, port, asked, path in rows:
        lines.append(f"{name + ':':10} http://{host}:{port}{path}{_moved(port, asked)}")
    moved = _moved(urlsplit(nats).port, wanted.nats.embedded.port)
    lines.append(f"NATS:      {nats}{moved}")
    return "\n".join([*lines, "Beside /health there are /status and /connections. Ctrl-C stops."])


def _moved(port: int | None, asked: int) -> str:
    return f"  ({asked} is taken)" if asked and port != asked else ""


async def _show(collector: Collector, wanted: Config) -> None:
    """The live lines: what came, and how fast, of each data type."""
    board = collector.board
    await collector.started.wait()
    print(_where(collector, wanted), flush=True)
    venues = collector.config.exchanges.values()
    types = [each for each in DataType if any(each in venue.data_types for venue in venues)]
    samples = deque([(trio.current_time(), _received(board))], maxlen=RATES_OVER)
    shown = 0
    while True:
        await trio.sleep(LINE_EVERY)
        now, counts = trio.current_time(), _received(board)
        began, before = samples[0]
        samples.append((now, counts))
        parts = [f"stored {sum(board.published.values()):,}", f"gaps {sum(board.gaps.values())}"]
        for name in types:
            rate = (counts.get(name, 0) - before.get(name, 0)) / (now - began)
            parts.append(f"{name} {_rate(rate)}/s")
        if not sys.stdout.isatty():
            print("  ".join(parts), flush=True)
            continue
        # Over what was shown before: up to its first line, and clear to the end of the screen.
        lines = _wrapped(parts, shutil.get_terminal_size().columns - 1)
        up = f"\x1b[{shown - 1}A" if shown > 1 else ""
        print(f"\r{up}\x1b[J" + "\n".join(lines), end="", flush=True)
        shown = len(lines)


def _wrapped(parts: Sequence[str], width: int) -> list[str]:
    """The parts in lines of at most so many columns; only a part that is longer is cut."""
    lines: list[str] = []
    for part in parts:
        if lines and len(lines[-1]) + 2 + len(part) <= width:
            lines[-1] += f"  {part}"
        else:
            lines.append(part[:width])
    return lines


def _rate(rate: float) -> str:
    """Of what comes seldom a decimal, so that it is not shown as nothing."""
    return f"{rate:.1f}" if 0 < rate < 1 else f"{rate:,.0f}"


def _received(board: Board) -> dict[str, int]:
    counts = dict.fromkeys(map(str, DataType), 0)
    for (_, _, data_type), count in board.received.items():
        counts[data_type] += count
    return {name: count for name, count in counts.items() if count}


def _totals(board: Board) -> str:
    received, stored = sum(board.received.values()), sum(board.published.values())
    gaps = sum(board.gaps.values())
    return f"received {received:,} records, stored {stored:,} messages, {gaps} of them gaps"
