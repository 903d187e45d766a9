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

import ssl
import time
from collections.abc import Callable, Sequence
from functools import partial

import attrs
import httpx
import structlog
import trio
from prometheus_client import CollectorRegistry

from marketprism.assembly import outbox_of, outlet_of, sink_of
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
from marketprism.observe.memory import Bounds, MemoryGuard, Policy, keep_guard
from marketprism.observe.metrics import Metrics
from marketprism.observe.rates import Rates
from marketprism.observe.serving import serve
from marketprism.observe.summary import totals
from marketprism.observe.supervised import keep
from marketprism.observe.watching import watch
from marketprism.outbox.disk import Worker
from marketprism.outbox.outbox import Outbox
from marketprism.pipeline.outlet import Outlet
from marketprism.pipeline.pump import pump, rescue
from marketprism.resume.positions import Positions
from marketprism.settings.settings import Config
from marketprism.settings.supervision import SupervisionConfig
from marketprism.sinks import Sink
from marketprism.sinks.embedded import EmbeddedServer
from marketprism.sinks.supervised import deliver
from marketprism.supervise import conclude, uniform

log = structlog.get_logger()


def clock() -> Timestamp:
    """The one place where the time is read."""
    return Timestamp(time.time_ns(), time.monotonic_ns())


@attrs.define(eq=False)
class Collector:
    """One run of the service, as those who started it see it: an attribute for each thing outside
    that it touches, so that a test may put another in its place, and for what it shows of itself.
    """

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
        ours = self.sink is None or self.worker is not None
        outbox = outbox_of(self.config, self.board, self.now, self.worker, spooled=ours)
        positions = None
        if self.config.sink == "nats":
            patience = self.config.nats.restart_lookup
            positions = Positions(patience, self.now, self.board, outbox.recovered, capability)
        try:
            async with trio.open_nursery() as root:
                interval = self.config.log.summary_interval
                looks = (self.board, self.rates, interval, self.now)
                root.start_soon(watch, *looks, *self._supervision)
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
        tell(event, **more, **totals(self.board))

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
        outlet = outlet_of(self.config.channel, self.board)
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
            hands = (sink, outbox, self.board, *self._supervision)
            delivery.start_soon(deliver, *hands, delivery.cancel_scope)
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
        hosts = Hosts(self.board, self.config.supervision.breaker)
        proxies, tls = Proxies(self.config.proxy), self.tls()
        async with Rest(hosts, proxies, self.now, tls, self.transport) as rest:
            reach = (tls, self.dial, self.jitter)
            services = Services(
                outlet, rest, hosts, proxies, self.board, self.now, *reach, positions=positions
            )
            async with trio.open_nursery() as feeds:
                feeds.start_soon(self._stop, feeds.cancel_scope, grace)
                feeds.start_soon(self._guard, outlet, outbox, services)
                policy = self.config.supervision
                for name, settings in self.config.exchanges.items():
                    venue = VENUES[name](settings)
                    feeds.start_soon(run_venue, venue, settings, services, policy, feeds)
                log.info("collector.started", venues=list(self.config.exchanges))
                self.started.set()

    async def _guard(self, outlet: Outlet, outbox: Outbox, services: Services) -> None:
        bounds = Bounds.of(self.config.memory, self.limit())
        policy = Policy(bounds, self.config.memory)
        guard = MemoryGuard(policy, self.board, outlet, outbox, services.sessions, self.now)
        log.info("memory.bounded", **attrs.asdict(bounds))
        await keep_guard(guard, *self._supervision)

    async def _stop(self, feeds: trio.CancelScope, grace: trio.CancelScope) -> None:
        await self.stopping.wait()
        log.info("collector.stopping", held=self.undelivered)
        grace.deadline = trio.current_time() + self.config.shutdown_grace
        feeds.cancel()

    def _sink(self, servers: Sequence[str], positions: Positions | None) -> Sink:
        if self.sink is not None:
            return self.sink(self.board, positions)
        return sink_of(self.config, servers, self.board, positions, self.stopping.set)

    async def _nats(self, root: trio.Nursery) -> Sequence[str]:
        """The servers to publish to; ours, when none is configured."""
        if self.sink or self.config.sink != "nats" or self.config.nats.servers:
            return self.config.nats.servers
        server = EmbeddedServer(self.config.nats.embedded)
        await root.start(keep, "nats-server", server.run, *self._supervision)
        self.board.sink.embedded = self.board.sink.target = server.url
        self.board.sink.displaced = server.displaced
        return [server.url]

    @property
    def _supervision(self) -> tuple[SupervisionConfig, Callable[[], float]]:
        """How what ends is begun again."""
        return self.config.supervision, self.jitter

    async def _serve(self, root: trio.Nursery) -> None:
        """Health and metrics: bound before anything is collected, kept up until the end."""
        health = Health(self.board, self.now, rates=self.rates)
        metrics = Metrics(self.board, self.now, CollectorRegistry())
        for name, app, config, variables in (
            ("health", health, self.config.http, "HEALTH_CHECK"),
            ("metrics", metrics, self.config.metrics, "METRICS"),
        ):
            address = (config.host, config.port)
            server = partial(serve, app, *address, board=self.board, variables=variables)
            self.ports[name] = await root.start(keep, name, server, *self._supervision)
            log.info(f"{name}.listening", host=config.host, port=self.ports[name])
