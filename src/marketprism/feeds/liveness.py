"""Whether the other side of a connection is there: whatever comes says so, if only a pong."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import trio

from marketprism.board.rows import ConnectionRow
from marketprism.clock import Timestamp
from marketprism.errors import Quiet

PING_EVERY, PONG_WITHIN = 20.0, 10.0
"""Seconds. trio-websocket has no keep-alive of its own: a half-open connection shows here."""


class Liveness:
    """Of one connection. Whether a stream says enough is judged by its records, not here."""

    def __init__(
        self, row: ConnectionRow, silence_timeout: float, now: Callable[[], Timestamp]
    ) -> None:
        self._row = row
        self._silence_timeout = silence_timeout
        self._now = now
        self._silence = trio.CancelScope()
        self._asked = trio.Event()

    def heard(self) -> None:
        """Something came: push the silence's deadline forward."""
        self._silence.deadline = trio.current_time() + self._silence_timeout
        self._row.last_alive = self._now().monotonic

    def ask(self) -> None:
        """Ping at once: the answer proves that all has come which was said before."""
        self._asked.set()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Raises Quiet once nothing came for too long."""
        with self._silence:
            yield
        if self._silence.cancelled_caught:
            raise Quiet(f"nothing came for {self._silence_timeout:g} s")

    async def ping(
        self,
        turn: Callable[[], Awaitable[None]],
        ping: Callable[[], Awaitable[None]],
        proven: Callable[[int], None],
    ) -> None:
        """Ping now and then, in `turn` with what else is sent. `proven`: of all that was said
        until then, monotonic, nothing is under way any more. Raises Quiet without an answer.
        """
        while True:
            with trio.move_on_after(PING_EVERY):
                await self._asked.wait()
            self._asked = trio.Event()
            await turn()
            sent = self._now().monotonic
            with trio.move_on_after(PONG_WITHIN) as patience:
                await ping()
                self.heard()
                proven(sent)
            if patience.cancelled_caught and (self._row.last_message or 0) <= sent:
                # A connection that delivers is alive, whatever became of a pong.
                raise Quiet(f"no answer to a ping for {PONG_WITHIN:g} s")
