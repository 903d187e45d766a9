"""A wire that a test can hold, slow down, break and write upon: between a client and a server."""

import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import attrs
import trio

GONE = (trio.BrokenResourceError, trio.ClosedResourceError, OSError)


@attrs.define(eq=False)
class Relay:
    """Carries every connection to one port of this machine."""

    target: int
    port: int = 0
    held: bool = False
    """Nothing is carried, nothing is closed: a black hole."""
    _open: trio.Event = attrs.field(factory=trio.Event)
    _clients: set[trio.SocketStream] = attrs.field(factory=set)

    def hold(self) -> None:
        """From now on nothing gets through; what was on its way waits."""
        self.held = True
        self._open = trio.Event()

    def go_on(self) -> None:
        """Carry again."""
        self.held = False
        self._open.set()

    def reset(self) -> None:
        """Break every connection with a TCP reset."""
        for client in self._clients:
            # Lingering for no time at all turns a close into a reset.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.socket.close()

    async def write(self, data: bytes) -> None:
        """Put bytes before the clients, as if the server had sent them."""
        for client in list(self._clients):
            with suppress(*GONE, trio.BusyResourceError):
                await client.send_all(data)

    async def attend(self, client: trio.SocketStream) -> None:
        """One connection, from its beginning to its end."""
        self._clients.add(client)
        try:
            with suppress(*GONE):
                await self._carry(client)
        finally:
            self._clients.discard(client)

    async def _carry(self, client: trio.SocketStream) -> None:
        server = await trio.open_tcp_stream("127.0.0.1", self.target)
        async with server, trio.open_nursery() as nursery:

            async def one_way(source: trio.SocketStream, to: trio.SocketStream) -> None:
                with suppress(*GONE):
                    while data := await source.receive_some(65536):
                        if self.held:
                            await self._open.wait()
                        await to.send_all(data)
                nursery.cancel_scope.cancel()

            nursery.start_soon(one_way, client, server)
            nursery.start_soon(one_way, server, client)


@asynccontextmanager
async def relaying(target: int) -> AsyncIterator[Relay]:
    """A relay on a free port, until the context ends."""
    relay = Relay(target)
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, relay.attend, 0)
        relay.port = listeners[0].socket.getsockname()[1]
        yield relay
        nursery.cancel_scope.cancel()
