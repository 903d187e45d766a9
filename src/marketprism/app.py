"""The supervision tree, and the order of life and death. The file to read first.

    root       embedded nats-server, health, metrics,       told to stop last
    │          the log's summary
    └─ delivery    the sink; the outbox: memory ⇄ disk      ends when all is stored or on disk
       └─ filling      the pump: channel → outbox           ends when the channel is closed
          └─ feeds         a task a venue, a feed a shard,  cancelled first; closes the channel
                           a task a poll, the memory guard

Nesting is the order: what is inside dies first, and what it leaves behind is taken care of by
those outside. A stop cancels the feeds only; the rest ends because there is no more to do, within
the grace period. What the sink cannot take by then, or at once where it is away, goes to disk. A
failure that nobody survives ends all of it at once; then, too, what memory holds goes to disk.
"""

import signal
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import attrs
import httpx
import structlog
import trio
from prometheus_client import CollectorRegistry

from marketprism import signals
from marketprism.board.board import Board
from marketprism.clock import Timestamp
from marketprism.errors import leaves
from marketprism.feeds import VENUES, capability, dialing
from marketprism.feeds.hosts import Hosts
from marketprism.feeds.proxies import Proxies
from marketprism.feeds.rest import Rest
from marketprism.feeds.services import Services
from marketprism.feeds.venue_tasks import run_venue
from marketprism.observe.cgroup import Limit, memory_limit
from marketprism.observe.health import Health
from marketprism.observe.memory import Bounds, MemoryGuard, Policy
from marketprism.observe.metrics import Metrics
from marketprism.observe.rates import Rates, counted
from marketprism.observe.serving import serve
from marketprism.observe.summary import Summary
from marketprism.outbox.disk import Worker
from marketprism.outbox.outbox import Outbox
from marketprism.outbox.spool import Spool
from marketprism.pipeline.outlet import Outlet
from marketprism.pipeline.pump import pump, rescue
from marketprism.resume.positions import Positions
from marketprism.settings.quantities import LARGEST
from marketprism.settings.settings import Config
from marketprism.settings.supervision import IntensityConfig
from marketprism.sinks import Sink
from marketprism.sinks.embedded import EmbeddedServer
from marketprism.sinks.nats import NatsSink
from marketprism.sinks.stdout import StdoutSink
from marketprism.supervise import Attempt, Conclusion, Ended, conclude, supervise, uniform

log = structlog.get_logger()

LOOK_SECONDS = 1.0
"""Between two looks at the board for what is told over time."""
SINK_RETRY_CAP = 2.0
"""Seconds between attempts at the sink, at most: what we read meanwhile is in memory."""


def clock() -> Timestamp:
    """The one place where the time is read."""
    return Timestamp(time.time_ns(), time.monotonic_ns())


