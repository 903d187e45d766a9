"""Servers beside the collector: who needs one waits until it is ready; then it is kept."""

from collections.abc import Awaitable, Callable
from typing import Any

import structlog
import trio

from marketprism.settings.supervision import SupervisionConfig
from marketprism.supervise import Attempt, Ended, supervise

log = structlog.get_logger()


async def keep(
    name: str,
    server: Callable[..., Awaitable[None]],
    policy: SupervisionConfig,
    jitter: Callable[[], float],
    task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED,
) -> None:
    """A server that tells when it is ready; after the first time it is supervised."""
    statuses = iter((task_status,))

    async def attempt(_life: Attempt) -> None:
        await server(task_status=next(statuses, trio.TASK_STATUS_IGNORED))

    def ended(end: Ended) -> None:
        log.error("server.lost", server=name, reason=end.reason)

    await supervise(name, attempt, policy, ended, jitter)
