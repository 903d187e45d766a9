"""A window of messages in flight, and what becomes of each. Knows Trio, but no NATS client."""

import sys
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import attrs
import structlog
import trio
from trio.lowlevel import ParkingLot

from marketprism.board.board import Board
from marketprism.errors import SinkLost, SinkRefused, SinkState
from marketprism.outbox.outbox import Numbered, Outbox
from marketprism.records import Gap
from marketprism.resume.dedupe import dedupe
from marketprism.resume.last_message import Earlier, Last
from marketprism.resume.positions import Positions
from marketprism.settings.nats import NatsConfig
from marketprism.sinks.in_transit import InTransit
from marketprism.sinks.oversize import Oversize
from marketprism.wire import MAX_PAYLOAD_BYTES, Message

log = structlog.get_logger()

Conclusion = SinkLost | SinkRefused
Send = Callable[[Sequence[Numbered]], Awaitable[None]]
"""Publishes a batch in order; returns when the client has it, not when it is stored."""

Pulse = Callable[[], Awaitable[None]]
"""Asks the server for a sign of life; returns when it gave one."""

_HEADERS_BYTES: Final = 1024
"""More than the headers of any message take: they count for the server's limits."""
_HEADER_WORDS: Final = len("NATS/1.0\r\nNats-Msg-Id: \r\n\r\n")
_HELD_UP_FOR: Final = 1.0
"""Seconds between two tries of a stream that stores nothing."""
_DOUBTFUL: Final = {
    SinkState.STALLED,
    SinkState.UNAUTHORISED,
    SinkState.LIMITED,
    SinkState.STREAM_UNUSABLE,
    SinkState.STREAM_FULL,
}
"""Troubles that a new connection does not disprove, but the next acknowledgement does."""


