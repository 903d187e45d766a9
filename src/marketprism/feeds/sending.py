"""What waits to be sent on a connection: in its order, and no faster than the exchange allows."""

from collections.abc import Awaitable, Callable

import trio

from marketprism.errors import Lost
from marketprism.feeds.actions import Send

WRITES_WAITING = 4096


class SendQueue:
    """The messages of one connection."""

    def __init__(self, interval: float) -> None:
        """`interval`: seconds between two messages."""
        self._interval = interval
        self._may_send_at = 0.0
        self._put, self._waiting = trio.open_memory_channel[tuple[Send, trio.Event]](WRITES_WAITING)

    def put(self, send: Send) -> trio.Event:
        """One more; the event is set once it is sent. Raises Lost where too many wait."""
        sent = trio.Event()
        try:
            self._put.send_nowait((send, sent))
        except trio.WouldBlock:
            raise Lost("more to send than the connection takes") from None
        return sent

    async def run(
        self, leaves: Callable[[int], None], write: Callable[[str], Awaitable[None]]
    ) -> None:
        """Write one after the other; `leaves` is told the number of each that has one."""
        async for send, sent in self._waiting:
            await self.turn()
            if send.number is not None:
                # Before it is written: the answer may be read before this task goes on.
                leaves(send.number)
            await write(send.payload)
            sent.set()

    async def turn(self) -> None:
        """Wait until one more message may be sent: an exchange may count pings as well."""
        at = max(trio.current_time(), self._may_send_at)
        self._may_send_at = at + self._interval
        await trio.sleep_until(at)
