"""A way to a server that can be cut, or that loses what the server says."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import attrs
import trio

GONE = (trio.BrokenResourceError, trio.ClosedResourceError, OSError)


@attrs.define(eq=False)
class Relay:
    """Carries bytes to a port of this machine and back."""

    target: int
    port: int = 0
    swallowing: bool = False
    """What the server says is lost from now on."""
    away: bool = False
    """Nobody is let through."""
    _ways: set[trio.CancelScope] = attrs.field(factory=set)

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """End every connection, and let nobody through from now on."""
        self.away = True
        for way in self._ways:
            way.cancel()

    async def __call__(self, client: trio.SocketStream) -> None:
        if self.away:
            await trio.aclose_forcefully(client)
            return
        with trio.CancelScope() as way, suppress(*GONE):
            self._ways.add(way)
            async with await trio.open_tcp_stream("127.0.0.1", self.target) as server, client:
                server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._carry, client, server, False)
                    nursery.start_soon(self._carry, server, client, True)
        self._ways.discard(way)

    async def _carry(self, source: trio.abc.Stream, target: trio.abc.Stream, back: bool) -> None:
        with suppress(*GONE):
            async for data in source:
                if not (back and self.swallowing):
                    await target.send_all(data)
        await target.aclose()


@asynccontextmanager
async def relaying(target: int) -> AsyncIterator[Relay]:
    """A relay to a port, until the context ends."""
    async with trio.open_nursery() as nursery:
        relay = Relay(target)
        listeners = await nursery.start(trio.serve_tcp, relay, 0)
        relay.port = listeners[0].socket.getsockname()[1]
        yield relay
        nursery.cancel_scope.cancel()
