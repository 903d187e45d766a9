"""Where messages go."""

from typing import Protocol

from marketprism.outbox.outbox import Outbox

__all__ = ["Outbox", "Sink"]


class Sink(Protocol):
    """Takes messages away, and says which of them are safe."""

    async def run(self, outbox: Outbox) -> None:
        """One attempt, from the first message that nobody has acknowledged.

        Returns when the outbox is closed and all of it is acknowledged, never before.

        Raises:
            SinkLost: the server or the way to it is gone; a new attempt resumes.
            SinkRefused: the server will not have us, or cannot store.
        """
