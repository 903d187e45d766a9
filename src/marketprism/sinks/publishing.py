"""A window of messages in flight, and what becomes of each. Knows Trio, but no NATS client."""

import math
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import groupby

import attrs
import structlog
import trio
from trio.lowlevel import ParkingLot

from marketprism.errors import Refused, SinkLost
from marketprism.restart import Positions
from marketprism.settings import NatsConfig
from marketprism.sinks.jetstream import Acknowledgements
from marketprism.sinks.last import Last
from marketprism.sinks.outbox import Numbered, Outbox
from marketprism.sinks.settling import settle
from marketprism.status import Board
from marketprism.wire import MAX_PAYLOAD_BYTES, Message

log = structlog.get_logger()

Conclusion = SinkLost | Refused
Send = Callable[[Sequence[Numbered]], Awaitable[None]]
"""Publishes a batch in order; returns when the client has it, not when it is stored."""

_HEADERS_BYTES = 1024
"""More than the headers of any message take: they count for the server's limit."""


@attrs.define(eq=False)
class Publishing:
    """All that is published over one connection."""

    config: NatsConfig
    board: Board
    target: str
    """The server, as it is shown."""
    failure: Conclusion | None = None
    """Why the connection is of no more use."""
    out_of_order: set[str] = attrs.field(factory=set)
    """Subjects of which a message was refused or passed over: see `settling`. Outlives this."""
    _scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    """Its deadline is when the next acknowledgement is overdue."""
    _sent: dict[int, tuple[float, str]] = attrs.field(factory=dict)
    """When each message in flight was handed over, and its subject."""
    _latest: int = -1
    """The latest message of which the server said something."""
    _answers: list[tuple[int, bytes]] = attrs.field(factory=list)
    """Not looked at yet."""
    _answered: ParkingLot = attrs.field(factory=ParkingLot)
    _settled: ParkingLot = attrs.field(factory=ParkingLot)

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
    ) -> None:
        """Publish until the outbox is drained. Raises SinkLost or Refused.

        `max_payload` is what the server takes in one message, headers and all. `last` asks the
        stream for its last messages: first for what is in doubt, then on behalf of `positions`,
        whose gaps go ahead of all else.
        """
        largest = min(MAX_PAYLOAD_BYTES, max_payload - _HEADERS_BYTES)
        try:
            with self._scope:
                outbox.rewind()
                await settle(outbox, last, self.board, self.out_of_order)
                if positions is not None:
                    await positions.catch_up(last, outbox)
                    await self._go_ahead(positions.ahead, send, largest, last)
                await self._drain(outbox, send, largest, last, positions)
        finally:
            if positions is not None:
                positions.gone()
        if outbox.drained:
            return
        self.out_of_order.update(
            subject for number, (_, subject) in self._sent.items() if number <= self._latest
        )
        if self.failure is not None:
            raise self.failure
        limit = f"{self.config.ack_timeout:g} s"
        raise SinkLost(f"{self.target} acknowledged nothing for {limit}")

    async def _go_ahead(self, queues: deque[Outbox], send: Send, largest: int, last: Last) -> None:
        while queues:
            queues[0].rewind()
            await settle(queues[0], last, self.board, self.out_of_order)
            await self._drain(queues[0], send, largest)
            queues.popleft()

    async def _drain(
        self,
        outbox: Outbox,
        send: Send,
        largest: int,
        last: Last | None = None,
        positions: Positions | None = None,
    ) -> None:
        self._latest = -1
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._settle, outbox)
            if positions is not None and last is not None:
                nursery.start_soon(self._serve, positions, last)
            while not outbox.drained:
                await self._publish(outbox, send, largest)
            nursery.cancel_scope.cancel()

    async def _serve(self, positions: Positions, last: Last) -> None:
        try:
            await positions.serve(last)
        except (SinkLost, Refused) as conclusion:
            self.fail(conclusion)

    async def _publish(self, outbox: Outbox, send: Send, largest: int) -> None:
        """One batch, when there is something to send and room for it in the window."""
        while (room := self.config.window - len(self._sent)) <= 0 or outbox.spent:
            await self._settled.park()
            if outbox.drained:
                return
        await outbox.available()
        batch = outbox.take(min(room, self.config.batch))
        if any(len(message.payload) > largest for _, message in batch):
            batch = self._without_oversize(batch, outbox, largest)
        if not batch:
            return
        now = trio.current_time()
        if not self._sent:
            self._scope.deadline = now + self.config.ack_timeout
        self._sent.update((sequence, (now, message.subject)) for sequence, message in batch)
        self.board.sink.in_flight = len(self._sent)
        try:
            await send(batch)
        except (SinkLost, Refused) as conclusion:
            self.fail(conclusion)
            await trio.lowlevel.checkpoint()  # here it ends

    def _without_oversize(
        self, batch: Sequence[Numbered], outbox: Outbox, largest: int
    ) -> list[Numbered]:
        # The server would close the connection, again each time it is sent.
        for sequence, message in batch:
            if len(message.payload) > largest:
                outbox.acknowledge(sequence)
                self._give_up(message)
        return [numbered for numbered in batch if len(numbered[1].payload) <= largest]

    def _give_up(self, message: Message) -> None:
        self.board.sink.oversize += 1
        log.error("sink.oversize", subject=message.subject, bytes=len(message.payload))

    async def _settle(self, outbox: Outbox) -> None:
        """Conclude what was answered, as often as something was.

        After an error answer nothing more is published. What was in flight behind the refused
        message may be stored by then: it is ahead of it in the stream, and nothing can help that.
        """
        row = self.board.sink
        stream = self.config.stream.name
        read = Acknowledgements(stream).read
        while True:
            while not self._answers:
                await self._answered.park()
            answers, self._answers = self._answers, []
            stored: list[Message] = []
            started: list[float] = []
            for sequence, payload in answers:
                self._latest = max(self._latest, sequence)
                try:
                    verdict = read(payload)
                except SinkLost as conclusion:
                    self.fail(conclusion)
                    continue
                message = outbox.acknowledge(sequence)
                if message is None:
                    continue
                started.append(self._sent.pop(sequence)[0])
                if verdict == "oversize":
                    self._give_up(message)
                else:
                    stored.append(message)
                    row.duplicates += verdict == "duplicate"
            if not self._sent:
                self.out_of_order.clear()
            self._count(stored, started)
            self._see_to_order(answers)
            self._settled.unpark_all()

    def _see_to_order(self, answers: Sequence[tuple[int, bytes]]) -> None:
        """Answers come in the order of what they answer. One that was passed over for so long will
        not come; its message is sent again while the server still knows its id.
        """
        oldest = next(iter(self._sent), math.inf)
        latest = max(sequence for sequence, _ in answers)
        overdue = trio.current_time() - self.config.ack_timeout
        if oldest < latest and self._sent[round(oldest)][0] <= overdue:
            self.fail(SinkLost(f"{self.target} left out an acknowledgement"))

    def _count(self, stored: Sequence[Message], started: Sequence[float]) -> None:
        now = trio.current_time()
        self.board.sink.in_flight = len(self._sent)
        if started:
            self._scope.deadline = now + self.config.ack_timeout if self._sent else math.inf
        for moment, batch in groupby(started):
            self.board.acknowledgement.add(now - moment, len(list(batch)))
        count_published(self.board, stored)


def count_published(board: Board, messages: Iterable[Message]) -> None:
    """Put messages that are safe on the board."""
    kinds = Counter((message.instrument, message.data_type) for message in messages)
    for (instrument, data_type), number in kinds.items():
        origin = (instrument.exchange, instrument.market_type, str(data_type))
        board.published[origin] += number
        board.sink.acknowledged += number
