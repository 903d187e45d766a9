"""A shard's connections: one at a time, and two while the younger takes over from the elder.

Before a connection's life is over, or when the exchange announces its end, a second one is opened
whose session adopts the first one's. The streams go over one by one, as they join; with the last
of them the elder is ended. A younger that fails before it has a stream has done no harm; one that
fails later ends the attempt, as any loss does. Where the elder ends first, the younger inherits.
"""

from collections.abc import Iterable, Mapping

import structlog
import trio

from marketprism.board.rows import ConnectionRow
from marketprism.clock import SECOND
from marketprism.errors import Lost, Refused, Transient
from marketprism.feeds.connection import Connection
from marketprism.feeds.freshness import Freshness
from marketprism.feeds.services import Services
from marketprism.feeds.venue import Session, Shard, Venue
from marketprism.records import DataType
from marketprism.redaction import redact
from marketprism.settings.supervision import SupervisionConfig
from marketprism.streams.cursor import Cursor
from marketprism.streams.subscription import Stream, Subscription
from marketprism.supervise import Attempt, Backoff, Conclusion, Ended, supervise

STAGGER = 0.05
"""The part of a life by which rotations are spread: connections are born together."""
LOOK_SECONDS = 0.25
"""How often it is looked at what has gone over, and whose turn it is."""
TAKE_OVER_SECONDS = 120.0
"""From the younger's connection; what is left then goes over as if the elder were gone."""

ASK_SECONDS = 1.0
"""How often the elder is pinged meanwhile, so that what it does not say can be believed."""

