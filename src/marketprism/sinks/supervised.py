"""Keeping a sink at work: whenever it is lost, it is tried again, and soon."""

from collections.abc import Callable

import attrs
import structlog
import trio

from marketprism.board.board import Board
from marketprism.outbox.outbox import Outbox
from marketprism.settings.supervision import SupervisionConfig
from marketprism.sinks import Sink
from marketprism.supervise import Attempt, Conclusion, Ended, supervise

SINK_RETRY_CAP = 2.0
"""Seconds between attempts at the sink, at most: what we read meanwhile is in memory."""

log = structlog.get_logger()


async def deliver(
    sink: Sink,
    outbox: Outbox,
    board: Board,
    policy: SupervisionConfig,
    jitter: Callable[[], float],
    delivery: trio.CancelScope,
) -> None:
    """Keep the sink working; `delivery` is cancelled once the outbox is closed and empty, or on
    disk when the sink is lost then.
    """
    row = board.sink
    said: tuple[int, str] | None = None

    async def attempt(_life: Attempt) -> None:
        await sink.run(outbox)
        delivery.cancel()

    def ended(end: Ended) -> None:
        nonlocal said
        if said != (row.connects, end.reason):
            level = log.error if end.conclusion is Conclusion.REFUSED else log.warning
            level("sink.lost", reason=end.reason, held=board.outbox.held)
        said, row.reason = (row.connects, end.reason), end.reason
        if outbox.closed and outbox.safe:
            delivery.cancel()

    backoff = attrs.evolve(policy.backoff, cap=max(policy.backoff.first, SINK_RETRY_CAP))
    hurried = attrs.evolve(policy, backoff=backoff, refused_retry=SINK_RETRY_CAP)
    await supervise("sink", attempt, hurried, ended, jitter)
