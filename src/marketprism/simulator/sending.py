"""What is to be sent to one client: queued, or lost while it is muted."""

from contextlib import suppress

import trio
from trio_websocket import WebSocketConnection

from .wire import Wire

_BATCH = 64
"""Frames written at once, at most."""


class SendQueue:
    """Of one connection."""

    def __init__(self, capacity: int) -> None:
        self.sent = 0
        """Messages queued."""
        self.lost = 0
        """Messages not sent because it was muted."""
        self.muted_until = float("-inf")
        """In Trio's time."""
        self._put, self._queued = trio.open_memory_channel[bytes](capacity)

    def offer(self, framed: bytes) -> bool:
        """Queue a frame; whether there was room."""
        if self._muted():
            return True
        try:
            self._put.send_nowait(framed)
            self.sent += 1
        except trio.WouldBlock:
            return False
        except trio.BrokenResourceError:
            pass
        return True

    async def put(self, framed: bytes) -> None:
        """Queue a frame, waiting for room; nothing happens when the connection has ended."""
        if self._muted():
            return
        with suppress(trio.BrokenResourceError):
            await self._put.send(framed)
            self.sent += 1

    def _muted(self) -> bool:
        muted = self.muted_until > trio.current_time()
        self.lost += muted
        return muted

    async def write(self, websocket: WebSocketConnection, wire: Wire) -> None:
        """Write what is queued, many at a time, until the peer is gone."""
        with self._queued:
            async for framed in self._queued:
                batch = [framed]
                with suppress(trio.WouldBlock):
                    while len(batch) < _BATCH:
                        batch.append(self._queued.receive_nowait())
                if websocket.closed is not None:
                    return
                await wire.send_all(b"".join(batch))