@attrs.define(eq=False)
class Publishing:
    """All that is published over one connection."""

    config: NatsConfig
    board: Board
    target: str
    """The server, as it is shown."""
    oversize: Oversize = attrs.field(
        default=attrs.Factory(lambda self: Oversize(self.board), takes_self=True)
    )
    failure: Conclusion | None = None
    """Why the connection is of no more use."""
    out_of_order: set[str] = attrs.field(factory=set)
    """See `InTransit`."""
    _in_transit: InTransit = attrs.field(init=False)
    _scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    """Its deadline is when the next acknowledgement is overdue."""
    _answers: list[tuple[int, bytes]] = attrs.field(factory=list)
    """Not looked at yet."""
    _answered: ParkingLot = attrs.field(factory=ParkingLot)
    _settled: ParkingLot = attrs.field(factory=ParkingLot)

    def __attrs_post_init__(self) -> None:
        self._in_transit = InTransit(
            self.config, self.board, self.target, self._give_up, self.out_of_order
        )

    def answer(self, sequence: int, payload: bytes) -> None:
        """Record what the server said of a message; nothing where nobody was there to say it."""
        self._answers.append((sequence, payload))
        self._answered.unpark_all()

    def fail(self, conclusion: Conclusion) -> None:
        """Record why this is over, and end it; the first reason counts."""
        if self.failure is None:
            self.failure = conclusion
        self._scope.cancel()

    async def run(
        self,
        outbox: Outbox,
        send: Send,
        max_payload: int,
        last: Last,
        positions: Positions | None = None,
        pulse: Pulse | None = None,
        earlier: Earlier | None = None,
    ) -> None:
        """Publish until the outbox is drained. Raises SinkLost or SinkRefused.

        `max_payload` is what the server and the stream take in one message, headers and all.
        `last` asks the stream for its last messages: first for what is in doubt, then on behalf of
        `positions`, whose gaps go ahead of all else; for them `earlier` tells what is stored before
        those. While nothing is in flight, `pulse` tells whether the server lives.
        """
        row = self.board.sink
        row.most_bytes = max_payload
        if row.state not in _DOUBTFUL or not self.board.outbox.held:
            row.state, row.reason, row.troubled_at = SinkState.CONNECTED, None, None
        try:
            with self._scope:
                outbox.rewind()
                await dedupe(outbox, last, self.board, self.out_of_order)
                if positions is not None:
                    await positions.catch_up(last, outbox, earlier)
                async with trio.open_nursery() as nursery:
                    if positions is not None:
                        nursery.start_soon(self._serve, positions, last, earlier)
                    if pulse is not None:
                        nursery.start_soon(self._feel, pulse)
                    if positions is not None:
                        await self._go_ahead(positions.gaps_first, send, max_payload, last)
                        await positions.ahead_stored(outbox)
                    await self._drain(outbox, send, max_payload)
                    nursery.cancel_scope.cancel()
        finally:
            if positions is not None:
                positions.gone()
        if outbox.drained:
            return
        self._in_transit.ended()
        if self.failure is not None:
            raise self.failure
        limit = f"{self.config.ack_timeout:g} s"
        raise SinkLost(f"{self.target} acknowledged nothing for {limit}", SinkState.STALLED)

    async def _go_ahead(
        self, queues: deque[Outbox], send: Send, max_payload: int, last: Last
    ) -> None:
        while queues:
            queues[0].rewind()
            try:
                await dedupe(queues[0], last, self.board, self.out_of_order)
            except (SinkLost, SinkRefused) as conclusion:
                self.fail(conclusion)
                await trio.lowlevel.checkpoint()  # here it ends
            await self._drain(queues[0], send, max_payload)
            queues.popleft()

    async def _drain(self, outbox: Outbox, send: Send, max_payload: int) -> None:
        self._in_transit.begin()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._settle, outbox)
            while not outbox.drained:
                await self._publish(outbox, send, max_payload)
            nursery.cancel_scope.cancel()

    async def _serve(self, positions: Positions, last: Last, earlier: Earlier | None) -> None:
        try:
            await positions.serve(last, earlier)
        except (SinkLost, SinkRefused) as conclusion:
            self.fail(conclusion)

    async def _feel(self, pulse: Pulse) -> None:
        """Notice that an idle server has died, as soon as the acknowledgements would show it."""
        while True:
            await trio.sleep(self.config.ack_timeout / 4)
            if self._in_transit:
                continue
            with trio.move_on_after(self.config.ack_timeout) as patience:
                try:
                    await pulse()
                except (SinkLost, SinkRefused) as conclusion:
                    self.fail(conclusion)
            if patience.cancelled_caught:
                self.fail(SinkLost(f"{self.target} does not answer pings", SinkState.STALLED))

    async def _publish(self, outbox: Outbox, send: Send, max_payload: int) -> None:
        """One batch, when there is something to send and room for it in the window."""
        await outbox.available()
        while not self._may_send(outbox):
            if outbox.drained:
                return
            await self._settled.park()
            await outbox.available()
        in_transit = self._in_transit
        if in_transit.again is not None:
            in_transit.again = None
            if in_transit.held_up is not None:
                await trio.sleep(_HELD_UP_FOR)
        batch = outbox.take(min(in_transit.room, self.config.batch))
        large = min(MAX_PAYLOAD_BYTES, max_payload - _HEADERS_BYTES)
        if any(len(message.payload) > large for _, message in batch):
            batch = self._without_oversize(batch, outbox, max_payload)
        if not batch or self.failure is not None:
            await trio.lowlevel.checkpoint()  # after a failure it ends here
            return
        in_transit.send(batch)
        self._scope.deadline = in_transit.overdue
        try:
            await send(batch)
        except (SinkLost, SinkRefused) as conclusion:
            self.fail(conclusion)
            await trio.lowlevel.checkpoint()  # here it ends

    def _may_send(self, outbox: Outbox) -> bool:
        if self._in_transit.again is not None:
            return not self._in_transit
        return self._in_transit.room > 0 and not outbox.spent

    def _without_oversize(
        self, batch: Sequence[Numbered], outbox: Outbox, max_payload: int
    ) -> list[Numbered]:
        """The batch with gaps in the place of what the server would close the connection for,
        again each time it is sent.
        """
        fitting = []
        for sequence, message in batch:
            stays: Message | None = message
            while stays is not None and _size(stays) > max_payload and self.failure is None:
                stays = self._give_up(sequence, outbox)
            if stays is not None:
                fitting.append((sequence, stays))
        return fitting

    def _give_up(self, sequence: int, outbox: Outbox) -> Message | None:
        """The gap that is now in the place of a message; None: nothing is."""

        def instead_of(message: Message) -> Message | None:
            if message.data_type != Gap.data_type:
                return self.oversize.instead_of(message, outbox.starts, outbox.now().monotonic)
            words = f"{self.target} does not even take {len(message.payload)} bytes in a message"
            self.fail(SinkRefused(words, SinkState.STREAM_UNUSABLE))
            return message

        return outbox.replace(sequence, instead_of)

    async def _settle(self, outbox: Outbox) -> None:
        """Conclude what was answered, as often as something was."""
        while True:
            while not self._answers:
                await self._answered.park()
            answers, self._answers = self._answers, []
            try:
                self._in_transit.settle(answers, outbox)
            except SinkLost as conclusion:
                self.fail(conclusion)
            self._scope.deadline = self._in_transit.overdue
            self._settled.unpark_all()


def _size(message: Message) -> int:
    """What counts for the limits; beyond all of them where no sink takes it."""
    if len(message.payload) > MAX_PAYLOAD_BYTES:
        return sys.maxsize
    return len(message.payload) + _HEADER_WORDS + len(message.msg_id.encode())
