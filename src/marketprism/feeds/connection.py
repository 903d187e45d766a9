"""One attempt to be connected, from dial to death.

The task that reads bytes runs the session and puts to the outlet with no await between: cancelling
it loses nothing that was read. All else — sends, fetches, ticks — are its siblings in one nursery,
which ends with the first error, or when it is cancelled from without.
"""

from collections.abc import Callable, Mapping, Sequence
from urllib.parse import urlsplit

import structlog
import trio

from marketprism.board.rows import ConnectionRow, lasted
from marketprism.clock import Timestamp
from marketprism.errors import Lost, Quiet, Refused, Transient
from marketprism.feeds.action_log import ActionLog
from marketprism.feeds.actions import (
    Action,
    Close,
    Diverged,
    Fetch,
    Output,
    Park,
    Reject,
    Rotate,
    Send,
)
from marketprism.feeds.dialing import translated
from marketprism.feeds.frames import BatchingConnection
from marketprism.feeds.freshness import Freshness, Remedy
from marketprism.feeds.host_access import HostAccess
from marketprism.feeds.liveness import Liveness
from marketprism.feeds.sending import SendQueue
from marketprism.feeds.services import Services
from marketprism.feeds.silences import Silences, others_speak
from marketprism.feeds.venue import Session
from marketprism.records import Record
from marketprism.settings.exchanges import Limits
from marketprism.streams.cursor import Cursor
from marketprism.streams.state import StreamState
from marketprism.streams.subscription import Stream, Subscription

TICK_SECONDS = 0.25
log = structlog.get_logger()


