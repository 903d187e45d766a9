"""The bytes of a connection: a stream that can be aborted, and frames made by hand.

A frame of a server is a header and the payload, and making it by hand lets one message be framed
once for all connections.
"""

import socket
import struct
from contextlib import suppress

import trio


class Resettable(trio.abc.Stream):
    """A stream that is no socket, and can be reset all the same."""

    def reset(self) -> None:
        """Break it, for both ends; what is on the way is lost."""
        raise NotImplementedError


class Wire(trio.abc.Stream):
    """A TCP stream with two writers, which can be aborted, and can pretend to be dead."""

    def __init__(self, stream: "trio.SocketStream | Resettable") -> None:
        self._stream = stream
        self._turn = trio.Lock()
        self.deaf_until = float("-inf")

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Write whole frames; a deaf wire loses them."""
        if self.deaf_until > trio.current_time():
            await trio.lowlevel.checkpoint()
            return
        async with self._turn:
            await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """As the stream below."""
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Read; what comes while the wire is deaf is heard after that."""
        data = await self._stream.receive_some(max_bytes)
        if self.deaf_until > trio.current_time():
            await trio.sleep_until(self.deaf_until)
        return data

    async def aclose(self) -> None:
        """Close the stream below."""
        await self._stream.aclose()

    def abort(self) -> None:
        """Reset the connection: the peer sees no close frame and no end of file."""
        if not isinstance(self._stream, trio.SocketStream):
            self._stream.reset()
            return
        with suppress(OSError):
            linger = struct.pack("ii", 1, 0)
            self._stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._stream.socket.close()


def frame(payload: str | bytes) -> bytes:
    """A whole message as one unmasked frame (RFC 6455, section 5.2)."""
    first = 0x81 if isinstance(payload, str) else 0x82
    data = payload.encode() if isinstance(payload, str) else payload
    if len(data) < 126:
        return bytes((first, len(data))) + data
    if len(data) < 1 << 16:
        return struct.pack("!BBH", first, 126, len(data)) + data
    return struct.pack("!BBQ", first, 127, len(data)) + data
