"""One connection of a feed: its session, its end, and when another is to take over from it."""

import trio

from marketprism.board.rows import ConnectionRow
from marketprism.clock import SECOND, Timestamp
from marketprism.errors import Refused, Transient
from marketprism.feeds.connection import Connection
from marketprism.feeds.venue import Session

TAKE_OVER_SECONDS = 120.0
"""From the new one's connection; what is left then goes over as if the old one were gone."""


class Line:
    """One connection of a feed, and its session."""

    def __init__(self, session: Session, connection: Connection, row: ConnectionRow) -> None:
        self.session = session
        self.connection = connection
        self.row = row
        self.scope = trio.CancelScope()
        self.error: Transient | Refused | None = None
        """Why it ended, once it has."""
        self.ended = trio.Event()
        self.due: int | None = None
        """Monotonic nanoseconds: when another is to take over; None: not known yet, or never."""
        self.hurried = False
        """It is due because its end was announced."""
        self.tried = 0
        """How often another has tried to take over."""

    async def run(self) -> None:
        """Until it ends; `error` says why."""
        try:
            with self.scope:
                await self.connection.run()
        except (Transient, Refused) as error:
            self.error = error
        finally:
            self.ended.set()

    def is_young(self, reset_after: float, now: Timestamp) -> bool:
        """Whether it has not stood for long enough, in seconds, to be called a success."""
        since = self.row.connected_since
        stood = 0 if since is None else now.monotonic - since
        return stood < reset_after * SECOND

    def overdue(self, now: Timestamp) -> bool:
        """Whether it has had its time to take over what there is."""
        since = self.row.connected_since
        if since is None or not self.connection.stands:
            return False
        return now.monotonic - since > TAKE_OVER_SECONDS * SECOND
