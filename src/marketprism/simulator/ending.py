"""How one websocket is to end: at once, with a close frame, or as was announced."""

import math

import trio
from trio_websocket import WebSocketConnection

_CLOSE_SECONDS = 2.0
_GOING_AWAY = 1001


class Ending:
    """Of one connection; whoever wants it to end tells this."""

    def __init__(self) -> None:
        self.life = trio.CancelScope()
        """Cancelled, it ends at once."""
        self._close_code = 1000
        self._closing = trio.Event()
        self._announced = trio.Event()
        self._ends_at = math.inf

    def close(self, code: int) -> None:
        """With a close frame."""
        self._close_code = code
        self._closing.set()

    def end_in(self, seconds: float) -> None:
        """With a close frame (1001: going away) so much later."""
        self._ends_at = trio.current_time() + seconds
        self._announced.set()

    async def announced(self) -> int:
        """Wait until it is to end as was announced; the code to close with."""
        await self._announced.wait()
        await trio.sleep_until(self._ends_at)
        return _GOING_AWAY

    async def close_when_told(self, websocket: WebSocketConnection) -> None:
        """Say so to the peer, once it is time."""
        await self._closing.wait()
        with trio.move_on_after(_CLOSE_SECONDS):
            await websocket.aclose(self._close_code)
