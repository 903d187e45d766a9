"""The NATS sink. Beside its table of errors the only file that imports nats, and the only one that
imports trio_asyncio.

An attempt is one connection: a fresh asyncio loop, a fresh client, no reconnecting of its own.
The client's callbacks only record; everything is concluded on the Trio side.
"""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import structlog
import trio
import trio_asyncio

from marketprism.board.board import Board
from marketprism.errors import SinkLost, SinkRefused, SinkState
from marketprism.outbox.outbox import Outbox
from marketprism.redaction import redact
from marketprism.resume.positions import Positions
from marketprism.settings.nats import NatsConfig
from marketprism.sinks.nats_connection import NatsConnection
from marketprism.sinks.oversize import Oversize
from marketprism.sinks.publishing import Conclusion

log = structlog.get_logger()


class NatsSink:
    """Publishes to a JetStream stream; only its acknowledgement counts as delivered.

    Nothing is lost, stored twice or reordered through any number of attempts, however long an
    outage is: before anything is sent again, the stream is asked what it holds
    (`resume/dedupe.py`). On behalf of `positions` it is asked where its streams stood when this
    process began.
    """

    def __init__(
        self,
        config: NatsConfig,
        servers: Sequence[str],
        board: Board,
        positions: Positions | None = None,
    ) -> None:
        self._config = config
        self._servers = deque(servers)
        self._board = board
        self._positions = positions
        self._out_of_order: set[str] = set()
        self._oversize = Oversize(board)
        self._had_stream = False

    async def run(self, outbox: Outbox) -> None:
        """One attempt: see `Sink`. Each server is tried once, first the one after the last."""
        row = self._board.sink
        row.kind = "nats"
        failure: Conclusion | None = None
        try:
            # What a nursery raises is a group; an attempt ends for one reason, raised below.
            async with trio_asyncio.open_loop() as loop:
                loop.set_exception_handler(self._stray)
                try:
                    await self._attempt(outbox)
                except (SinkLost, SinkRefused) as conclusion:
                    failure = conclusion
        finally:
            row.connected = False
            row.in_flight = 0
        row.reason, row.state = None, SinkState.CONNECTING
        if failure is not None:
            row.reason, row.state = str(failure), failure.state
            row.troubled(trio.current_time())
            raise failure

    async def _attempt(self, outbox: Outbox) -> None:
        failures: list[Conclusion] = []
        for _ in range(len(self._servers)):
            url = self._servers[0]
            connection = NatsConnection.to(
                url, self._config, self._board, self._oversize, self._out_of_order
            )
            try:
                try:
                    stream = await connection.open()
                except (SinkLost, SinkRefused) as failure:
                    failures.append(failure)
                    continue
                if stream.created and self._had_stream:
                    log.error("sink.stream_recreated", stream=self._config.stream.name)
                self._had_stream = True
                await connection.deliver(outbox, self._positions)
                return
            finally:
                connection.drop()
                if not outbox.drained:
                    self._servers.rotate(-1)
        words = "; ".join(dict.fromkeys(map(str, failures)))
        # A server that is away says less than one that answers.
        told = [failure for failure in failures if failure.state is not SinkState.UNREACHABLE]
        state = (told or failures)[0].state
        if all(isinstance(failure, SinkRefused) for failure in failures):
            raise SinkRefused(words, state)
        waits = [
            failure.retry_after or 0.0 for failure in failures if isinstance(failure, SinkLost)
        ]
        raise SinkLost(words, state, retry_after=max(waits))

    def _stray(self, _loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
        """Errors that nobody in asyncio awaited end here, and nothing else with them."""
        self._board.faults["nats"] += 1
        error = context.get("exception") or context.get("message")
        log.warning("sink.stray_error", error=redact(repr(error)))
