"""A window of messages in flight, and what becomes of each. Knows Trio, but no NATS client."""

import math
import sys
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import groupby
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
from marketprism.sinks.jetstream import Acknowledgements, Withheld
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
    """Subjects of which a message was refused or passed over: see `settling`. Outlives this."""
    _window: float = attrs.field(init=False)
    """Messages that may be in flight now. One after a hold-up, so that nothing is overtaken by
    what is stored behind it; more again with each acknowledgement."""
    _held_up: Withheld | None = None
    """Why the stream stores nothing now."""
    _again: int | None = None
    """The first message that must be sent again, once nothing is in flight."""
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

    def __attrs_post_init__(self) -> None:
        self._window = self.config.window

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
        self.out_of_order.update(
            subject for number, (_, subject) in self._sent.items() if number <= self._latest
        )
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
        self._latest = -1
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
            if self._sent:
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
        if self._again is not None:
            self._again = None
            if self._held_up is not None:
                await trio.sleep(_HELD_UP_FOR)
        room = int(self._window) - len(self._sent)
        batch = outbox.take(min(room, self.config.batch))
        large = min(MAX_PAYLOAD_BYTES, max_payload - _HEADERS_BYTES)
        if any(len(message.payload) > large for _, message in batch):
            batch = self._without_oversize(batch, outbox, max_payload)
        if not batch or self.failure is not None:
            await trio.lowlevel.checkpoint()  # after a failure it ends here
            return
        now = trio.current_time()
        if not self._sent:
            self._scope.deadline = now + self.config.ack_timeout
        self._sent.update((sequence, (now, message.subject)) for sequence, message in batch)
        self.board.sink.in_flight = len(self._sent)
        try:
            await send(batch)
        except (SinkLost, SinkRefused) as conclusion:
            self.fail(conclusion)
            await trio.lowlevel.checkpoint()  # here it ends

    def _may_send(self, outbox: Outbox) -> bool:
        if self._again is not None:
            return not self._sent
        return len(self._sent) < int(self._window) and not outbox.spent

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

    def _hold_up(self, why: Withheld) -> None:
        """The stream stores nothing: try it now and then, with one message."""
        self._held_up, self._window = why, 1.0
        row = self.board.sink
        if row.state is not why.state:
            log.error("sink.held_up", target=self.target, state=str(why.state), reason=why.reason)
        row.state, row.reason = why.state, why.reason
        row.troubled(trio.current_time())

    def _go_on(self) -> None:
        """Something was stored."""
        self._held_up, row = None, self.board.sink
        if row.state is not SinkState.CONNECTED:
            after = row.after(trio.current_time())
            log.info("sink.resumed", target=self.target, state=str(row.state), **after)
        row.state, row.reason, row.troubled_at = SinkState.CONNECTED, None, None

    async def _settle(self, outbox: Outbox) -> None:
        """Conclude what was answered, as often as something was.

        After an error answer nothing more is published until all in flight is answered; then it
        goes on from the refused message. What was in flight behind it is refused for the same
        reason, unless the reason went away in between: then it is stored ahead of it, which
        nothing can help. It is counted.
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
            withheld: Withheld | None = None
            overtaken = 0
            for sequence, payload in answers:
                self._latest = max(self._latest, sequence)
                try:
                    verdict = read(payload)
                except SinkLost as conclusion:
                    self.fail(conclusion)
                    continue
                if isinstance(verdict, Withheld) or verdict == "oversize":
                    sent = self._sent.pop(sequence, None)
                    if sent is None:
                        continue
                    subject = sent[1]
                    if isinstance(verdict, Withheld):
                        withheld = verdict
                    else:
                        gap = self._give_up(sequence, outbox)
                        if gap is None:
                            continue
                        subject = gap.subject
                    self.out_of_order.add(subject)
                    if self._again is None:
                        self._again = sequence
                    continue
                message = outbox.acknowledge(sequence)
                if message is None:
                    continue
                started.append(self._sent.pop(sequence)[0])
                stored.append(message)
                row.duplicates += verdict == "duplicate"
                passed = self._again is not None and (withheld or self._held_up) is not None
                overtaken += passed and verdict == "stored"
            if overtaken:
                self.board.faults["sink_overtaken"] += overtaken
                log.warning("sink.overtaken", messages=overtaken)
            self._count(stored, started)
            if self._again is not None and not self._sent:
                outbox.rewind()
            elif not self._sent and self._held_up is None:
                self.out_of_order.clear()
            if withheld is not None:
                self._hold_up(withheld)
            elif started and self._again is None:
                self._go_on()
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
            words = f"{self.target} left out an acknowledgement"
            self.fail(SinkLost(words, SinkState.STALLED))

    def _count(self, stored: Sequence[Message], started: Sequence[float]) -> None:
        now = trio.current_time()
        self.board.sink.in_flight = len(self._sent)
        if self._sent:
            self._scope.deadline = now + self.config.ack_timeout
        else:
            self._scope.deadline = math.inf
        self._window = min(self.config.window, self._window + len(started) / self._window)
        for moment, batch in groupby(started):
            self.board.acknowledgement.add(now - moment, len(list(batch)))
        count_published(self.board, stored)


def _size(message: Message) -> int:
    """What counts for the limits; beyond all of them where no sink takes it."""
    if len(message.payload) > MAX_PAYLOAD_BYTES:
        return sys.maxsize
    return len(message.payload) + _HEADER_WORDS + len(message.msg_id.encode())


def count_published(board: Board, messages: Iterable[Message]) -> None:
    """Put messages that are safe on the board."""
    kinds = Counter((message.instrument, message.data_type) for message in messages)
    for (instrument, data_type), number in kinds.items():
        origin = (instrument.exchange, instrument.market_type, str(data_type))
        board.published[origin] += number
        board.sink.acknowledged += number
