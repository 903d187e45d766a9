"""The websocket of a simulated exchange, over real sockets."""

import math
import socket
import struct
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from patience import PATIENCE
from trio_websocket import ConnectionClosed, WebSocketConnection

from marketprism.simulator import market, player, record, serve
from marketprism.simulator.capture import read, read_file
from marketprism.simulator.market import Market

from .conftest import Connect, Handshake, Receive, Serving

CAPTURE = record(Market(1, ["BTCUSDT"]), 3)
HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def recorded(stream: str) -> list[Any]:
    """The recorded messages of a stream."""
    messages = [msgspec.json.decode(line.raw) for line in read(CAPTURE) if line.kind == "recv"]
    return [message for message in messages if message["stream"] == stream]


async def test_a_capture_arrives_as_it_was_recorded(
    spot_capture: Path, serving: Serving, connect: Connect
) -> None:
    """A client of all streams gets every recorded message, byte for byte and in order."""
    lines = [line.raw for line in read_file(spot_capture) if line.kind == "recv"]
    streams = dict.fromkeys(msgspec.json.decode(raw)["stream"] for raw in lines)
    exchange = player(spot_capture, speed=math.inf, start_delay=0)
    address = await serving(exchange)
    async with connect(f"{address.ws_url}/stream?streams={'/'.join(streams)}") as websocket:
        with trio.fail_after(PATIENCE):
            assert [await websocket.get_message() for _ in lines] == lines
            await exchange.finished.wait()
        assert websocket.closed is None


async def test_a_bare_connection_gets_bare_messages(
    serving: Serving, connect: Connect, receive: Receive
) -> None:
    """On /ws a message is the recorded one without its envelope, of the streams asked for only."""
    exchange = player(CAPTURE, speed=math.inf, start_delay=0)
    address = await serving(exchange)
    async with connect(f"{address.ws_url}/ws/btcusdt@depth@100ms") as websocket:
        expected = [message["data"] for message in recorded("btcusdt@depth@100ms")]
        assert [await receive(websocket) for _ in expected] == expected


async def test_commands_change_what_a_connection_gets(
    serving: Serving, connect: Connect, receive: Receive
) -> None:
    """Subscribed, listed, unsubscribed: each acknowledged, each with its effect."""
    exchange = market("binance_spot", symbols=["BTCUSDT"], trades_per_second=100)
    address = await serving(exchange)
    async with connect(f"{address.ws_url}/ws") as websocket:
        await websocket.send_message('{"method":"SUBSCRIBE","params":["btcusdt@trade"],"id":1}')
        assert await receive(websocket) == {"result": None, "id": 1}
        assert (await receive(websocket))["e"] == "trade"
        assert exchange.streams == {"btcusdt@trade"}
        await websocket.send_message('{"method":"LIST_SUBSCRIPTIONS","id":2}')
        assert await next_answer(websocket, receive) == {"result": ["btcusdt@trade"], "id": 2}
        await websocket.send_message('{"method":"UNSUBSCRIBE","params":["btcusdt@trade"],"id":3}')
        assert await next_answer(websocket, receive) == {"result": None, "id": 3}
        with trio.move_on_after(0.2) as waiting:
            await websocket.get_message()
        assert waiting.cancelled_caught
    with trio.fail_after(PATIENCE):
        await exchange.until(lambda: not exchange.connections)


async def next_answer(websocket: WebSocketConnection, receive: Receive) -> Any:
    """The next message that belongs to no stream."""
    while "e" in (message := await receive(websocket)):
        pass
    return message


async def test_playback_waits_for_the_last_subscription(
    serving: Serving, connect: Connect, receive: Receive
) -> None:
    """A second subscription within the delay sees the capture from its beginning too."""
    exchange = player(CAPTURE, speed=math.inf, start_delay=0.3)
    address = await serving(exchange)
    async with connect(f"{address.ws_url}/ws/btcusdt@depth@100ms") as websocket:
        await trio.sleep(0.2)
        await websocket.send_message('{"method":"SUBSCRIBE","params":["btcusdt@trade"],"id":1}')
        assert await receive(websocket) == {"result": None, "id": 1}
        began = trio.current_time()
        first: dict[str, Any] = {}
        for _ in range(len(recorded("btcusdt@depth@100ms")) + len(recorded("btcusdt@trade"))):
            message = await receive(websocket)
            if not first:
                assert trio.current_time() - began > 0.25
            first.setdefault(message["e"], message)
        assert first["trade"] == recorded("btcusdt@trade")[0]["data"]
        assert first["depthUpdate"] == recorded("btcusdt@depth@100ms")[0]["data"]


