"""The sockets of a simulated exchange: a websocket listener and a REST listener."""

import socket
from functools import partial

import attrs
import trio
from hypercorn.config import Config
from hypercorn.trio import serve as serve_asgi
from trio_websocket import ConnectionClosed, wrap_server_stream
from wsproto.utilities import LocalProtocolError

from .exchange import Exchange
from .rest import Rest
from .wire import Wire

_HANDSHAKE_SECONDS = 10.0
_SEND_BUFFER = 128 * 1024
"""Bytes the kernel holds for a slow reader; small, so that slowness is noticed here."""


@attrs.frozen
class Address:
    """The roots to which a venue adds its own paths."""

    ws_url: str
    base_url: str


async def serve(
    exchange: Exchange,
    *,
    host: str = "127.0.0.1",
    ws_port: int = 0,
    rest_port: int = 0,
    task_status: trio.TaskStatus[Address] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve an exchange until cancelled; `nursery.start` gives its address.

    Raises:
        OSError: a port is taken.
    """
    (listener,) = await trio.open_tcp_listeners(ws_port, host=host)
    async with listener:
        rest = socket.create_server((host, rest_port))
        address = Address(
            ws_url=f"ws://{host}:{listener.socket.getsockname()[1]}",
            base_url=f"http://{host}:{rest.getsockname()[1]}",
        )
        config = Config()
        config.bind = [f"fd://{rest.detach()}"]
        config.errorlog = None
        config.include_server_header = False
        config.graceful_timeout = 0.5
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(serve_asgi, Rest(exchange), config, mode="asgi"))
            await nursery.start(trio.serve_listeners, partial(_attend, exchange), [listener])
            nursery.start_soon(exchange.run)
            task_status.started(address)


async def _attend(exchange: Exchange, stream: trio.SocketStream) -> None:
    """One TCP connection, from its handshake to its end."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
    await attend(exchange, Wire(stream))


async def attend(exchange: Exchange, wire: Wire) -> None:
    """One client of the websocket, over whatever stream."""
    try:
        async with trio.open_nursery() as nursery:
            await _handshake(exchange, wire, nursery)
            nursery.cancel_scope.cancel()
    except* (
        ConnectionClosed,
        LocalProtocolError,
        trio.BrokenResourceError,
        trio.ClosedResourceError,
    ):
        # The peer has gone, or was cut off: that is how connections end.
        pass
    finally:
        await trio.aclose_forcefully(wire)


async def _handshake(exchange: Exchange, wire: Wire, nursery: trio.Nursery) -> None:
    refusal = exchange.faults.waiting.refusal()
    if refusal == 0:
        wire.abort()
        return
    with trio.move_on_after(_HANDSHAKE_SECONDS) as waiting:
        request = await wrap_server_stream(nursery, wire)
    if waiting.cancelled_caught:
        return
    opening = exchange.skin.opening(request.path)
    if refusal is not None or opening is None:
        await request.reject(refusal or 404, body=b"refused" if refusal else b"not found")
        return
    connection = exchange.connect(request.path, wire, opening)
    try:
        await connection.run(
            request, exchange, opening, exchange.ping_interval, exchange.pong_timeout
        )
    finally:
        exchange.disconnect(connection)
