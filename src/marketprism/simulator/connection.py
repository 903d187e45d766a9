"""One websocket connection, the server's side.

Data frames are made here and written many at a time: a frame of a server is a header and the
payload, and making it by hand lets one message be framed once for all connections. Handshake, pings
and closing are trio-websocket's.
"""

import math
import socket
import struct
from collections import deque
from contextlib import suppress
from typing import Protocol

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, WebSocketRequest

from .liveness import Liveness
from .skin import Client, Opening, Reply, Skin

_BATCH = 64
"""Frames written at once, at most."""
_CLOSE_SECONDS = 2.0
_GOING_AWAY = 1001


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


class Listener(Protocol):
    """What a connection tells the exchange of its streams."""

    skin: Skin

    def client(self, connection: "Connection") -> Client:
        """Who is behind a connection."""

    def answered(self, text: str, reply: Reply, client: Client) -> Reply:
        """What it is told to its command."""

    async def subscribe(self, connection: "Connection", streams: tuple[str, ...]) -> None:
        """The connection has these streams as well."""

    def unsubscribe(self, connection: "Connection", streams: tuple[str, ...]) -> None:
        """The connection has these streams no more."""


class Connection:
    """One client: its streams, and the queue of what is to be sent to it. Who it is, what faults
    have done to it and how it is to end are few words each, and all of one socket.
    """

    def __init__(
        self, ident: int, path: str, wire: Wire, opening: Opening, capacity: int, skin: Skin
    ) -> None:
        self.ident = ident
        self.path = path
        self.route = opening.route
        self.enveloped = opening.enveloped
        self.streams: dict[str, None] = {}
        self.sent = 0
        """Messages queued for this connection."""
        self.lost = 0
        """Messages not sent because it was muted."""
        self._skin = skin
        self._wire = wire
        self._muted_until = float("-inf")
        self._queue, self._queued = trio.open_memory_channel[bytes](capacity)
        self._life = trio.CancelScope()
        self._close_code = 1000
        self._closing = trio.Event()
        self._announced = trio.Event()
        self._ends_at = math.inf
        self._liveness = Liveness(skin)
        self._commands: deque[float] = deque(maxlen=skin.most_commands[0])

    def hears(self, stream: str) -> bool:
        """Whether it gets the messages of this stream."""
        return stream in self.streams and self._skin.carries(self.route, stream)

    def frame(self, stream: str, text: str) -> bytes:
        """A message of a stream, in this connection's manner."""
        return frame(self._skin.envelope(stream, text) if self.enveloped else text)

    def raw_frame(self, payload: str | bytes) -> bytes:
        """A message as it is."""
        return frame(payload)

    def offer(self, framed: bytes) -> None:
        """Queue a frame; a connection that reads too slowly is aborted."""
        self._liveness.told()
        if self._muted():
            return
        try:
            self._queue.send_nowait(framed)
            self.sent += 1
        except trio.WouldBlock:
            self.abort()
        except trio.BrokenResourceError:
            pass

    async def put(self, framed: bytes) -> None:
        """Queue a frame, waiting for room; nothing happens when the connection has ended."""
        self._liveness.told()
        if self._muted():
            return
        with suppress(trio.BrokenResourceError):
            await self._queue.send(framed)
            self.sent += 1

    def mute(self, until: float, *, deaf: bool) -> None:
        """Lose all messages until this moment of Trio's time."""
        self._muted_until = until
        if deaf:
            self._wire.deaf_until = until

    def abort(self) -> None:
        """End without a close frame."""
        self.streams.clear()
        self._wire.abort()
        self._life.cancel()

    def close(self, code: int) -> None:
        """End with a close frame."""
        self.streams.clear()
        self._close_code = code
        self._closing.set()

    def end_in(self, seconds: float) -> None:
        """End with a close frame (1001: going away) so much later, as was announced."""
        self._ends_at = trio.current_time() + seconds
        self._announced.set()

    async def run(
        self,
        request: WebSocketRequest,
        listener: Listener,
        opening: Opening,
        ping_interval: float,
        pong_timeout: float,
    ) -> None:
        """Live until either side ends it."""
        websocket = await request.accept()
        with self._life:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write, websocket)
                await listener.subscribe(self, opening.streams)
                nursery.start_soon(self._end_when_dead)
                nursery.start_soon(self._ping, websocket, ping_interval, pong_timeout)
                nursery.start_soon(self._close_when_told, websocket)
                nursery.start_soon(self._end_as_announced)
                await self._read(websocket, listener)
                nursery.cancel_scope.cancel()

    async def _read(self, websocket: WebSocketConnection, listener: Listener) -> None:
        with suppress(ConnectionClosed):
            while True:
                message = await websocket.get_message()
                text = message if isinstance(message, str) else message.decode(errors="replace")
                client = listener.client(self)
                reply = listener.answered(text, self._skin.command(text, client), client)
                if reply.counts and self._too_fast():
                    refusal = self._skin.too_many(client)
                    if refusal is None:
                        self.close(1008)
                    else:
                        await self.put(frame(refusal))
                    continue
                self._liveness.heard(reply)
                for answer in reply.texts:
                    await self.put(frame(answer))
                await listener.subscribe(self, reply.add)
                listener.unsubscribe(self, reply.remove)

    async def _write(self, websocket: WebSocketConnection) -> None:
        with self._queued:
            async for framed in self._queued:
                batch = [framed]
                with suppress(trio.WouldBlock):
                    while len(batch) < _BATCH:
                        batch.append(self._queued.receive_nowait())
                if websocket.closed is not None:
                    return
                await self._wire.send_all(b"".join(batch))

    async def _end_when_dead(self) -> None:
        async for beat in self._liveness:
            await self.put(frame(beat))
        self.close(self._skin.silence_code)

    async def _ping(self, websocket: WebSocketConnection, interval: float, patience: float) -> None:
        while interval < math.inf:
            await trio.sleep(interval)
            if self._wire.deaf_until > trio.current_time():
                continue
            with trio.move_on_after(patience) as waiting:
                await websocket.ping()
            if waiting.cancelled_caught:
                self.abort()

    async def _end_as_announced(self) -> None:
        await self._announced.wait()
        await trio.sleep_until(self._ends_at)
        self.close(_GOING_AWAY)

    async def _close_when_told(self, websocket: WebSocketConnection) -> None:
        await self._closing.wait()
        with trio.move_on_after(_CLOSE_SECONDS):
            await websocket.aclose(self._close_code)

    def _muted(self) -> bool:
        muted = self._muted_until > trio.current_time()
        self.lost += muted
        return muted

    def _too_fast(self) -> bool:
        now = trio.current_time()
        full = len(self._commands) == self._commands.maxlen
        too_fast = full and now - self._commands[0] < self._skin.most_commands[1]
        self._commands.append(now)
        return too_fast
