"""How signals end a run: the first in order, a second one at once."""

import signal
from collections.abc import AsyncIterator, Awaitable, Callable

import structlog
import trio

from marketprism import signals

log = structlog.get_logger()


async def run_until_signalled(run: Callable[[], Awaitable[None]], stopping: trio.Event) -> None:
    """Run; SIGTERM or SIGINT sets `stopping`, which ends it in order, a second one ends it at once.
    So does a hang-up, where there is a terminal, but it never cuts a stop short: a terminal that is
    closed often sends more than one.
    """
    with trio.open_signal_receiver(*signals.asking()) as received:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_heed, received, stopping, nursery.cancel_scope)
            await run()
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
