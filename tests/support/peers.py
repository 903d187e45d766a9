"""The other ends: tiny servers on loopback which do as a test says, and a world to call them."""

import base64
import hashlib
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import attrs
import trio
from loopback import UNTRUSTING

from marketprism.board.board import Board
from marketprism.clock import Timestamp
from marketprism.feeds.hosts import Hosts
from marketprism.feeds.proxies import Proxies
from marketprism.feeds.rest import Rest
from marketprism.feeds.services import Services
from marketprism.pipeline.outlet import Outlet
from marketprism.records import Record
from marketprism.settings.settings import ProxyConfig

LOCAL = "127.0.0.1"
PROXY_HEAD = b"HTTP/1.1 200 Connection established\r\n\r\n"
GONE = (trio.BrokenResourceError, trio.ClosedResourceError)

Handler = Callable[[trio.abc.Stream], Awaitable[None]]
"""What a server does with one connection, which is closed afterwards."""


def clock() -> Timestamp:
    """The real time."""
    return Timestamp(time.time_ns(), time.monotonic_ns())


@asynccontextmanager
async def serving(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A server on a free port, until the context ends."""

    async def handle(stream: trio.SocketStream) -> None:
        peer = trio.SSLStream(stream, tls, server_side=True) if tls else stream
        try:
            with suppress(*GONE):
                await handler(peer)
        finally:
            await trio.aclose_forcefully(stream)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, handle, 0)
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def until_blank(stream: trio.abc.Stream) -> bytes:
    """The head of an HTTP request, with what came along behind it; b"" when the peer has gone."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = await stream.receive_some(65536)
        if not more:
            return b""
        data += more
    return data


def answer(status: int, body: bytes = b"", **headers: str) -> bytes:
    """An HTTP answer; `retry_after="3"` is a header."""
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def accepted(request: bytes) -> bytes:
    """The answer that completes a websocket handshake; for who has gone meanwhile there is none."""
    if not request:
        raise trio.ClosedResourceError
    key = request.split(b"Sec-WebSocket-Key: ")[1].split(b"\r\n")[0]
    digest = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n\r\n"
    )


def frame(payload: bytes, opcode: int = 1, *, final: bool = True) -> bytes:
    """A short frame as a server sends it, unmasked."""
    assert len(payload) < 126
    return bytes([opcode | (0x80 if final else 0), len(payload)]) + payload


@attrs.define(eq=False)
class Line:
    """The server's end of a websocket."""

    stream: trio.abc.Stream
    buffer: bytes = b""

    async def hear(self) -> tuple[int, bytes]:
        """The next frame, short as the client's are: its opcode and its payload."""
        head = await self._take(2)
        assert head[1] & 0x7F < 126
        mask = await self._take(4)
        payload = await self._take(head[1] & 0x7F)
        return head[0] & 0x0F, bytes(byte ^ mask[n % 4] for n, byte in enumerate(payload))

    async def _take(self, size: int) -> bytes:
        while len(self.buffer) < size:
            more = await self.stream.receive_some(65536)
            if not more:
                raise trio.ClosedResourceError
            self.buffer += more
        taken, self.buffer = self.buffer[:size], self.buffer[size:]
        return taken

    async def say(self, *frames: bytes) -> None:
        """Send frames together."""
        await self.stream.send_all(b"".join(frames))

    async def answer_pings(self) -> None:
        """Be a peer that lives and has nothing to say."""
        while True:
            opcode, payload = await self.hear()
            if opcode == 9:
                await self.say(frame(payload, 10))


def websocket(talk: Callable[[Line], Awaitable[None]]) -> Handler:
    """A server which shakes hands and then does as `talk` does."""

    async def handler(stream: trio.abc.Stream) -> None:
        await stream.send_all(accepted(await until_blank(stream)))
        await talk(Line(stream))

    return handler


@asynccontextmanager
async def a_world(
    tls: ssl.SSLContext | None = None, proxy: ProxyConfig | None = None, capacity: int = 1000
) -> AsyncIterator[Services]:
    """What the feeds of one process share."""
    board = Board()
    hosts, proxies = Hosts(board), Proxies(proxy or ProxyConfig())
    context = tls or UNTRUSTING
    async with Rest(hosts, proxies, clock, context) as rest:
        yield Services(Outlet(capacity, board), rest, hosts, proxies, board, clock, context)


async def put(services: Services) -> list[Record]:
    """Every record that is in the outlet now."""
    records: list[Record] = []
    while services.board.channel.held:
        records += (await anext(services.outlet.intake)).records
    return records


async def _both_ways(one: trio.abc.Stream, other: trio.abc.Stream) -> None:
    """Carry bytes until either end has no more."""
    async with trio.open_nursery() as nursery:

        async def carry(source: trio.abc.Stream, target: trio.abc.Stream) -> None:
            with suppress(*GONE):
                while data := await source.receive_some():
                    await target.send_all(data)
            nursery.cancel_scope.cancel()

        nursery.start_soon(carry, one, other)
        nursery.start_soon(carry, other, one)


@attrs.define(eq=False)
class Proxy:
    """A proxy which brings everybody to one port of this machine, and notes where they wished to.

    HTTP or SOCKS5, as the first byte says.
    """

    port: int
    asked: list[str] = attrs.field(factory=list)

    async def __call__(self, stream: trio.abc.Stream) -> None:
        if not (first := bytes(await stream.receive_some(65536))):
            return
        await (self._socks(stream) if first[0] == 5 else self._http(stream, first))
        target = await trio.open_tcp_stream(LOCAL, self.port)
        async with target:
            await _both_ways(stream, target)

    async def _http(self, stream: trio.abc.Stream, head: bytes) -> None:
        assert head.startswith(b"CONNECT ")
        assert head.endswith(b"\r\n\r\n")
        self.asked.append(head.split()[1].decode())
        await stream.send_all(PROXY_HEAD)

    async def _socks(self, stream: trio.abc.Stream) -> None:
        await stream.send_all(b"\x05\x00")
        request = await stream.receive_some(65536)
        if request[3] == 3:
            host = request[5 : 5 + request[4]].decode()
        else:
            host = ".".join(map(str, request[4:8]))
        self.asked.append(f"{host}:{int.from_bytes(request[-2:])}")
        await stream.send_all(b"\x05\x00\x00\x01" + bytes(6))
