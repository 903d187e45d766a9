"""One websocket connection, the server's side.

Data frames are made by hand (`wire.py`) and written many at a time (`sending.py`). Handshake, pings
and closing are trio-websocket's.
"""

import math
from collections import deque
from contextlib import suppress
from typing import Protocol

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, WebSocketRequest

from .ending import Ending
from .liveness import Liveness
from .sending import SendQueue
from .skin import Client, Opening, Reply, Skin
from .wire import Wire, frame


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
    """One client: who it is, its streams, what is sent to it and how it ends."""

    def __init__(
        self, ident: int, path: str, wire: Wire, opening: Opening, capacity: int, skin: Skin
    ) -> None:
        self.ident = ident
        self.path = path
        self._opening = opening
        self.streams: dict[str, None] = {}
        self.sending = SendQueue(capacity)
        self._skin = skin
        self._wire = wire
        self._ending = Ending()
        self._liveness = Liveness(skin)
        self._commands: deque[float] = deque(maxlen=skin.most_commands[0])

    def hears(self, stream: str) -> bool:
        """Whether it gets the messages of this stream."""
        return stream in self.streams and self._skin.carries(self._opening.route, stream)

    def frame(self, stream: str, text: str) -> bytes:
        """A message of a stream, in this connection's manner."""
        return frame(self._skin.envelope(stream, text) if self._opening.enveloped else text)

    def raw_frame(self, payload: str | bytes) -> bytes:
        """A message as it is."""
        return frame(payload)

    def offer(self, framed: bytes) -> None:
        """Queue a frame; a connection that reads too slowly is aborted."""
        self._liveness.told()
        if not self.sending.offer(framed):
            self.abort()

    async def put(self, framed: bytes) -> None:
        """Queue a frame, waiting for room; nothing happens when the connection has ended."""
        self._liveness.told()
        await self.sending.put(framed)

    def mute(self, until: float, *, deaf: bool) -> None:
        """Lose all messages until this moment of Trio's time."""
        self.sending.muted_until = until
        if deaf:
            self._wire.deaf_until = until

    def abort(self) -> None:
        """End without a close frame."""
        self.streams.clear()
        self._wire.abort()
        self._ending.life.cancel()

    def close(self, code: int) -> None:
        """End with a close frame."""
        self.streams.clear()
        self._ending.close(code)

    def end_in(self, seconds: float) -> None:
        """End with a close frame (1001: going away) so much later, as was announced."""
        self._ending.end_in(seconds)

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
        with self._ending.life:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.sending.write, websocket, self._wire)
                await listener.subscribe(self, opening.streams)
                nursery.start_soon(self._end_when_dead)
                nursery.start_soon(self._ping, websocket, ping_interval, pong_timeout)
                nursery.start_soon(self._ending.close_when_told, websocket)
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
        self.close(await self._ending.announced())

    def _too_fast(self) -> bool:
        now = trio.current_time()
        full = len(self._commands) == self._commands.maxlen
        too_fast = full and now - self._commands[0] < self._skin.most_commands[1]
        self._commands.append(now)
        return too_fast
