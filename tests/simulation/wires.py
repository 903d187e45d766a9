"""Streams in memory that behave as badly as a network does: late, in pieces, cut, flipped, or dead.

TCP keeps its promises here as it does outside: what arrives is what was sent, in order, or the
connection ends. Bits are flipped where no checksum saw it: always so that a reader can notice.
"""

import math
import random
from collections import deque

import attrs
import trio
from trio.lowlevel import ParkingLot

from marketprism.simulator.wire import Resettable

CAPACITY = 128 * 1024
"""Bytes on the way in one direction; who sends more waits."""


class Line:
    """One direction of a connection."""

    def __init__(self, chance: random.Random, latency: float) -> None:
        self._chance = chance
        self._latency = latency
        self._way: deque[tuple[float, bytes]] = deque()
        self._size = 0
        self._latest = 0.0
        self._changed = ParkingLot()
        self.hole = False
        """Nothing passes any more, and nobody is told."""
        self.stalled_until = 0.0
        """What is sent before then arrives after it."""
        self.flips = 0
        """So many of the next pieces are damaged."""
        self.finished = False
        self.broken = False

    async def put(self, data: bytes) -> None:
        """Send; waits while too much is on the way."""
        await trio.lowlevel.checkpoint()
        while self._size >= CAPACITY and not (self.hole or self.broken or self.finished):
            await self._changed.park()
        if self.broken or self.finished:
            raise trio.BrokenResourceError("the peer is gone")
        if self.hole:
            return
        for piece in self._pieces(data):
            late = self._latency * self._chance.uniform(0.5, 1.5)
            due = max(trio.current_time() + late, self._latest, self.stalled_until)
            self._latest = due
            self._way.append((due, piece))
            self._size += len(piece)
        self._changed.unpark_all()

    async def get(self, most: int) -> bytes:
        """What has arrived, at least a byte; nothing at the end."""
        await trio.lowlevel.checkpoint()
        while True:
            if self.broken:
                raise trio.BrokenResourceError("connection reset by peer")
            due = self._way[0][0] if self._way else math.inf
            if due <= trio.current_time():
                return self._taken(most)
            if self.finished and not self._way and not self.hole:
                return b""
            with trio.move_on_at(due):
                await self._changed.park()

    def finish(self) -> None:
        """The sender has no more to say."""
        self.finished = True
        self._changed.unpark_all()

    def reset(self) -> None:
        """It is no more, and what was on the way is lost."""
        self.broken = True
        self.lose()

    def lose(self) -> None:
        """What is on the way is lost."""
        self._way.clear()
        self._size = 0
        self._changed.unpark_all()

    def _pieces(self, data: bytes) -> list[bytes]:
        """Segments know nothing of messages."""
        if self.flips and len(data) > 1:
            self.flips -= 1
            damaged = bytearray(data)
            # The highest bit: no text, and no header as it was meant.
            damaged[self._chance.randrange(len(damaged))] ^= 0x80
            data = bytes(damaged)
        if len(data) < 2 or self._chance.random() < 0.8:
            return [data]
        middle = self._chance.randrange(1, len(data))
        return [data[:middle], data[middle:]]

    def _taken(self, most: int) -> bytes:
        now, parts, room = trio.current_time(), [], most
        while room and self._way and self._way[0][0] <= now:
            due, piece = self._way.popleft()
            parts.append(piece[:room])
            if len(piece) > room:
                self._way.appendleft((due, piece[room:]))
            room -= len(parts[-1])
        self._size -= most - room
        self._changed.unpark_all()
        return b"".join(parts)


class End(Resettable):
    """One end of a connection."""

    def __init__(self, incoming: Line, outgoing: Line) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._closed = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self._closed:
            raise trio.ClosedResourceError
        await self._outgoing.put(bytes(data))

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if self._closed:
            raise trio.ClosedResourceError
        data = await self._incoming.get(max_bytes or 65_536)
        if self._closed:
            raise trio.ClosedResourceError
        return data

    async def aclose(self) -> None:
        self._closed = True
        self._outgoing.finish()
        self._incoming.finish()
        await trio.lowlevel.checkpoint()

    def reset(self) -> None:
        self._closed = True
        self._outgoing.reset()
        self._incoming.reset()


@attrs.define(eq=False)
class Link:
    """Both directions of one connection, and how to harm it."""

    host: str
    up: Line
    """From the client."""
    down: Line
    ended: bool = False

    @classmethod
    def between(cls, host: str, chance: random.Random) -> "Link":
        """A new one, with a latency of its own."""
        latency = chance.uniform(0.005, 0.06)
        return cls(host, Line(chance, latency), Line(chance, latency))

    def ends(self) -> tuple[End, End]:
        """The client's and the server's."""
        return End(self.down, self.up), End(self.up, self.down)

    def cut(self) -> None:
        """Reset: both ends are told, what was on the way is lost."""
        self.up.reset()
        self.down.reset()

    def swallow(self) -> None:
        """From now on nothing passes, and nobody is told."""
        for line in (self.up, self.down):
            line.hole = True
            line.lose()

    def stall(self, seconds: float) -> None:
        """What is said from now on arrives when the stall is over."""
        until = trio.current_time() + seconds
        self.up.stalled_until = self.down.stalled_until = until
