"""When a connection is taken for dead, on the level of messages.

Two manners: to close what nothing was said to for a while (OKX), and to ask now and then for a sign
of life, where the client wants that (Deribit).
"""

import math
from collections.abc import AsyncIterator

import trio

from .skin import Reply, Skin


class Liveness:
    """One connection's. Iterated, it gives the heartbeats to send, and ends with the connection."""

    def __init__(self, skin: Skin) -> None:
        self._skin = skin
        self._told_at = trio.current_time()
        self._interval = math.inf
        self._next_beat = math.inf
        self._asked = False
        """Whether a heartbeat waits for its answer."""
        self._changed = trio.Event()

    def told(self) -> None:
        """Something is being said to the client."""
        self._told_at = trio.current_time()

    def heard(self, reply: Reply) -> None:
        """The client has said what is answered so."""
        if reply.alive:
            self._asked = False
        if reply.heartbeat is not None:
            self._interval = reply.heartbeat or math.inf
            self._next_beat = trio.current_time() + self._interval
            self._asked = False
            self._changed.set()

    async def __aiter__(self) -> AsyncIterator[str]:
        """A heartbeat each interval; the one before must have been answered by then."""
        while True:
            ends = self._told_at + self._skin.silence_seconds
            with trio.move_on_at(min(ends, self._next_beat)):
                await self._changed.wait()
                self._changed = trio.Event()
            now = trio.current_time()
            if now >= self._told_at + self._skin.silence_seconds:
                return
            if now >= self._next_beat:
                if self._asked:
                    return
                self._asked = True
                self._next_beat = now + self._interval
                yield self._skin.heartbeat()