async def test_a_live_market_tells_a_consistent_story(
    serving: Serving, connect: Connect, receive: Receive
) -> None:
    """Over the wire too, updates are chained and trade ids have no hole, for each symbol."""
    exchange = market("binance_spot", seed=3, trades_per_second=200, quotes_per_second=200)
    address = await serving(exchange)
    names = [f"{s}@{n}" for s in ("btcusdt", "ethusdt") for n in ("trade", "depth@100ms")]
    known: dict[tuple[str, str], int] = {}
    count: defaultdict[str, int] = defaultdict(int)
    async with connect(f"{address.ws_url}/stream?streams={'/'.join(names)}") as websocket:
        while min((count[name] for name in names), default=0) < 5:
            message = await receive(websocket)
            data, stream = message["data"], message["stream"]
            first, last = (data["U"], data["u"]) if "U" in data else (data["t"], data["t"])
            key = (data["s"], data["e"])
            assert known.setdefault(key, first - 1) == first - 1
            known[key] = last
            count[stream] += 1


async def test_an_unknown_path_is_not_found(serving: Serving, handshake: Handshake) -> None:
    """A websocket is offered at /ws and /stream, and nowhere else."""
    address = await serving(market("binance_spot"))
    assert await handshake(f"{address.ws_url}/nowhere") == 404
    assert await handshake(f"{address.ws_url}/ws") == 101


async def test_the_exchange_pings(serving: Serving, connect: Connect) -> None:
    """Pings come at the interval; a client which answers none is cut off, another is not."""
    exchange = market("binance_spot", ping_interval=0.05)
    exchange.pong_timeout = 0.2
    address = await serving(exchange)
    async with (
        connect(f"{address.ws_url}/ws") as polite,
        await trio.open_tcp_stream("127.0.0.1", int(address.ws_url.rpartition(":")[2])) as rude,
    ):
        await rude.send_all(HANDSHAKE)
        heard = b""
        with trio.fail_after(PATIENCE), suppress(trio.BrokenResourceError):
            while data := await rude.receive_some():
                heard += data
        ping = heard.partition(b"\r\n\r\n")[2]
        assert ping[:2] == b"\x89\x04"
        assert polite.closed is None


async def test_a_client_that_commands_too_fast_is_closed(
    serving: Serving, connect: Connect, receive: Receive
) -> None:
    """The sixth command within a second ends the connection, with a reason."""
    address = await serving(market("binance_spot"))
    async with connect(f"{address.ws_url}/ws") as websocket:
        for n in range(6):
            await websocket.send_message(f'{{"method":"LIST_SUBSCRIPTIONS","id":{n}}}')
        for n in range(5):
            assert (await receive(websocket))["id"] == n
        with pytest.raises(ConnectionClosed) as caught:
            await receive(websocket)
        assert caught.value.reason is not None
        assert caught.value.reason.code == 1008


async def test_a_slow_reader_does_not_lose_what_is_played_at_full_speed(
    serving: Serving, connect: Connect
) -> None:
    """At unlimited speed the playback waits for the reader."""
    lines = record(Market(1, ["BTCUSDT"], quotes_per_second=2_000), 20)
    stream = "btcusdt@depth@100ms"
    expected = [line.raw for line in read(lines) if line.raw.startswith(f'{{"stream":"{stream}"')]
    address = await serving(player(lines, speed=math.inf, start_delay=0))
    async with connect(f"{address.ws_url}/stream?streams={stream}") as websocket:
        await trio.sleep(0.3)
        with trio.fail_after(PATIENCE):
            assert [await websocket.get_message() for _ in expected] == expected


@pytest.mark.parametrize("which", ["ws", "rest"])
async def test_a_taken_port_is_an_error(serving: Serving, which: str) -> None:
    """Two exchanges cannot share a port; the second says so plainly."""
    address = await serving(market("binance_spot"))
    url = address.ws_url if which == "ws" else address.base_url
    port = int(url.rpartition(":")[2])
    with pytest.raises(OSError, match="in use"):
        await (
            serve(market("binance_spot"), ws_port=port)
            if which == "ws"
            else serve(market("binance_spot"), rest_port=port)
        )


@pytest.mark.parametrize(
    "opening",
    [
        b"",
        b"\x16\x03\x01 this is not HTTP \r\n\r\n",
        b"GET /ws HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /ws HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\nxxx",
        b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgr",
        HANDSHAKE + b"\xff\xff\xff\xff\xff\xff",
        HANDSHAKE + b"\x81\x05plain",
        HANDSHAKE + b"\x88\x80\x00\x00\x00\x00",
        HANDSHAKE + b"\x88\x80\x00\x00\x00\x00\x89\x80\x00\x00\x00\x00",
    ],
)
@pytest.mark.parametrize("rudely", [True, False])
async def test_bad_clients_do_not_bring_the_server_down(
    serving: Serving, connect: Connect, opening: bytes, rudely: bool
) -> None:
    """Whatever bytes arrive, and however a client leaves, the next client is served."""
    address = await serving(market("binance_spot"))
    stream = await trio.open_tcp_stream("127.0.0.1", int(address.ws_url.rpartition(":")[2]))
    async with stream:
        with suppress(trio.BrokenResourceError):
            await stream.send_all(opening)
            if not rudely:
                with trio.move_on_after(0.05):
                    while await stream.receive_some():
                        pass
        if rudely:
            linger = struct.pack("ii", 1, 0)
            stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    await trio.sleep(0.02)
    async with connect(f"{address.ws_url}/ws") as websocket:
        with trio.fail_after(PATIENCE):
            await websocket.ping()
