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
from marketprism.clock import SECOND, Timestamp
from marketprism.errors import Lost, MarketPrismError, Quiet, RateLimited, Refused, Transient
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
from marketprism.feeds.hosts import host_of
from marketprism.feeds.http_answers import Guess, HttpAnswer, Meaning
from marketprism.feeds.services import Services
from marketprism.feeds.silence_log import tell_silences
from marketprism.feeds.venue import Session
from marketprism.records import Gap, Record
from marketprism.settings.exchanges import Limits
from marketprism.streams.cursor import Cursor
from marketprism.streams.state import StreamState
from marketprism.streams.subscription import Stream, Subscription

TICK_SECONDS = 0.25
PING_EVERY, PONG_WITHIN = 20.0, 10.0
"""Seconds. trio-websocket has no keep-alive of its own: a half-open connection shows here."""
WRITES_WAITING = 4096
BAN = Guess(30.0, 30.0)
"""How long nobody calls a host that says on a websocket, or to its handshake, that we ask too much,
and not for how long: not so long that a single such answer keeps anything from being live again
within a minute.
"""

log = structlog.get_logger()


class Connection:
    """One connection and its session."""

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
        self._manners = limits
        self._services = services
        self._produced = produced
        self._freshness = freshness
        self._changed = changed or _nothing
        self.old = old
        self.announced: str | None = None
        """Why the exchange is about to end it, in its words."""
        self._host = host_of(session.url)
        self._silence = trio.CancelScope()
        self._asked = trio.Event()
        self._may_say_at = 0.0
        self._samples: dict[str, int] = {}
        self._say, self._said = trio.open_memory_channel[tuple[Send, trio.Event]](WRITES_WAITING)
        self._nursery: trio.Nursery

    @property
    def stands(self) -> bool:
        """Whether the session may act on it."""
        connected = self._row.connected_since is not None
        return connected and not self._nursery.cancel_scope.cancel_called

    def ask(self) -> None:
        """Ping at once: the answer proves that all has come which was said before."""
        self._asked.set()

    def old_gone(self) -> None:
        """The elder is gone: its streams are this connection's. Call it only while it stands."""
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

    @property
    def _log(self) -> structlog.typing.FilteringBoundLogger:
        bound: structlog.typing.FilteringBoundLogger = log.bind(connection=self._row.name)
        return bound

    async def run(self) -> None:
        """Connect and stay connected; ends by raising only: Lost, Quiet, RateLimited, Refused."""
        await self._admitted()
        self._services.sessions.add(self._session)
        try:
            with translated(self._host, self._meaning):
                await self._attempt()
        except Transient as error:
            self._lost(error)
            raise
        except Refused as error:
            now = self._services.now().monotonic
            self._services.hosts.refused(self._host, self._reason(error), now)
            raise
        finally:
            self._services.sessions.discard(self._session)
            self._services.hosts.stop_of(self._host).left(self)
            self._row.connected_since = None

    async def _admitted(self) -> None:
        """Wait for our turn to dial this host. Raises Lost while it is spared."""
        hosts, now = self._services.hosts, self._services.now
        breaker = hosts.breaker("websocket", self._host)
        if self.old is not None and breaker.opened_at is not None:
            # The one call that finds out whether it is back belongs to those that have no other.
            raise Lost(f"{self._host} is left alone after {breaker.failures} failures")
        if spared := breaker.admit(now().monotonic):
            words = f"{self._host} failed {breaker.failures} times in a row and is left alone"
            raise Lost(words, retry_after=spared / SECOND)
        dials, stop = hosts.dials(self._host, self._manners), hosts.stop_of(self._host)
        while wait := dials.wait(1, now().monotonic) or stop.admit(self, now().monotonic):
            if stop.in_force:
                self._row.state = "waiting"
            if self.old is not None and wait > self._manners.connect_timeout * SECOND:
                # Others may take their turn meanwhile.
                raise Lost(f"{self._host} may not be dialled yet", retry_after=wait / SECOND)
            await trio.sleep(wait / SECOND)
        self._row.state = "dialling"
        dials.spend(1, now().monotonic)

    def _lost(self, error: Transient) -> None:
        """Tell those who call the same host what this attempt found out."""
        hosts, now = self._services.hosts, self._services.now().monotonic
        stood = self._row.state == "connected"
        if stood:
            streams = len(self._session.streams)
            self._log.warning("feed.disconnected", reason=str(error), streams=streams)
        if isinstance(error, RateLimited):
            hosts.stop(self._host, error.retry_after, BAN, now)
            hosts.refused(self._host, self._reason(error), now)
        elif not stood and now >= hosts.stop_of(self._host).until:
            if self.old is None:
                # Else those that lose their only connection would be kept waiting for it.
                hosts.breaker("websocket", self._host).failed(now)
            hosts.failed(self._host, self._reason(error), now)

    def _meaning(self, answer: HttpAnswer) -> Meaning:
        """What an answer to the handshake means that is none of a websocket."""
        services = self._services
        return services.hosts.meaning(self._session.url, answer, services.now().wall)

    def _still_welcome(self) -> None:
        """Dialling takes time, in which others may have been told to stop. Raises Lost."""
        left = self._services.hosts.stop_of(self._host).until - self._services.now().monotonic
        if left > 0:
            raise Lost(f"{self._host} said stop meanwhile", retry_after=left / SECOND)

    def _reason(self, error: MarketPrismError) -> str:
        """The error's words, without the host's name before them."""
        return str(error).removeprefix(self._host).lstrip(": ")

    async def _attempt(self) -> None:
        path = urlsplit(self._session.url)
        resource = path.path + (f"?{path.query}" if path.query else "")
        proxy = self._services.proxies.proxy_for(self._session.url)
        stream: trio.abc.Stream | None = None
        try:
            with trio.move_on_after(self._manners.connect_timeout) as patience:
                stream = await self._services.dial(self._session.url, proxy, self._services.tls)
                self._still_welcome()
                async with trio.open_nursery() as self._nursery:
                    connection = BatchingConnection(
                        stream,
                        path.netloc.rpartition("@")[2],
                        resource or "/",
                        self._receive,
                        self._manners.max_message_bytes,
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
        self._services.hosts.reached(self._host, now.monotonic)
        self._services.hosts.stop_of(self._host).passed(self)
        self._services.hosts.breaker("websocket", self._host).succeeded()
        row.connected_since = now.monotonic
        row.connects += 1
        self._heard()
        if self._freshness is not None and self.old is None:
            self._freshness.connected()
        down = {} if row.down_since is None else {"after": lasted(row.down_since, now.monotonic)}
        row.down_since = None
        self._log.info("feed.connected", url=row.url, streams=len(self._session.streams), **down)
        self._act(self._session.opening(now), now)
        self._changed()

    async def _read(self, connection: BatchingConnection) -> None:
        with self._silence:
            await connection.run()
        if self._silence.cancelled_caught:
            raise Quiet(f"nothing came for {self._manners.silence_timeout:g} s")
        raise _closed(connection)

    def _heard(self) -> None:
        """Something came, if only a pong: push the silence deadline forward. Whether a stream says
        enough is judged by its records, not here.
        """
        self._silence.deadline = trio.current_time() + self._manners.silence_timeout
        self._row.last_alive = self._services.now().monotonic

    def _receive(self, frames: list[bytes]) -> None:
        self._opened()
        now = self._services.now()
        self._heard()
        self._row.frames += len(frames)
        self._row.last_message = now.monotonic
        output = self._session.receive(frames, now)
        self._time(output.records, now)
        self._act(output, now)

    def _time(self, records: list[Record], now: Timestamp) -> None:
        """One observation a batch: its first record stands for all."""
        if records and (happened := records[0].timestamp) is not None:
            if not isinstance(records[0], Gap):
                self._services.clock(self._row.exchange).learn(happened, now)
            transit = self._services.board.transit_of(self._row.exchange)
            transit.add(max(0.0, (now.wall - happened) / 1e9), len(records))

    def _act(self, output: Output, now: Timestamp) -> None:
        if output.records:
            self._publish(output.records, now)
        for step in output.actions:
            self._do(step)

    def _publish(self, records: list[Record], now: Timestamp) -> None:
        self._produced()
        self._services.publish(records, now.monotonic, self._row.id)

    def _do(self, step: Action) -> None:
        match step:
            case Send():
                self._enqueue(step)
            case Fetch():
                self._nursery.start_soon(self._fetch, step)
            case Reject():
                self._services.reject(self._row.venue, self._row.id, step, self._samples)
            case Park(stream=(data_type, native_id), reason=reason):
                self._log.warning(
                    "stream.parked", data_type=str(data_type), instrument=native_id, reason=reason
                )
            case Diverged(stream=(_, native_id), levels=levels, sample=sample):
                self._log.warning(
                    "book.diverged", instrument=native_id, levels=levels, sample=sample
                )
            case Rotate(reason=reason):
                self._end_announced(reason)
            case Close(error=error):
                raise error

    def _end_announced(self, reason: str) -> None:
        if self.announced is None:
            self.announced = reason
            self._changed()

    def _enqueue(self, send: Send) -> trio.Event:
        sent = trio.Event()
        try:
            self._say.send_nowait((send, sent))
        except trio.WouldBlock:
            raise Lost("more to send than the connection takes") from None
        return sent

    async def _write(self, connection: BatchingConnection) -> None:
        async for send, sent in self._said:
            await self._turn()
            if send.number is not None:
                # Before it is written: the answer may be read before this task goes on.
                self._session.sent(send.number, self._services.now())
            await connection.send_message(send.payload)
            sent.set()

    async def _turn(self) -> None:
        """Wait until one more message may be sent: an exchange may count pings as well."""
        at = max(trio.current_time(), self._may_say_at)
        self._may_say_at = at + self._manners.message_interval
        await trio.sleep_until(at)

    async def _ping(self, connection: BatchingConnection) -> None:
        while True:
            with trio.move_on_after(PING_EVERY):
                await self._asked.wait()
            self._asked = trio.Event()
            await self._turn()
            sent = self._services.now().monotonic
            with trio.move_on_after(PONG_WITHIN) as patience:
                await connection.ping()
                self._heard()
                for state in self._own().values():
                    state.heard_until = sent
            if patience.cancelled_caught and (self._row.last_message or 0) <= sent:
                # A connection that delivers is alive, whatever became of a pong.
                raise Quiet(f"no answer to a ping for {PONG_WITHIN:g} s")

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
        if self._freshness is None:
            return
        streams, board, venue = self._own(), self._services.board, self._row.venue
        silent = list(self._freshness.judge(streams, now.monotonic))
        tell_silences(self._log, silent)
        for stream, answer, limit in silent:
            data_type, native_id = stream
            board.silences[venue, str(data_type), answer.name.lower()] += 1
            if answer is Remedy.RECONNECT:
                words = f"{data_type} of {native_id} was silent for {limit:.0f} s, renewed too"
                if not self._others_speak(stream, limit, now):
                    raise Quiet(words)
                # They lose nothing where the next connection takes over from this one.
                self._end_announced(words)
            self._act(self._session.renew(stream, now), now)

    def _others_speak(self, silent: Stream, limit: float, now: Timestamp) -> bool:
        """Whether other streams said something in the time for which this one was silent."""
        since = now.monotonic - limit * SECOND
        return any(
            state.last_record is not None and state.last_record > since
            for stream, state in self._own().items()
            if stream != silent
        )

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
            await self._enqueue(send).wait()

        answer = await self._services.rest.fetch(request, say)
        now = self._services.now()
        self._act(self._session.reply(request.tag, answer, now), now)


def _nothing() -> None:
    """Nobody wants to know."""


def _closed(connection: BatchingConnection) -> Lost:
    """The end that both sides know of."""
    closed = connection.closed
    return Lost(f"closed: {closed.code} {closed.reason or closed.name}" if closed else "closed")