@attrs.define(eq=False)
class Collector:
    """One run of the service, as those who started it see it."""

    config: Config
    now: Callable[[], Timestamp] = clock
    jitter: Callable[[], float] = uniform
    """What waits are jittered by."""
    dial: dialing.Dial = dialing.dial
    transport: httpx.AsyncBaseTransport | None = None
    """How the exchanges are reached, by websocket and over REST; None: over the network."""
    tls: Callable[[], ssl.SSLContext] = ssl.create_default_context
    """Whom a host's certificate is believed from."""
    sink: Callable[[Board, Positions | None], Sink] | None = None
    """Makes the sink; None: the configured one."""
    limit: Callable[[], Limit] = memory_limit
    """How much memory there is for us."""
    worker: Worker | None = None
    """Where what blocks on the spool's disk runs; None: in a thread, and no spool for a sink from
    outside."""
    pages: bool = True
    """Whether health and metrics are served."""
    board: Board = attrs.field(factory=Board)
    stopping: trio.Event = attrs.field(factory=trio.Event)
    """Set it to stop in order; the signals do."""
    started: trio.Event = attrs.field(factory=trio.Event)
    """Set when the ports are bound and the feeds begin."""
    ended: trio.Event = attrs.field(factory=trio.Event)
    """Set when all of it has ended in order."""
    ports: dict[str, int] = attrs.field(factory=dict)
    """Where `health` and `metrics` listen."""
    rates: Rates = attrs.field(factory=Rates)
    """How fast records come."""

    def __attrs_post_init__(self) -> None:
        self.board.started = self.now().monotonic

    async def run(self) -> None:
        """Collect until stopped; `undelivered` tells what the grace was too short for.

        Raises:
            StartFailed: a port is taken, the spool is another process's, or the embedded server
                cannot be had.
        """
        outbox = self._outbox()
        positions = None
        if self.config.sink == "nats":
            patience = self.config.nats.restart_lookup
            positions = Positions(patience, self.now, self.board, outbox.recovered, capability)
        try:
            async with trio.open_nursery() as root:
                root.start_soon(self._watch)
                servers = await self._begin(root, outbox)
                if servers is None:
                    await outbox.leave()
                else:
                    await self._collect(servers, outbox, positions, root.cancel_scope)
                root.cancel_scope.cancel()
        except Exception as error:
            self.board.gap_log.close()
            if self.started.is_set():
                self._sum_up("collector.failed", log.critical, reason=conclude(error).reason)
            raise
        finally:
            self.board.gap_log.close()
        self._sum_up("collector.stopped", log.info)
        self.ended.set()

    def _sum_up(self, event: str, tell: Callable[..., object], **more: object) -> None:
        """The last line of the log: what became of all that was read."""
        if self.undelivered:
            log.error("collector.undelivered", messages=self.undelivered)
        board = self.board
        tell(
            event,
            **more,
            received=sum(board.received.values()),
            gaps=sum(board.gaps.values()),
            stored=sum(board.published.values()),
            duplicates=board.sink.duplicates,
            lost=sum(board.lost.values()),
            conflated=sum(board.conflated.values()),
        )

    async def _begin(self, root: trio.Nursery, outbox: Outbox) -> Sequence[str] | None:
        """See to all that must be there before anything is collected; the servers to publish to.
        None: it was stopped meanwhile.
        """
        beginning, heeding = trio.CancelScope(), trio.CancelScope()
        servers = None

        async def heed() -> None:
            with heeding:
                await self.stopping.wait()
                log.info("collector.stopping", held=0)
                outbox.abandon()
                beginning.cancel()

        root.start_soon(heed)
        with beginning:
            await outbox.open()
            found = await self._nats(root)
            if self.pages:
                await self._serve(root)
            servers = found
        heeding.cancel()
        return None if beginning.cancel_called else servers

    async def _collect(
        self,
        servers: Sequence[str],
        outbox: Outbox,
        positions: Positions | None,
        grace: trio.CancelScope,
    ) -> None:
        """From the first feed to where the last message is stored or on disk."""
        channel = self.config.channel
        conflate_at = channel.conflate_at if channel.conflate_books else None
        outlet = Outlet(channel.capacity, self.board, conflate_at)
        try:
            await self._pass_through(servers, outlet, outbox, positions, grace)
        except BaseException as error:
            # Cancelled before the grace is over: something beside us in the root failed. Cancelled
            # from outside, it is to end at once.
            beside = grace.cancel_called and trio.current_time() < grace.deadline
            if beside or not all(isinstance(leaf, trio.Cancelled) for leaf in leaves(error)):
                with trio.move_on_after(self.config.shutdown_grace, shield=True):
                    rescue(outlet.intake, outbox, self.board, self.now, positions)
                    await self._store(outbox)
            raise
        await self._store(outbox)

    async def _store(self, outbox: Outbox) -> None:
        """What memory still holds goes to disk."""
        if spooled := await outbox.store():
            log.warning("collector.spooled", messages=spooled, path=self.board.spool.path)

    async def _pass_through(
        self,
        servers: Sequence[str],
        outlet: Outlet,
        outbox: Outbox,
        positions: Positions | None,
        grace: trio.CancelScope,
    ) -> None:
        """Until all is stored, or has to go to disk."""
        async with trio.open_nursery() as delivery:
            sink = self._sink(servers, positions)
            delivery.start_soon(self._deliver, sink, outbox, delivery)
            delivery.start_soon(outbox.run)
            async with trio.open_nursery() as filling:
                filling.start_soon(pump, outlet.intake, outbox, self.board, self.now, positions)
                async with outlet:
                    try:
                        await self._feed(outlet, outbox, positions, grace)
                    finally:
                        now = self.now()
                        outlet.close(now.wall, now.monotonic)
            if outbox.drained or (outbox.safe and not self.board.sink.connected):
                # The sink may be waiting for a server, and has nothing to wait for.
                delivery.cancel_scope.cancel()
            elif outbox.safe:
                # The other half of the grace is for the disk.
                half = self.config.shutdown_grace / 2
                delivery.cancel_scope.deadline = grace.deadline - half

    @property
    def undelivered(self) -> int:
        """How many records and messages are held and not acknowledged."""
        return self.board.channel.held + self.board.outbox.held

    async def _feed(
        self,
        outlet: Outlet,
        outbox: Outbox,
        positions: Positions | None,
        grace: trio.CancelScope,
    ) -> None:
        """Everything that faces the exchanges, until the stop."""
        hosts, proxies = (
            Hosts(self.board, self.config.supervision.breaker),
            Proxies(self.config.proxy),
        )
        tls = self.tls()
        async with Rest(hosts, proxies, self.now, tls, self.transport) as rest:
            reach = (tls, self.dial, self.jitter)
            services = Services(
                outlet, rest, hosts, proxies, self.board, self.now, *reach, positions=positions
            )
            async with trio.open_nursery() as feeds:
                feeds.start_soon(self._stop, feeds.cancel_scope, grace)
                feeds.start_soon(self._guard, outlet, outbox, services)
                for name, settings in self.config.exchanges.items():
                    venue = VENUES[name](settings)
                    policy = self.config.supervision
                    feeds.start_soon(run_venue, venue, settings, services, policy, feeds)
                log.info("collector.started", venues=list(self.config.exchanges))
                self.started.set()

    async def _guard(self, outlet: Outlet, outbox: Outbox, services: Services) -> None:
        """Keep an eye on the memory for as long as there is something to shed."""
        bounds = Bounds.of(self.config.memory, self.limit())
        policy = Policy(bounds, self.config.memory)
        guard = MemoryGuard(policy, self.board, outlet, outbox, services.sessions, self.now)
        log.info("memory.bounded", **attrs.asdict(bounds))

        async def attempt(_life: Attempt) -> None:
            await guard.run()

        def ended(end: Ended) -> None:
            log.error("memory.unguarded", reason=end.reason)

        await supervise("memory", attempt, self.config.supervision, ended, self.jitter)

    async def _watch(self) -> None:
        """Look at the board once a second: for the rates, the gaps and the line of each minute."""
        board, interval = self.board, self.config.log.summary_interval
        summary = Summary(board, self.now())

        async def attempt(_life: Attempt) -> None:
            while True:
                now = self.now()
                self.rates.sample(now.monotonic, counted(board))
                board.gap_log.log_complete(board.open_gaps)
                if interval and summary.due_in(interval, now) <= 0:
                    well, words = summary.take(now)
                    (log.info if well else log.warning)("collector.summarised", **words)
                await trio.sleep(LOOK_SECONDS)

        def ended(end: Ended) -> None:
            log.error("collector.unwatched", reason=end.reason)

        # What only words things must not end what collects them, however often it fails.
        policy = attrs.evolve(self.config.supervision, intensity=IntensityConfig(restarts=LARGEST))
        await supervise("summary", attempt, policy, ended, self.jitter)

    async def _stop(self, feeds: trio.CancelScope, grace: trio.CancelScope) -> None:
        await self.stopping.wait()
        log.info("collector.stopping", held=self.undelivered)
        grace.deadline = trio.current_time() + self.config.shutdown_grace
        feeds.cancel()

    async def _deliver(self, sink: Sink, outbox: Outbox, delivery: trio.Nursery) -> None:
        """Keep the sink working until the outbox is closed and empty, or on disk when the sink is
        lost then.
        """
        row = self.board.sink
        said: tuple[int, str] | None = None

        async def attempt(_life: Attempt) -> None:
            await sink.run(outbox)
            delivery.cancel_scope.cancel()

        def ended(end: Ended) -> None:
            nonlocal said
            if said != (row.connects, end.reason):
                level = log.error if end.conclusion is Conclusion.REFUSED else log.warning
                level("sink.lost", reason=end.reason, held=self.board.outbox.held)
            said, row.reason = (row.connects, end.reason), end.reason
            if outbox.closed and outbox.safe:
                delivery.cancel_scope.cancel()

        policy = self.config.supervision
        backoff = attrs.evolve(policy.backoff, cap=max(policy.backoff.first, SINK_RETRY_CAP))
        hurried = attrs.evolve(policy, backoff=backoff, refused_retry=SINK_RETRY_CAP)
        await supervise("sink", attempt, hurried, ended, self.jitter)

    def _outbox(self) -> Outbox:
        """With a spool for NATS; what is only printed is not kept for later."""
        config = self.config.outbox
        spool = None
        ours = self.sink is None or self.worker is not None
        if config.spool.enabled and self.config.sink == "nats" and ours:
            limits = (config.spool.max_bytes, config.spool.min_free)
            spool = Spool(config.spool.path, *limits)
        return Outbox(
            config.max_messages,
            config.max_bytes,
            self.board.outbox,
            board=self.board,
            spool=spool,
            now=self.now,
            worker=self.worker,
        )

    def _sink(self, servers: Sequence[str], positions: Positions | None) -> Sink:
        if self.sink is not None:
            return self.sink(self.board, positions)
        if self.config.sink == "stdout":
            return StdoutSink(self.board, reader_gone=self.stopping.set)
        return NatsSink(self.config.nats, servers, self.board, positions)

    async def _nats(self, root: trio.Nursery) -> Sequence[str]:
        """The servers to publish to; ours, when none is configured."""
        if self.sink or self.config.sink != "nats" or self.config.nats.servers:
            return self.config.nats.servers
        server = EmbeddedServer(self.config.nats.embedded)
        await root.start(self._keep, "nats-server", server.run)
        row = self.board.sink
        row.embedded = row.target = server.url
        row.displaced = server.displaced
        return [server.url]

    async def _serve(self, root: trio.Nursery) -> None:
        """Health and metrics: bound before anything is collected, kept up until the end."""
        http, metrics = self.config.http, self.config.metrics
        health_app = Health(self.board, self.now, rates=self.rates)
        metrics_app = Metrics(self.board, self.now, CollectorRegistry())
        for name, app, address, variables in (
            ("health", health_app, (http.host, http.port), "HEALTH_CHECK"),
            ("metrics", metrics_app, (metrics.host, metrics.port), "METRICS"),
        ):
            server = partial(serve, app, *address, board=self.board, variables=variables)
            self.ports[name] = await root.start(self._keep, name, server)
            log.info(f"{name}.listening", host=address[0], port=self.ports[name])

    async def _keep(
        self,
        name: str,
        server: Callable[..., Awaitable[None]],
        task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """A server that tells when it is ready; after the first time it is supervised."""
        statuses = iter((task_status,))

        async def attempt(_life: Attempt) -> None:
            await server(task_status=next(statuses, trio.TASK_STATUS_IGNORED))

        def ended(end: Ended) -> None:
            log.error("server.lost", server=name, reason=end.reason)

        await supervise(name, attempt, self.config.supervision, ended, self.jitter)


async def run_until_signalled(collector: Collector) -> None:
    """Run the collector; SIGTERM or SIGINT stops it in order, a second one at once. So does a
    hang-up, where there is a terminal, but it never cuts a stop short: a terminal that is closed
    often sends more than one.
    """
    with trio.open_signal_receiver(*signals.asking()) as received:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_heed, received, collector.stopping, nursery.cancel_scope)
            await collector.run()
            nursery.cancel_scope.cancel()


async def _heed(
    received: AsyncIterator[int], stopping: trio.Event, everything: trio.CancelScope
) -> None:
    urged = False
    async for number in received:
        name = signal.Signals(number).name
        if urged and number != signal.SIGHUP:
            log.warning("collector.interrupted", signal=name)
            everything.cancel()
        urged = urged or number != signal.SIGHUP
        log.info("collector.signalled", signal=name)
        stopping.set()
