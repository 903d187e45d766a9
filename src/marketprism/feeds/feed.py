"""A shard's connections: one at a time, and two while the new one takes over from the old one.

Before a connection's life is over, or when the exchange announces its end, a second one is opened
whose session adopts the first one's. The streams go over one by one, as they join; with the last of
them the old one is ended. A new one that fails before it has a stream has done no harm; one that
fails later ends the attempt, as any loss does. Where the old one ends first, the new one inherits.
"""

from collections.abc import Mapping

import structlog
import trio

from marketprism.board.rows import ConnectionRow
from marketprism.clock import SECOND
from marketprism.errors import Lost, Refused, Transient
from marketprism.feeds.connection import Connection
from marketprism.feeds.line import Line
from marketprism.feeds.services import Services
from marketprism.feeds.shard_streams import ShardStreams
from marketprism.feeds.venue import Shard, Venue
from marketprism.settings.supervision import SupervisionConfig
from marketprism.streams.cursor import Cursor
from marketprism.streams.subscription import Stream
from marketprism.supervise import Attempt, Backoff, Conclusion, Ended, supervise

STAGGER = 0.05
"""The part of a life by which rotations are spread: connections are born together."""
LOOK_SECONDS = 0.25
"""How often it is looked at what has gone over, and whose turn it is."""
ASK_SECONDS = 1.0
"""How often the old one is pinged meanwhile, so that what it does not say can be believed."""

log = structlog.get_logger()


