"""Where each stream stood when this process began.

The stream itself tells it: its last message of a subject is the cursor from which the session
goes on, with an open gap (reason `restart`) since. So the rules of a reconnect hold for a restart
too: what joins has no gap, ids say what is missing, nothing is published twice.

Three sides meet here. A venue asks before its feeds start (`read`), and waits for a bounded time.
The sink answers whenever it is connected (`catch_up`, then `serve`). Where no sink came in time,
the feeds begin with fresh cursors, and what is then read of those streams is held back with the
rest until there is a server: by then the position is read first, and the gap is published ahead of
the stream's first message, by the pump (`admitted`) or, where that message waits in the outbox, by
the sink (`gaps_first`). Behind it would be too late: consumers chain what they read. Where the
process ends before that, the message says so itself (`gap_pending`), on disk too, and the next one
sees to it.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence

import structlog

from marketprism.board.board import Board
from marketprism.board.rows import QueueRow
from marketprism.clock import Timestamp
from marketprism.gaps.ids import GapStarts
from marketprism.gaps.telling import encoded
from marketprism.outbox.outbox import Outbox
from marketprism.outbox.peek import healing
from marketprism.records import Gap, Record
from marketprism.resume.dedupe import forget
from marketprism.resume.last_message import Earlier, Last, Stored
from marketprism.resume.lookup import Known, Lookup, subject_of
from marketprism.resume.questions import Questions
from marketprism.resume.without_position import (
    StreamsWithoutPosition,
    StreamWithoutPosition,
    told_ahead,
)
from marketprism.streams.cursor import Cursor
from marketprism.streams.subscription import Capability, Subscription
from marketprism.wire import Message, subject

log = structlog.get_logger()

Recovered = Callable[[], Awaitable[Mapping[str, Message]]]


class Positions:
    """The positions of the streams of one process."""

    def __init__(
        self,
        patience: float,
        now: Callable[[], Timestamp],
        board: Board,
        recovered: Recovered,
        capability: Callable[[Subscription], Capability],
    ) -> None:
        """`patience`: seconds for which feeds wait for a sink. `recovered`: the last messages that
        a former process left behind, by subject: see `Outbox`. `capability`: how its venue has a
        stream.
        """
        self.gaps_first: deque[Outbox] = deque()
        """Gaps to be published before anything else is."""
        self._patience = patience
        self._board = board
        self._recovered = recovered
        self._lookup = Lookup(now, capability)
        self._without_position = StreamsWithoutPosition()
        self._known: dict[str, Cursor] = {}
        self._questions = Questions()
        self._left: Mapping[str, Message] | None = None
        """What a former process left behind; None: not read yet."""

    # The feeds' side.

    async def read(self, subscriptions: Sequence[Subscription]) -> None:
        """Find the cursors of streams that are about to begin; within `patience` seconds, but a
        sink that is connected is waited for: it has limits of its own.
        """
        if self._left is None:
            self._left = await self._recovered()
        told = await self._questions.ask(subscriptions, self._patience)
        if not told:
            self._unanswered(subscriptions)
        known = sum(subject_of(subscription) in self._known for subscription in subscriptions)
        log.info("restart.positions_read", streams=len(subscriptions), known=known, told=told)

    def _unanswered(self, subscriptions: Sequence[Subscription]) -> None:
        """Nobody said: what a former process left behind does, or the streams are late."""
        found = self._lookup.positions(subscriptions, {}, self._left or {}, {})
        for subscription in subscriptions:
            key = subject_of(subscription)
            if key in found:
                self._known[key] = found[key][0]
            else:
                self._without_position.add(subscription)

    def cursor(self, subscription: Subscription) -> Cursor:
        """Where to go on from, handed out once; a fresh cursor where nothing is known."""
        return self._known.pop(subject_of(subscription), None) or Cursor()

    # The sink's side.

    async def catch_up(self, last: Last, outbox: Outbox, earlier: Earlier | None = None) -> None:
        """A connection stands, and nothing has been published over it yet: read the positions of
        what began without, and put their gaps `gaps_first`. Raises SinkLost or SinkRefused.
        """
        self._questions.sink_is(connected=True)
        self._without_position.resume(outbox.gap_pending(), self._lookup)
        late = self._without_position.unresolved()
        subscriptions = [each.subscription for each in late]
        stored = await self._lookup.stored(subscriptions, last)
        before = await self._lookup.before(subscriptions, stored, earlier)
        found = self._found(late, stored, before)
        told = told_ahead(late, stored, self._lookup)
        await self._drop_stored(found, outbox)
        # From here on at once: what is decided is never decided again.
        gaps = self._decided(late, found, told, outbox.starts)
        if gaps:
            queue = Outbox(len(gaps), 1 << 30, QueueRow())
            queue.append(gaps)
            queue.close()
            self.gaps_first.append(queue)

    def _found(
        self,
        late: Sequence[StreamWithoutPosition],
        stored: Mapping[str, Stored],
        before: Mapping[str, Sequence[Stored]],
    ) -> dict[str, Known]:
        """The positions of these, by subject."""
        found = {}
        for each in late:
            # What a former process left comes after what is to go ahead of it.
            left = {} if each.recovered else self._left or {}
            found.update(self._lookup.positions([each.subscription], stored, left, before))
        return found

    async def _drop_stored(self, found: Mapping[str, Known], outbox: Outbox) -> None:
        """Those whose first record is stored already are late no more."""
        streams = self._without_position.streams
        for key, each in [(key, each) for key, each in streams.items() if key in found]:
            if each.first is not None and self._lookup.is_stored(*each.first, found[key]):
                # It may be ended here, and is done again then.
                if not await forget(outbox, self._board, key, found[key][1]):
                    outbox.skip(key, each.first[1].msg_id)
                del streams[key]

    def _decided(
        self,
        late: Sequence[StreamWithoutPosition],
        found: Mapping[str, Known],
        told: set[str],
        starts: GapStarts,
    ) -> list[Message]:
        """The gaps before those that began; those that did not are late until then."""
        gaps: list[Message] = []
        for each in sorted(late, key=lambda each: each.place):
            key = subject_of(each.subscription)
            if key in found and each.first is None:
                each.known = found[key]
                continue
            waited = self._without_position.streams.pop(key, None)
            if waited is None or waited.first is None or key not in found or key in told:
                continue
            gap = self._lookup.gap_before(found[key][0], waited.first[0], starts)
            if gap is not None:
                gaps += filter(None, [encoded(gap, self._board, starts)])
        return gaps

    async def ahead_stored(self, outbox: Outbox) -> None:
        """All that was to go `gaps_first` is stored: what it is ahead of is in its place now."""
        if not outbox.skips and self._without_position.ahead_stored():
            await outbox.place()

    async def serve(self, last: Last, earlier: Earlier | None = None) -> None:
        """Answer the venues, as long as the connection stands. Raises SinkLost or SinkRefused."""
        while True:
            question = await self._questions.next()
            stored = await self._lookup.stored(question.subscriptions, last)
            before = await self._lookup.before(question.subscriptions, stored, earlier)
            left = self._left or {}
            found = self._lookup.positions(question.subscriptions, stored, left, before)
            self._known.update((key, known) for key, (known, _) in found.items())
            self._questions.answered(question)

    def gone(self) -> None:
        """The connection is over."""
        self._questions.sink_is(connected=False)

    # The pump's side.

    @property
    def position_unknown(self) -> bool:
        """There are streams whose position or whose first record has not come yet."""
        return bool(self._without_position.streams)

    def admitted(
        self, records: Sequence[Record], messages: Sequence[Message], starts: GapStarts
    ) -> list[Message]:
        """What is to be published of these: gaps before the first of late streams, and nothing
        that is stored already.
        """
        passed: list[Message] = []
        doubts: dict[str, Message] = {}
        for record, message in zip(records, messages, strict=True):
            if isinstance(record, Gap):
                doubts[subject(record.affected, record.instrument)] = message
            late = self._without_position.streams.get(message.subject)
            if late is not None and late.known is None:
                self._without_position.waits(late, record, message)
            elif late is not None and late.known is not None:
                del self._without_position.streams[message.subject]
                known, msg_id = late.known
                is_stored = self._lookup.is_stored(record, message, late.known)
                gap = None if is_stored else self._lookup.gap_before(known, record, starts)
                if gap is not None:
                    passed += filter(None, [encoded(gap, self._board, starts)])
                    message = healing(message, record, gap.started_at)
                elif (doubt := doubts.get(message.subject)) in passed:
                    # Of a connection before its first record, the feed knew nothing to join it to.
                    passed.remove(doubt)
                    message = healing(message, record, 0)
                if is_stored or message.msg_id == msg_id:
                    continue
            passed.append(message)
        return passed
