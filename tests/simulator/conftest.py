"""What the tests of the simulator share: recordings, a server, clients."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import loopback
import msgspec
import pytest
import trio
from patience import PATIENCE
from trio_websocket import WebSocketConnection, wrap_client_stream
from wsproto.utilities import LocalProtocolError

from marketprism.simulator import Address, Exchange, serve

Handshake = Callable[[str], Awaitable[int]]
Serving = Callable[[Exchange], Awaitable[Address]]
Receive = Callable[[WebSocketConnection], Awaitable[Any]]
Connect = Callable[[str], AbstractAsyncContextManager[WebSocketConnection]]


@pytest.fixture(
    params=[
        "binance_spot/capture_2021-04-04_btcusdt_ethusdt_dotusdt.jsonl",
        "binance_spot/capture_2021-10-12_4sym_with_bookTicker.jsonl",
    ],
    ids=["2021-04-04", "2021-10-12"],
)
def spot_capture(captures: Path, request: pytest.FixtureRequest) -> Path:
    """Each recording of Binance spot."""
    return captures / str(request.param)


@pytest.fixture(scope="session")
def final_books(captures: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """By recording and symbol, the book at its end, as somebody else reconstructed it."""
    every = msgspec.json.decode((captures / "expected_final_books.json").read_bytes())
    return {name: each["final_books"] for name, each in every.items()}


async def get(base: str, path: str) -> httpx.Response:
    """One request of a client of its own, which is spared reading certificates."""
    async with loopback.client(base_url=base, timeout=PATIENCE) as client:
        return await client.get(path)


def hurried(exchange: Exchange, times: int = 10) -> Exchange:
    """The exchange, with a clock that goes so many times as fast."""
    clock, began = exchange.clock_ms, exchange.clock_ms()
    exchange.clock_ms = lambda: began + (clock() - began) * times
    return exchange


@pytest.fixture
async def serving(nursery: trio.Nursery) -> Serving:
    """Serve an exchange on free ports until the test ends."""

    async def start(exchange: Exchange) -> Address:
        return await nursery.start(partial(serve, exchange))  # type: ignore[no-any-return]

    return start


@pytest.fixture
def receive() -> Receive:
    """Receive one JSON message, in at most five seconds."""

    async def one(websocket: WebSocketConnection) -> Any:
        with trio.fail_after(PATIENCE):
            return msgspec.json.decode(await websocket.get_message())

    return one


@pytest.fixture
def connect() -> Connect:
    """A client that accepts large messages and closes quickly.

    It closes its socket itself: trio-websocket's own forgets to, when the peer has gone.
    """

    @asynccontextmanager
    async def open_client(url: str) -> AsyncIterator[WebSocketConnection]:
        parts = urlsplit(url)
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        stream = await trio.open_tcp_stream(str(parts.hostname), int(parts.port or 80))
        try:
            async with stream, trio.open_nursery() as nursery:
                with trio.fail_after(PATIENCE):
                    websocket = await wrap_client_stream(
                        nursery, stream, parts.netloc, target, max_message_size=1 << 24
                    )
                yield websocket
                with trio.move_on_after(1):
                    await websocket.aclose()
                nursery.cancel_scope.cancel()
        except* LocalProtocolError:
            # A ping came while this side was closing: trio-websocket answers it too late.
            pass

    return open_client


@pytest.fixture
def handshake() -> Handshake:
    """The status with which the handshake of a websocket is answered."""
    headers = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }

    async def status(url: str) -> int:
        async with loopback.client(timeout=PATIENCE) as client:
            answer = await client.get(url.replace("ws://", "http://"), headers=headers)
            return answer.status_code

    return status