log = structlog.get_logger()


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
        self._shard = shard
        self._wanted = shard
        """What it is to carry, as soon as it can: see `change`."""
        self._carried = trio.Event()
        self._line: Line | None = None
        """The connection there is."""
        self._venue = venue
        self._services = services
        self._policy = policy
        self._freshness = Freshness(venue.offers, policy.freshness)
        self._all_cursors = cursors
        self._cursors: dict[Stream, Cursor] = {}
        self._backoff = Backoff(policy.backoff.first, policy.backoff.cap)
        self._news = trio.Event()
        self._row = self._new_row()
        services.board.connections[shard.id] = self._row
        for subscription in shard.subscriptions:
            self._take_up(subscription)

    @property
    def shard(self) -> Shard:
        """What it carries, or is about to."""
        return self._wanted

    async def run(self) -> None:
        """Stay connected until cancelled; then publish the gaps left open."""
        shard, services = self._shard, self._services
        try:
            await supervise(shard.id, self._attempt, self._policy, self._ended, services.jitter)
        finally:
            self._row.state = "stopped"
            wall = services.now().wall
            # Of an instrument's gaps the next process asks for the last: where its book stood.
            subscriptions = self._shard.subscriptions
            subscriptions = sorted(
                subscriptions, key=lambda subscription: subscription.data_type is DataType.ORDERBOOK
            )
            open_gaps = (
                self._cursors[subscription.stream].close(
                    subscription.instrument, subscription.data_type, wall, shard.id
                )
                for subscription in subscriptions
            )
            services.tell_gaps([gap for gap in open_gaps if gap is not None], shard.id)

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
                self._attach(stream, line)
            while True:
                await self._until_due(line)
                line = self._line = await self._rotate(nursery, life, line)

    def _ended(self, end: Ended) -> None:
        row = self._row
        if row.last_alive is not None or row.down_since is None:
            row.down_since = self._services.now().monotonic
        self._see_to_the_end(row, self._cursors)
        for stream, cursor in self._cursors.items():
            cursor.lose("disconnect", redact(end.reason))
            self._services.board.streams[self._venue.name, stream].detach()
        row.state = "refused" if end.conclusion is Conclusion.REFUSED else "waiting"
        row.reason, row.rotation_due = end.reason, None
        self._line = None
        self._carry(None)

    def _open(
        self, nursery: trio.Nursery, life: Attempt, row: ConnectionRow, old: Line | None = None
    ) -> Line:
        session = self._shard.open(self._cursors, self._policy.refused_retry)
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
            self._freshness,
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
        now, row, life = (
            self._services.now().monotonic,
            line.row,
            self._venue.limits.connection_life,
        )
        if line.connection.announced and not line.hurried:
            # Every new connection may be told the same for a while: not as fast as we can dial.
            pause = self._backoff.wait(self._services.jitter()) if self._is_young(line) else 0.0
            line.due, line.hurried = now + round(pause * SECOND), True
        elif line.due is None and life and row.connected_since is not None:
            share = 1 - STAGGER * self._services.jitter()
            line.due = row.connected_since + round(life * share * SECOND)
        row.rotation_due = line.due
        return float("inf") if line.due is None else (line.due - now) / SECOND

    # Two connections

    async def _rotate(self, nursery: trio.Nursery, life: Attempt, old: Line) -> Line:
        """Let a new connection take over. The answer is the one that goes on: that one, or still
        the elder. Raises what an ordinary loss is told by, where neither can.
        """
        board, began = self._services.board, trio.current_time()
        if not old.tried:
            why = old.connection.announced or "its life is nearly over"
            log.info("feed.rotating", connection=self._shard.id, reason=why)
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
        if not self._is_young(old):
            self._backoff.reset()
        old.scope.cancel()
        self._promote(new)
        log.info(
            "feed.rotated",
            connection=self._shard.id,
            seconds=round(trio.current_time() - began, 3),
            streams=len(new.session.streams),
        )
        return new

    async def _handed_over(self, old: Line, new: Line) -> Transient | Refused | None:
        """Wait until all is the younger's; or why it failed, where nothing is."""
        shared = dict(old.session.streams)
        waiting, inherited, ask_at = set(shared), False, trio.current_time()
        while True:
            gone = waiting - old.session.streams.keys()
            for stream in gone:
                self._attach(stream, new)
            waiting -= gone
            if not waiting:
                return None
            untouched = len(waiting) == len(shared)
            if new.error is not None:
                if untouched:
                    return new.error
                self._lose(new, shared.keys() - waiting)
                raise new.error
            if old.error is not None:
                if inherited or not new.connection.stands:
                    self._lose(new, shared.keys() - waiting)
                    raise old.error
                self._see_to_the_end(old.row, waiting)
                new.connection.old_gone()
                inherited = True
            elif self._overdue(new) and not inherited:
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

    def _overdue(self, new: Line) -> bool:
        since = new.row.connected_since
        if since is None or not new.connection.stands:
            return False
        return self._services.now().monotonic - since > TAKE_OVER_SECONDS * SECOND

    def _failed(self, old: Line, error: Transient | Refused) -> None:
        """The elder goes on undisturbed; another will try later."""
        self._row.rotations["failed"] += 1
        patience = self._policy.refused_retry
        least = patience if isinstance(error, Refused) else error.retry_after
        wait = self._backoff.wait(self._services.jitter(), least)
        old.due = self._services.now().monotonic + round(wait * SECOND)
        log.warning("feed.rotation_failed", connection=self._shard.id, reason=str(error))

    def _promote(self, new: Line) -> None:
        """It is the feed's connection now, and no reconnect."""
        before, row = self._row, new.row
        row.next, row.connects, row.frames = False, before.connects, before.frames
        row.attempts += before.attempts
        row.rotations = before.rotations
        row.rotations["ok"] += 1
        self._row = self._services.board.connections[self._shard.id] = row
        new.connection.old = None

    # What it carries

    def _carry(self, line: Line | None) -> None:
        """Go over from what it carries to what it is to. Raises what the connection ends with,
        where that cannot be said on it.
        """
        if self._wanted is self._shard:
            return
        before = {subscription.stream: subscription for subscription in self._shard.subscriptions}
        after = {subscription.stream: subscription for subscription in self._wanted.subscriptions}
        gone = [subscription for stream, subscription in before.items() if stream not in after]
        new = [subscription for stream, subscription in after.items() if stream not in before]
        self._shard = self._wanted
        for subscription in gone:
            self._leave(subscription)
        for subscription in new:
            self._take_up(subscription)
        self._carried.set()
        self._carried = trio.Event()
        if line is not None:
            line.connection.change(new, gone, self._cursors)
            for subscription in new:
                self._attach(subscription.stream, line)

    def _take_up(self, subscription: Subscription) -> None:
        services, venue = self._services, self._venue
        self._cursors[subscription.stream] = self._all_cursors[subscription.stream]
        limit = venue.offers[subscription.data_type].quiet_limit
        now = services.now().monotonic
        row = services.board.stream(venue.name, subscription, self._shard.id, limit, now)
        row.freshness = self._freshness

    def _leave(self, subscription: Subscription) -> None:
        """Nothing more will be heard of it: what it lost before is told."""
        services, now, ident = self._services, self._services.now(), self._shard.id
        services.board.streams[self._venue.name, subscription.stream].detach()
        self._freshness.leave(subscription.stream)
        cursor = self._cursors.pop(subscription.stream)
        gap = cursor.close(subscription.instrument, subscription.data_type, now.wall, ident)
        services.tell_gaps([] if gap is None else [gap], ident)
        services.outlet.leave(ident, subscription.stream, now.wall, now.monotonic)

    # What both have in common

    def _is_young(self, line: Line) -> bool:
        """Whether it has not stood for long enough to be called a success."""
        since = line.row.connected_since
        stood = 0 if since is None else self._services.now().monotonic - since
        return stood < self._policy.backoff.reset_after * SECOND

    def _attach(self, stream: Stream, line: Line) -> None:
        row = self._services.board.streams[self._venue.name, stream]
        row.attach(line.session.streams[stream])

    def _lose(self, line: Line, streams: Iterable[Stream]) -> None:
        """A connection ends in whose sight those streams were, and no other's."""
        streams, why = list(streams), "its connection ended, and the other does not hear it"
        self._see_to_the_end(line.row, streams)
        for stream in streams:
            self._cursors[stream].lose("disconnect", why)

    def _see_to_the_end(self, row: ConnectionRow, streams: Iterable[Stream]) -> None:
        """What a stream did not say while its connection was alive did not happen: sight was lost
        when the connection last gave a sign of life, not at the stream's last record.
        """
        if row.last_alive is None:
            return
        now = self._services.now()
        alive = now.wall - (now.monotonic - row.last_alive)
        for cursor in (self._cursors[stream] for stream in streams):
            if cursor.received is not None and cursor.gap is None:
                cursor.received = max(cursor.received, alive)

    def _new_row(self, *, is_next: bool = False) -> ConnectionRow:
        venue = self._venue
        row = ConnectionRow(self._shard.id, venue.name, venue.exchange, venue.market_type, url="")
        row.next = is_next
        return row

    def _tell(self) -> None:
        """There is something to look at."""
        self._news.set()

    async def _wait(self, seconds: float) -> None:
        with trio.move_on_after(seconds):
            await self._news.wait()
        self._news = trio.Event()
