"""The supervision tree, and the order of life and death. The file to read first.

    root       embedded nats-server, health, metrics          told to stop last
    └─ delivery    channel → outbox → sink                    ends when all it was given is stored
       └─ feeds        one task a venue, one a connection     cancelled first; closes the channel

Nesting is the order: what is inside dies first, and what it leaves behind is taken care of by
those outside. A stop cancels the feeds only; the rest ends because there is no more to do, within
the grace period.
"""

import signal
import ssl
import time
from collections.abc import Callable, Sequence
from functools import partial

import attrs
import structlog
import trio
from prometheus_client import CollectorRegistry

from marketprism.delivery import pump
from marketprism.errors import ConfigError
from marketprism.feeds import VENUES
from marketprism.feeds.connection import World
from marketprism.feeds.hosts import Hosts
from marketprism.feeds.proxies import Proxies
from marketprism.feeds.rest import Rest
from marketprism.feeds.venue import Moment
from marketprism.health import Health
from marketprism.metrics import Metrics
from marketprism.outlet import Outlet
from marketprism.serving import serve
from marketprism.settings import Config
from marketprism.sinks import Sink
from marketprism.sinks.outbox import Outbox
from marketprism.status import Board
from marketprism.supervise import Attempt, Conclusion, Ended, supervise
from marketprism.venues import run_venue

log = structlog.get_logger()


def clock() -> Moment:
    """The one place where the time is read."""
    return Moment(time.time_ns(), time.monotonic_ns())


@attrs.define(eq=False)
class Collector:
    """One run of the service, as those who started it see it."""

    config: Config
    now: Callable[[], Moment] = clock
    board: Board = attrs.field(factory=Board)
    stopping: trio.Event = attrs.field(factory=trio.Event)
    """Set it to stop in order; the signals do."""

    def __attrs_post_init__(self) -> None:
        self.board.started = self.now().monotonic

    async def run(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> int:
        """Collect until stopped; how many messages could not be delivered within the grace.

        Started when the ports are bound and the feeds begin.

        Raises:
            StartFailed: a port is taken, or the embedded server cannot be had.
        """
        outbox = Outbox(
            self.config.outbox.max_messages, self.config.outbox.max_bytes, self.board.outbox
        )
        async with trio.open_nursery() as root:
            servers = await self._nats(root)
            await self._serve(root)
            async with trio.open_nursery() as delivery:
                outlet = Outlet(self.config.channel.capacity, self.board)
                delivery.start_soon(pump, outlet.intake, outbox, self.board, self.now)
                delivery.start_soon(self._deliver, self._sink(servers), outbox)
                async with outlet:
                    await self._feed(outlet, root.cancel_scope, task_status)
            root.cancel_scope.cancel()
        left = self.board.outbox.held
        if left:
            log.error("collector.undelivered", messages=left)
        log.info("collector.stopped", undelivered=left)
        return left

    async def _feed(
        self, outlet: Outlet, grace: trio.CancelScope, task_status: trio.TaskStatus[None]
    ) -> None:
        """Everything that faces the exchanges, until the stop."""
        hosts, proxies = Hosts(self.board), Proxies(self.config.proxy)
        tls = ssl.create_default_context()
        async with Rest(hosts, proxies, self.now, tls) as rest:
            world = World(outlet, rest, hosts, proxies, self.board, self.now, tls)
            async with trio.open_nursery() as feeds:
                feeds.start_soon(self._stop, feeds.cancel_scope, grace)
                for name, settings in self.config.exchanges.items():
                    venue = VENUES[name](settings)
                    policy = self.config.supervision
                    feeds.start_soon(run_venue, venue, settings, world, policy, feeds)
                log.info("collector.started", venues=list(self.config.exchanges))
                task_status.started()
        now = self.now()
        outlet.close(now.wall, now.monotonic)

    async def _stop(self, feeds: trio.CancelScope, grace: trio.CancelScope) -> None:
        await self.stopping.wait()
        log.info("collector.stopping", held=self.board.outbox.held + self.board.channel.held)
        grace.deadline = trio.current_time() + self.config.shutdown_grace
        feeds.cancel()

    async def _deliver(self, sink: Sink, outbox: Outbox) -> None:
        """Keep the sink working until the outbox is closed and empty."""
        row = self.board.sink

        async def attempt(_life: Attempt) -> None:
            await sink.run(outbox)

        def ended(end: Ended) -> None:
            if row.reason != end.reason:
                level = log.error if end.conclusion is Conclusion.REFUSED else log.warning
                level("sink.lost", reason=end.reason, held=self.board.outbox.held)
            row.reason = end.reason

        policy = self.config.supervision
        hurried = attrs.evolve(
            policy,
            backoff=attrs.evolve(policy.backoff, cap=min(policy.backoff.cap, SINK_CAP_SECONDS)),
            refused_retry=min(policy.refused_retry, SINK_CAP_SECONDS),
        )
        await supervise("sink", attempt, hurried, ended)

    def _sink(self, servers: Sequence[str]) -> Sink:
        if self.config.sink == "stdout":
            from marketprism.sinks.stdout import StdoutSink

            return StdoutSink(self.board)
        # Imported here: it costs a tenth of a second that a stdout run need not wait.
        from marketprism.sinks.nats import NatsSink

        return NatsSink(self.config.nats, servers, self.board)

    async def _nats(self, root: trio.Nursery) -> Sequence[str]:
        """The servers to publish to; ours, when none is configured."""
        if self.config.sink != "nats" or self.config.nats.servers:
            return self.config.nats.servers
        raise NotImplementedError