class Connection:
    """One connection and its session: what its feed gives it, and a part for each of its tasks."""

    def __init__(
        self,
        session: Session,
        row: ConnectionRow,
        limits: Limits,
        services: Services,
        produced: Callable[[], None],
        freshness: Freshness | None = None,
        changed: Callable[[], None] | None = None,
        old: Session | None = None,
    ) -> None:
        """`freshness` judges the silences of the session's streams; None: nobody does. `changed`
        is called when it stands, and when its end is announced. What `old` still has of the
        streams is not this connection's.
        """
        self._session = session
        self._row = row
        self._limits = limits
        self._services = services
        self._produced = produced
        self._changed = changed or _nothing
        self.old = old
        self.announced: str | None = None
        """Why the exchange is about to end it, in its words."""
        self._access = HostAccess(session.url, row, limits, services.hosts, services.now)
        self._liveness = Liveness(row, limits.silence_timeout, services.now)
        self._sending = SendQueue(limits.message_interval)
        self._silences = Silences(freshness, services.board, row)
        self._action_log = ActionLog(row, services)
        self._nursery: trio.Nursery

    @property
    def stands(self) -> bool:
        """Whether the session may act on it."""
        connected = self._row.connected_since is not None
        return connected and not self._nursery.cancel_scope.cancel_called

    def ask(self) -> None:
        """Ping at once: the answer proves that all has come which was said before."""
        self._liveness.ask()

    def old_gone(self) -> None:
        """The old one is gone: its streams are this connection's. Call it only while it stands."""
        now = self._services.now()
        self._act(self._session.old_gone(now), now)

    def change(
        self,
        add: Sequence[Subscription],
        remove: Sequence[Subscription],
        cursors: Mapping[Stream, Cursor],
    ) -> None:
        """Ask for these too, and leave those. Call it only while it stands."""
        now = self._services.now()
        self._act(self._session.change(add, remove, now, cursors), now)

    async def run(self) -> None:
        """Connect and stay connected; ends by raising only: Lost, Quiet, RateLimited, Refused."""
        await self._access.admitted(is_next=self.old is not None)
        self._services.sessions.add(self._session)
        try:
            with translated(self._access.host, self._access.meaning):
                await self._attempt()
        except Transient as error:
            self._lost(error)
            raise
        except Refused as error:
            self._access.refused(error)
            raise
        finally:
            self._services.sessions.discard(self._session)
            self._access.leave()
            self._row.connected_since = None

    def _lost(self, error: Transient) -> None:
        """It is over: for the log, and for those who call the same host."""
        stood = self._row.state == "connected"
        if stood:
            streams = len(self._session.streams)
            log.warning(
                "feed.disconnected",
                connection=self._row.name,
                reason=str(error),
                streams=streams,
            )
        self._access.lost(error, stood=stood, is_next=self.old is not None)

    async def _attempt(self) -> None:
        path = urlsplit(self._session.url)
        resource = path.path + (f"?{path.query}" if path.query else "")
        proxy = self._services.proxies.proxy_for(self._session.url)
        stream: trio.abc.Stream | None = None
        try:
            with trio.move_on_after(self._limits.connect_timeout) as patience:
                stream = await self._services.dial(self._session.url, proxy, self._services.tls)
                self._access.still_welcome()
                async with trio.open_nursery() as self._nursery:
                    connection = BatchingConnection(
                        stream,
                        path.netloc.rpartition("@")[2],
                        resource or "/",
                        self._receive,
                        self._limits.max_message_bytes,
                    )
                    self._nursery.start_soon(self._read, connection)
                    await connection.opened()
                    patience.deadline = float("inf")
                    self._opened()
                    self._nursery.start_soon(self._write, connection)
                    self._nursery.start_soon(self._ping, connection)
                    self._nursery.start_soon(self._tick, connection)
            if patience.cancelled_caught:
                raise trio.TooSlowError
        finally:
            if stream is not None:
                await trio.aclose_forcefully(stream)

    def _opened(self) -> None:
        """The handshake is done. Who sees it first says so: a peer may speak in the very segment
        that ends it, and the session must hear of the connection before it hears anything on it.
        """
        row = self._row
        if row.connected_since is not None:
            return
        now = self._services.now()
        row.state, row.reason = "connected", None
        self._access.opened(now)
        row.connected_since = now.monotonic
        row.connects += 1
        self._liveness.heard()
        if self.old is None:
            self._silences.connected()
        down = {} if row.down_since is None else {"after": lasted(row.down_since, now.monotonic)}
        row.down_since = None
        streams = len(self._session.streams)
        log.info("feed.connected", connection=row.name, url=row.url, streams=streams, **down)
        self._act(self._session.opening(now), now)
        self._changed()

    async def _read(self, connection: BatchingConnection) -> None:
        with self._liveness.watched():
            await connection.run()
        raise _closed(connection)

    def _receive(self, frames: list[bytes]) -> None:
        self._opened()
        now = self._services.now()
        self._liveness.heard()
        self._row.frames += len(frames)
        self._row.last_message = now.monotonic
        output = self._session.receive(frames, now)
        self._services.learn_times(self._row.exchange, output.records, now)
        self._act(output, now)

    def _act(self, output: Output, now: Timestamp) -> None:
        if output.records:
            self._produced()
            self._services.publish(output.records, now.monotonic, self._row.id)
        for step in output.actions:
            self._do(step)

    def _do(self, step: Action) -> None:
        match step:
            case Send():
                self._sending.put(step)
            case Fetch():
                self._nursery.start_soon(self._fetch, step)
            case Rotate(reason=reason):
                self._end_announced(reason)
            case Close(error=error):
                raise error
            case Reject() | Park() | Diverged():
                self._action_log.tell(step)

    def _end_announced(self, reason: str) -> None:
        if self.announced is None:
            self.announced = reason
            self._changed()

    async def _write(self, connection: BatchingConnection) -> None:
        def leaves(number: int) -> None:
            self._session.sent(number, self._services.now())

        await self._sending.run(leaves, connection.send_message)

    async def _ping(self, connection: BatchingConnection) -> None:
        def proven(sent: int) -> None:
            for state in self._own().values():
                state.heard_until = sent

        await self._liveness.ping(self._sending.turn, connection.ping, proven)

    async def _tick(self, connection: BatchingConnection) -> None:
        while True:
            await trio.sleep(TICK_SECONDS)
            if connection.closed:
                # By the peer, which may leave it at that and keep the socket open.
                raise _closed(connection)
            now = self._services.now()
            self._act(self._session.tick(now), now)
            self._judge(now)
            if self._services.outlet.lossy:
                self._tell_gaps(now)

    def _judge(self, now: Timestamp) -> None:
        """Do what the silence of a stream calls for. Raises Quiet when that is a reconnect."""
        streams = self._own()
        for stream, answer, limit in self._silences.found(streams, now):
            if answer is Remedy.RECONNECT:
                data_type, native_id = stream
                words = f"{data_type} of {native_id} was silent for {limit:.0f} s, renewed too"
                if not others_speak(streams, stream, limit, now):
                    raise Quiet(words)
                # They lose nothing where the next connection takes over from this one.
                self._end_announced(words)
            self._act(self._session.renew(stream, now), now)

    def _own(self) -> Mapping[Stream, StreamState]:
        streams = self._session.streams
        if self.old is None:
            return streams
        return {
            stream: state for stream, state in streams.items() if stream not in self.old.streams
        }

    def _tell_gaps(self, now: Timestamp) -> None:
        def send_snapshot(stream: Stream, heals_gap: int) -> list[Record]:
            return self._session.send_snapshot(stream, heals_gap, now).records

        self._services.outlet.tell_gaps(self._row.id, now.wall, now.monotonic, send_snapshot)

    async def _fetch(self, request: Fetch) -> None:
        async def say(send: Send) -> None:
            await self._sending.put(send).wait()

        answer = await self._services.rest.fetch(request, say)
        now = self._services.now()
        self._act(self._session.reply(request.tag, answer, now), now)


def _nothing() -> None:
    """Nobody wants to know."""


def _closed(connection: BatchingConnection) -> Lost:
    """The end that both sides know of."""
    closed = connection.closed
    return Lost(f"closed: {closed.code} {closed.reason or closed.name}" if closed else "closed")
