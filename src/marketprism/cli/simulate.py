"""`simulate`: a simulated exchange alone, for whatever wants to connect to it.

What it prints is a configuration that collects from it, with all else as comments: it can be put
into a file as it stands.
"""

import signal
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import attrs
import msgspec
import trio

from marketprism.errors import ConfigError
from marketprism.feeds import OFFERS, TRADE_KINDS, VENUES
from marketprism.instruments import select
from marketprism.records import DataType
from marketprism.settings.exchanges import Api, VenueConfig
from marketprism.simulator import SKINS, Address, Exchange, market, player, serve
from marketprism.simulator.capture import read_file
from marketprism.simulator.player import Player
from marketprism.simulator.skin import Options, Request

NAMED = 5
"""Streams that are named in a line; the rest are counted."""
_UNPLAYABLE = (ValueError, LookupError, TypeError, ArithmeticError, msgspec.MsgspecError)
"""What a skin raises of messages and symbols that are not of its exchange."""


@attrs.frozen
class Recording:
    """What a recording has of a venue."""

    path: Path
    data_types: tuple[DataType, ...]
    streams: frozenset[str]
    """In the exchange's own names."""
    trades: tuple[str, ...]
    """Kinds of trades, as `trade.kind` names them."""


def run(
    venue: str,
    *,
    ws_port: int,
    rest_port: int,
    seed: int,
    capture: Path | None,
    speed: float,
) -> None:
    """Serve until Ctrl-C or SIGTERM, and say how to point a collector at it.

    Raises:
        ConfigError: the capture is no recording, or none of this venue.
        OSError: a port is taken.
    """
    recording = None
    if capture is None:
        exchange = market(venue, seed=seed)
    else:
        exchange, recording = _played(capture, venue, speed)
    trio.run(_serve, exchange, venue, ws_port, rest_port, recording)


def _played(path: Path, venue: str, speed: float) -> tuple[Exchange, Recording]:
    """An exchange that plays a recording. Raises ConfigError where it cannot."""
    key = f"--capture {path}"
    try:
        lines = read_file(path)
    except OSError as error:
        raise ConfigError([f"{key}: cannot be read: {error.strerror}"]) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError([f"{key}: is no recording: {error}"]) from error
    if not lines:
        raise ConfigError([f"{key}: is no recording: it is empty"])
    hosts = {name: _host(make(Options()).stream_url(())) for name, make in SKINS.items()}
    connected = {_host(line.url) for line in lines if line.kind == "connect"}
    others = [name for name, host in hosts.items() if host in connected]
    if others and venue not in others:
        raise ConfigError([f"{key}: is a recording of {' or '.join(others)}, not of {venue}"])
    try:
        exchange = player(path, venue=venue, speed=speed)
    except _UNPLAYABLE as error:
        raise ConfigError([f"{key}: cannot be played as {venue}: {error!r}"]) from error
    assert isinstance(exchange.source, Player)
    kinds, streams = exchange.source.kinds, exchange.source.streams
    types = tuple(each for each in DataType if each in OFFERS[venue] and kinds[str(each)])
    if not types:
        raise ConfigError([f"{key}: nothing that {venue} collects is in it"])
    trades = {exchange.skin.trade_kind(stream) for stream in streams} - {None}
    return exchange, Recording(path, types, frozenset(streams), tuple(sorted(map(str, trades))))


def _host(url: str) -> str | None:
    return urlsplit(url).hostname


async def _serve(
    exchange: Exchange, venue: str, ws_port: int, rest_port: int, recording: Recording | None
) -> None:
    try:
        symbols = await listed(exchange, venue)
    except _UNPLAYABLE as error:
        if recording is None:
            raise
        words = f"cannot be played as {venue}: {error!r}"
        raise ConfigError([f"--capture {recording.path}: {words}"]) from error
    if not symbols and recording is not None:
        words = f"nothing that {venue} collects is traded in it: {', '.join(exchange.symbols)}"
        raise ConfigError([f"--capture {recording.path}: {words}"])
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:

            async def server(task_status: trio.TaskStatus[Address]) -> None:
                await serve(exchange, ws_port=ws_port, rest_port=rest_port, task_status=task_status)

            address = await nursery.start(server)
            print("# To collect from it:", flush=True)
            print("\n".join(configuration(venue, address, symbols, recording)))
            print(f'# faults: curl -d \'{{"fault": "cut"}}\' {address.base_url}/simulator/faults')
            print(f"# state: {address.base_url}/simulator", flush=True)
            if recording is not None:
                nursery.start_soon(_tell_missing, exchange, recording)
                nursery.start_soon(_tell_end, exchange)
            async for _ in signals:
                nursery.cancel_scope.cancel()


async def listed(exchange: Exchange, venue: str) -> list[str]:
    """What a collector can have of it, as it is written in a configuration."""
    settings = VenueConfig(venue, Api("http://x", "ws://x"), ("*",), tuple(OFFERS[venue]))
    adapter = VENUES[venue](settings)
    bodies = []
    for fetch in adapter.metadata:
        url = urlsplit(fetch.url)
        answer = await exchange.skin.answer(Request(url.path, dict(parse_qsl(url.query))), exchange)
        bodies.append(answer.body)
    chosen, _ = select(adapter.instruments(bodies), ["*"])
    return [instrument.symbol for instrument in chosen]


def configuration(
    venue: str, address: Address, symbols: Sequence[str], recording: Recording | None
) -> list[str]:
    """The lines of a configuration that collects all there is."""
    lines = ["exchanges:", f"  {venue}:", "    api:"]
    lines += [f"      base_url: {address.base_url}", f"      ws_url: {address.ws_url}"]
    lines.append(f"    symbols: {msgspec.json.encode(symbols).decode()}")
    if recording is None:
        return lines
    lines.append(f"    data_types: [{', '.join(recording.data_types)}]")
    if recording.trades == ("aggregated",) and len(TRADE_KINDS[venue]) > 1:
        lines.append("    trade: {kind: aggregated}   # it has no raw ones")
    return lines


async def _tell_missing(exchange: Exchange, recording: Recording) -> None:
    """Say what is subscribed and will never come."""
    told: set[str] = set()
    while True:
        await exchange.until(lambda: not exchange.streams <= recording.streams | told)
        missing = sorted(exchange.streams - recording.streams - told)
        told.update(missing)
        few = ", ".join(missing[:NAMED])
        more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
        advice = _advice(exchange, missing, recording)
        print(f"# not in the recording: {few}{more}{advice}", flush=True)


def _advice(exchange: Exchange, missing: Sequence[str], recording: Recording) -> str:
    kinds = {exchange.skin.trade_kind(stream) for stream in missing} - {None}
    if kinds and recording.trades and not kinds & set(recording.trades):
        return f" (its trades are {recording.trades[0]}: trade.kind: {recording.trades[0]})"
    return ""


async def _tell_end(exchange: Exchange) -> None:
    await exchange.finished.wait()
    lines = exchange.source.position()["lines"]
    print(f"# the recording is at its end, {lines} messages; connections stay open", flush=True)
