"""What is told over time, by looking at the board: rates, gaps, the line of each minute."""

from collections.abc import Callable

import attrs
import structlog
import trio

from marketprism.board.board import Board
from marketprism.clock import Timestamp
from marketprism.observe.rates import Rates, counted
from marketprism.observe.summary import Summary
from marketprism.settings.quantities import LARGEST
from marketprism.settings.supervision import IntensityConfig, SupervisionConfig
from marketprism.supervise import Attempt, Ended, supervise

LOOK_SECONDS = 1.0
"""Between two looks at the board."""

log = structlog.get_logger()


async def watch(
    board: Board,
    rates: Rates,
    interval: float,
    now: Callable[[], Timestamp],
    policy: SupervisionConfig,
    jitter: Callable[[], float],
) -> None:
    """Look at the board once a second; a line for the log each `interval` seconds, 0: none."""
    summary = Summary(board, now())

    async def attempt(_life: Attempt) -> None:
        while True:
            at = now()
            rates.sample(at.monotonic, counted(board))
            board.gap_log.log_complete(board.open_gaps)
            if interval and summary.due_in(interval, at) <= 0:
                well, words = summary.take(at)
                (log.info if well else log.warning)("collector.summarised", **words)
            await trio.sleep(LOOK_SECONDS)

    def ended(end: Ended) -> None:
        log.error("collector.unwatched", reason=end.reason)

    # What only words things must not end what collects them, however often it fails.
    policy = attrs.evolve(policy, intensity=IntensityConfig(restarts=LARGEST))
    await supervise("summary", attempt, policy, ended, jitter)