class Feed:
    """One shard, kept connected."""

    def __init__(
        self,
        shard: Shard,
        venue: Venue,
        services: Services,
        policy: SupervisionConfig,
        cursors: Mapping[Stream, Cursor],
    ) -> None:
        """`cursors`: of all its streams, those that come later too."""
        self._streams = ShardStreams(shard, venue, services, policy.freshness, cursors)
        self._wanted = shard
        """What it is to carry, as soon as it can: see `change`."""
        self._carried = trio.Event()
        self._line: Line | None = None
        """The connection there is."""
        self._venue = venue
        self._services = services
        self._policy = policy
        self._backoff = Backoff(policy.backoff.first, policy.backoff.cap)
        self._news = trio.Event()
        self._row = self._new_row()
        services.board.connections[shard.id] = self._row

    @property
    def shard(self) -> Shard:
        """What it carries, or is about to."""
        return self._wanted

    async def run(self) -> None:
        """Stay connected until cancelled; then publish the gaps left open."""
        ident, jitter = self._wanted.id, self._services.jitter
        try:
            await supervise(ident, self._attempt, self._policy, self._ended, jitter)
        finally:
            self._row.state = "stopped"
            self._streams.close()

    async def change(self, shard: Shard) -> None:
        """Carry what this shard does, of the same id: on the connection there is, without touching
        the streams that stay. Returns when it is so, which a rotation or a dial puts off.

        What was lost of a stream before it is left is told now, as a gap that ends here.
        """
        self._wanted = shard
        if self._line is None:
            self._carry(None)
            return
        carried = self._carried
        self._tell()
        await carried.wait()

    async def _attempt(self, life: Attempt) -> None:
        async with trio.open_nursery() as nursery:
            line = self._line = self._open(nursery, life, self._row)
            for stream in line.session.streams:
                self._streams.attach(stream, line.session)
            while True:
                await self._until_due(line)
                line = self._line = await self._rotate(nursery, life, line)

    def _ended(self, end: Ended) -> None:
        row = self._row
        if row.last_alive is not None or row.down_since is None:
            row.down_since = self._services.now().monotonic
        self._streams.disconnected(row, end.reason)
        row.state = "refused" if end.conclusion is Conclusion.REFUSED else "waiting"
        row.reason, row.rotation_due = end.reason, None
        self._line = None
        self._carry(None)

    def _open(
        self, nursery: trio.Nursery, life: Attempt, row: ConnectionRow, old: Line | None = None
    ) -> Line:
        session = self._streams.shard.open(self._streams.cursors, self._policy.refused_retry)
        if old is not None:
            session.take_over(old.session)
        row.state, row.url, row.streams = "dialling", session.url, session.streams
        row.attempts += 1
        row.last_alive = None
        connection = Connection(
            session,
            row,
            self._venue.limits,
            self._services,
            life.produced,
            self._streams.freshness,
            self._tell,
            None if old is None else old.session,
        )
        line = Line(session, connection, row)

        async def run() -> None:
            await line.run()
            self._tell()

        nursery.start_soon(run)
        return line

    # One connection

    async def _until_due(self, line: Line) -> None:
        """Until another is to take over, and may. Raises what the connection ends with."""
        while True:
            if line.error is not None:
                raise line.error
            if line.connection.stands:
                self._carry(line)
            seconds = self._due_in(line)
            if seconds <= 0:
                if line.connection.announced or self._services.rotations.admit(self):
                    return
                seconds = LOOK_SECONDS
            await self._wait(seconds)

    def _due_in(self, line: Line) -> float:
        """Seconds until another is to take over."""
        now, row, life = self._services.now(), line.row, self._venue.limits.connection_life
        if line.connection.announced and not line.hurried:
            # Every new connection may be told the same for a while: not as fast as we can dial.
            young = line.is_young(self._policy.backoff.reset_after, now)
            pause = self._backoff.wait(self._services.jitter()) if young else 0.0
            line.due, line.hurried = now.monotonic + round(pause * SECOND), True
        elif line.due is None and life and row.connected_since is not None:
            share = 1 - STAGGER * self._services.jitter()
            line.due = row.connected_since + round(life * share * SECOND)
        row.rotation_due = line.due
        return float("inf") if line.due is None else (line.due - now.monotonic) / SECOND

    # Two connections

    async def _rotate(self, nursery: trio.Nursery, life: Attempt, old: Line) -> Line:
        """Let a new connection take over. The answer is the one that goes on: that one, or still
        the old one. Raises what an ordinary loss is told by, where neither can.
        """
        board, began = self._services.board, trio.current_time()
        if not old.tried:
            why = old.connection.announced or "its life is nearly over"
            log.info("feed.rotating", connection=self._wanted.id, reason=why)
        old.tried += 1
        row = self._new_row(is_next=True)
        key = row.name
        board.connections[key] = row
        try:
            new = self._open(nursery, life, row, old)
            failure = await self._handed_over(old, new)
        finally:
            self._services.rotations.leave(self)
            del board.connections[key]
            self._row.frames += row.frames
        if failure is not None:
            self._failed(old, failure)
            return old
        if not old.is_young(self._policy.backoff.reset_after, self._services.now()):
            self._backoff.reset()
        old.scope.cancel()
        self._promote(new)
        log.info(
            "feed.rotated",
            connection=self._wanted.id,
            seconds=round(trio.current_time() - began, 3),
            streams=len(new.session.streams),
        )
        return new

    async def _handed_over(self, old: Line, new: Line) -> Transient | Refused | None:
        """Wait until all is the new one's; or why it failed, where nothing is."""
        shared = dict(old.session.streams)
        waiting, inherited, ask_at = set(shared), False, trio.current_time()
        while True:
            gone = waiting - old.session.streams.keys()
            for stream in gone:
                self._streams.attach(stream, new.session)
            waiting -= gone
            if not waiting:
                return None
            untouched = len(waiting) == len(shared)
            if new.error is not None:
                if untouched:
                    return new.error
                self._streams.lose(new.row, shared.keys() - waiting)
                raise new.error
            if old.error is not None:
                if inherited or not new.connection.stands:
                    self._streams.lose(new.row, shared.keys() - waiting)
                    raise old.error
                self._streams.see_to_the_end(old.row, waiting)
                new.connection.old_gone()
                inherited = True
            elif new.overdue(self._services.now()) and not inherited:
                if untouched:
                    new.scope.cancel()
                    await new.ended.wait()
                    new.error = Lost("nothing could be taken over")
                else:
                    new.connection.old_gone()
                    inherited = True
            else:
                if trio.current_time() >= ask_at:
                    old.connection.ask()
                    ask_at = trio.current_time() + ASK_SECONDS
                await self._wait(LOOK_SECONDS)

    def _failed(self, old: Line, error: Transient | Refused) -> None:
        """The old one goes on undisturbed; another will try later."""
        self._row.rotations["failed"] += 1
        patience = self._policy.refused_retry
        least = patience if isinstance(error, Refused) else error.retry_after
        wait = self._backoff.wait(self._services.jitter(), least)
        old.due = self._services.now().monotonic + round(wait * SECOND)
        log.warning("feed.rotation_failed", connection=self._wanted.id, reason=str(error))

    def _promote(self, new: Line) -> None:
        """It is the feed's connection now, and no reconnect."""
        before, row = self._row, new.row
        row.next, row.connects, row.frames = False, before.connects, before.frames
        row.attempts += before.attempts
        row.rotations = before.rotations
        row.rotations["ok"] += 1
        self._row = self._services.board.connections[self._wanted.id] = row
        new.connection.old = None

    # What it carries

    def _carry(self, line: Line | None) -> None:
        """Go over from what it carries to what it is to. Raises what the connection ends with,
        where that cannot be said on it.
        """
        if self._wanted is self._streams.shard:
            return
        new, gone = self._streams.change(self._wanted)
        self._carried.set()
        self._carried = trio.Event()
        if line is not None:
            line.connection.change(new, gone, self._streams.cursors)
            for subscription in new:
                self._streams.attach(subscription.stream, line.session)

    # What both have in common

    def _new_row(self, *, is_next: bool = False) -> ConnectionRow:
        venue = self._venue
        row = ConnectionRow(self._wanted.id, venue.name, venue.exchange, venue.market_type, url="")
        row.next = is_next
        return row

    def _tell(self) -> None:
        """There is something to look at."""
        self._news.set()

    async def _wait(self, seconds: float) -> None:
        with trio.move_on_after(seconds):
            await self._news.wait()
        self._news = trio.Event()
