"""The pings that OKX is owed: it ends a connection on which nothing passes for 30 s. Pure.

An answer proves that the connection lives, and so does whatever it tells of its streams.
"""

from typing import Final

import attrs

from marketprism.clock import SECOND, Timestamp
from marketprism.errors import Lost
from marketprism.feeds.actions import Close, Send

PONG_WITHIN: Final = 10 * SECOND
"""From the sending of a ping."""


@attrs.define(eq=False)
class Heartbeat:
    """One connection's."""

    interval: int
    """Nanoseconds; 0: none is owed."""
    spoke_at: int | None = None
    """Monotonic: when something was last told of a stream."""
    _ping_at: int | None = None
    _awaited: int | None = None
    """The number of the ping whose answer is awaited."""
    _sent_at: int | None = None

    def begin(self, now: Timestamp) -> None:
        """The connection stands."""
        if self.interval:
            self._ping_at = now.monotonic + self.interval

    def due(self, now: Timestamp) -> bool:
        """Whether it is time for a ping."""
        return self._ping_at is not None and now.monotonic >= self._ping_at

    def ping(self, number: int, now: Timestamp) -> Send:
        """The next ping, of that number."""
        self._ping_at = now.monotonic + self.interval
        self._awaited, self._sent_at = number, None
        return Send("ping", number)

    def sent(self, number: int, now: Timestamp) -> bool:
        """Whether that is a ping; it leaves."""
        if number != self._awaited:
            return False
        self._sent_at = now.monotonic
        return True

    def answered(self) -> None:
        """A pong."""
        self._awaited = None

    def spoke_since(self, moment: int) -> bool:
        """Whether something was told of a stream since then."""
        return self.spoke_at is not None and self.spoke_at >= moment

    def failed(self, now: Timestamp) -> Close | None:
        """Neither pong nor anything else came for too long."""
        if self._awaited is None or self._sent_at is None:
            return None
        if now.monotonic - self._sent_at <= PONG_WITHIN:
            return None
        sent, self._awaited = self._sent_at, None
        return None if self.spoke_since(sent) else Close(Lost("a ping was not answered"))
