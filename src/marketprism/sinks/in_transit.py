"""What was sent over one connection and is not answered, and what becomes of it. It knows Trio's
clock, and never waits.
"""

import math
from collections.abc import Callable, Sequence
from itertools import groupby

import attrs
import structlog
import trio

from marketprism.board.board import Board
from marketprism.errors import SinkLost, SinkState
from marketprism.outbox.outbox import Numbered, Outbox
from marketprism.settings.nats import NatsConfig
from marketprism.sinks.delivered import count_published
from marketprism.sinks.jetstream import Acknowledgements, Verdict, Withheld
from marketprism.wire import Message

log = structlog.get_logger()

GiveUp = Callable[[int, Outbox], Message | None]
"""Puts a gap in the place of a message that the stream does not take; None: nothing."""


@attrs.define
class _Heard:
    """What some answers say."""

    stored: list[Message] = attrs.field(factory=list)
    started: list[float] = attrs.field(factory=list)
    """When each of those was sent."""
    withheld: Withheld | None = None
    overtaken: int = 0
    """Stored ahead of one that was refused before."""


@attrs.define(eq=False)
class InTransit:
    """A window of messages, each of which is answered for itself.

    After an error answer nothing more is published until all in flight is answered; then it goes on
    from the refused message. What was in flight behind it is refused for the same reason, unless
    the reason went away in between: then it is stored ahead of it, which nothing can help. It is
    counted.

    It has as many attributes as there are things to know of a window.
    """

    config: NatsConfig
    board: Board
    target: str
    """The server, as it is shown."""
    give_up: GiveUp
    out_of_order: set[str] = attrs.field(factory=set)
    """Subjects of which a message was refused or passed over: their last message in the stream
    proves nothing (`resume/dedupe.py`). Outlives this."""
    again: int | None = None
    """The first message that must be sent again, once nothing is in flight."""
    held_up: Withheld | None = None
    """Why the stream stores nothing now."""
    overdue: float = math.inf
    """When the next acknowledgement is, by Trio's clock."""
    _window: float = attrs.field(init=False)
    """Messages that may be in flight now. One after a hold-up, so that nothing is overtaken by
    what is stored behind it; more again with each acknowledgement."""
    _sent: dict[int, tuple[float, str]] = attrs.field(factory=dict)
    """When each message in flight was handed over, and its subject."""
    _latest: int = -1
    """The latest message of which the server said something."""
    _read: Callable[[bytes], Verdict] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._window = self.config.window
        self._read = Acknowledgements(self.config.stream.name).read

    def __bool__(self) -> bool:
        """Something is in flight."""
        return bool(self._sent)

    @property
    def room(self) -> int:
        """How many messages may be sent now."""
        return int(self._window) - len(self._sent)

    def begin(self) -> None:
        """Another outbox is sent, whose numbers begin anew."""
        self._latest = -1

    def send(self, batch: Sequence[Numbered]) -> None:
        """These are sent now."""
        now = trio.current_time()
        if not self._sent:
            self.overdue = now + self.config.ack_timeout
        self._sent.update((sequence, (now, message.subject)) for sequence, message in batch)
        self.board.sink.in_flight = len(self._sent)

    def ended(self) -> None:
        """No answer comes any more: of what was passed over nothing is proven."""
        self.out_of_order.update(
            subject for number, (_, subject) in self._sent.items() if number <= self._latest
        )

    def settle(self, answers: Sequence[tuple[int, bytes]], outbox: Outbox) -> None:
        """Conclude from answers, in the order in which they came. Raises SinkLost where the
        connection is of no more use; what could be concluded is.
        """
        heard, failure = _Heard(), None
        for sequence, payload in answers:
            self._latest = max(self._latest, sequence)
            try:
                self._answered(sequence, self._read(payload), heard, outbox)
            except SinkLost as conclusion:
                failure = failure or conclusion
        self._go_on(heard, outbox)
        if failure is not None:
            raise failure
        self._see_to_order(answers)

    def _answered(self, sequence: int, verdict: Verdict, heard: _Heard, outbox: Outbox) -> None:
        if isinstance(verdict, Withheld) or verdict == "oversize":
            self._refused(sequence, verdict, heard, outbox)
            return
        message = outbox.acknowledge(sequence)
        if message is None:
            return
        heard.started.append(self._sent.pop(sequence)[0])
        heard.stored.append(message)
        self.board.sink.duplicates += verdict == "duplicate"
        passed = self.again is not None and (heard.withheld or self.held_up) is not None
        heard.overtaken += passed and verdict == "stored"

    def _refused(self, sequence: int, verdict: Verdict, heard: _Heard, outbox: Outbox) -> None:
        sent = self._sent.pop(sequence, None)
        if sent is None:
            return
        subject = sent[1]
        if isinstance(verdict, Withheld):
            heard.withheld = verdict
        else:
            gap = self.give_up(sequence, outbox)
            if gap is None:
                return
            subject = gap.subject
        self.out_of_order.add(subject)
        if self.again is None:
            self.again = sequence

    def _go_on(self, heard: _Heard, outbox: Outbox) -> None:
        """What follows from all of them together."""
        if heard.overtaken:
            self.board.faults["sink_overtaken"] += heard.overtaken
            log.warning("sink.overtaken", messages=heard.overtaken)
        self._count(heard)
        if self.again is not None and not self._sent:
            outbox.rewind()
        elif not self._sent and self.held_up is None:
            self.out_of_order.clear()
        if heard.withheld is not None:
            self._hold_up(heard.withheld)
        elif heard.started and self.again is None:
            self._resume()

    def _hold_up(self, why: Withheld) -> None:
        """The stream stores nothing: try it now and then, with one message."""
        self.held_up, self._window = why, 1.0
        row = self.board.sink
        if row.state is not why.state:
            log.error("sink.held_up", target=self.target, state=str(why.state), reason=why.reason)
        row.state, row.reason = why.state, why.reason
        row.troubled(trio.current_time())

    def _resume(self) -> None:
        """Something was stored."""
        self.held_up, row = None, self.board.sink
        if row.state is not SinkState.CONNECTED:
            after = row.after(trio.current_time())
            log.info("sink.resumed", target=self.target, state=str(row.state), **after)
        row.state, row.reason, row.troubled_at = SinkState.CONNECTED, None, None

    def _see_to_order(self, answers: Sequence[tuple[int, bytes]]) -> None:
        """Answers come in the order of what they answer. One that was passed over for so long will
        not come; its message is sent again while the server still knows its id.
        """
        oldest = next(iter(self._sent), math.inf)
        latest = max(sequence for sequence, _ in answers)
        overdue = trio.current_time() - self.config.ack_timeout
        if oldest < latest and self._sent[round(oldest)][0] <= overdue:
            words = f"{self.target} left out an acknowledgement"
            raise SinkLost(words, SinkState.STALLED)

    def _count(self, heard: _Heard) -> None:
        now, started = trio.current_time(), heard.started
        self.board.sink.in_flight = len(self._sent)
        self.overdue = now + self.config.ack_timeout if self._sent else math.inf
        self._window = min(self.config.window, self._window + len(started) / self._window)
        for moment, batch in groupby(started):
            self.board.acknowledgement.add(now - moment, len(list(batch)))
        count_published(self.board, heard.stored)
