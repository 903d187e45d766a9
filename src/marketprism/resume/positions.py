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

import math
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

import attrs
import structlog
import trio
from trio.lowlevel import ParkingLot

from marketprism.board.board import Board
from marketprism.board.rows import QueueRow
from marketprism.clock import Timestamp
from marketprism.gaps.ids import GapStarts
from marketprism.gaps.telling import encoded
from marketprism.outbox.outbox import Outbox
from marketprism.outbox.peek import healing
from marketprism.records import DataType, Gap, Record
from marketprism.resume import cursors
from marketprism.resume.dedupe import forget
from marketprism.resume.last_message import Earlier, Last, Stored
from marketprism.streams.cursor import Cursor
from marketprism.streams.subscription import Capability, Subscription
from marketprism.wire import Message, subject

CONNECTION = "restart"
"""What a gap names that no feed could tell."""

log = structlog.get_logger()

R = TypeVar("R", bound=Record)
Recovered = Callable[[], Awaitable[Mapping[str, Message]]]


@attrs.define(eq=False)
class _Question:
    """What a venue waits for."""

    subscriptions: Sequence[Subscription]
    answered: bool = False


@attrs.define
class _Late:
    """A stream that began before its position was known."""

    subscription: Subscription
    first: tuple[Record, Message] | None = None
    """Its first record, which waits in the outbox."""
    known: tuple[Cursor, str | None] | None = None
    """Its position and the last stored message's id; found before the first record came."""
    recovered: bool = False
    """That first record is a former process's, which did not learn the position either."""


@attrs.define(eq=False)
class Positions:
    """The positions of the streams of one process."""

    patience: float
    """Seconds for which feeds wait for a sink."""
    now: Callable[[], Timestamp]
    board: Board
    recovered: Recovered
    """The last messages that a former process left behind, by subject: see `Outbox`."""
    capability: Callable[[Subscription], Capability]
    """How its venue has a stream."""
    gaps_first: deque[Outbox] = attrs.field(factory=deque)
    """Gaps to be published before anything else is."""
    _position_unknown: dict[str, _Late] = attrs.field(factory=dict)
    _known: dict[str, Cursor] = attrs.field(factory=dict)
    _asked: deque[_Question] = attrs.field(factory=deque)
    _left: Mapping[str, Message] | None = None
    _gap_pending: list[Message] = attrs.field(factory=list)
    _serving: bool = False
    _moved: ParkingLot = attrs.field(factory=ParkingLot)
    _foreign: bool = False

    # The feeds' side.

    async def read(self, subscriptions: Sequence[Subscription]) -> None:
        """Find the cursors of streams that are about to begin; within `patience` seconds, but a
        sink that is connected is waited for: it has limits of its own.
        """
        if self._left is None:
            self._left = await self.recovered()
        question = _Question(subscriptions)
        self._asked.append(question)
        self._moved.unpark_all()
        deadline = trio.current_time() + self.patience
        while not question.answered:
            with trio.move_on_at(math.inf if self._serving else deadline) as limit:
                await self._moved.park()
            if limit.cancelled_caught:
                self._asked.remove(question)
                self._unanswered(subscriptions)
                break
        known = sum(_subject(subscription) in self._known for subscription in subscriptions)
        log.info(
            "restart.positions_read",
            streams=len(subscriptions),
            known=known,
            told=question.answered,
        )

    def cursor(self, subscription: Subscription) -> Cursor:
        """Where to go on from, handed out once; a fresh cursor where nothing is known."""
        return self._known.pop(_subject(subscription), None) or Cursor()

    # The sink's side.

    async def catch_up(self, last: Last, outbox: Outbox, earlier: Earlier | None = None) -> None:
        """A connection stands, and nothing has been published over it yet: read the positions of
        what began without, and put their gaps `gaps_first`. Raises SinkLost or SinkRefused.
        """
        self._serving = True
        self._moved.unpark_all()
        self._resume(outbox)
        position_unknown = [each for each in self._position_unknown.values() if each.known is None]
        subscriptions = [each.subscription for each in position_unknown]
        stored = await self._ask(subscriptions, last)
        before = await self._before(subscriptions, stored, earlier)
        found = {}
        for each in position_unknown:
            # What a former process left comes after what is to go ahead of it.
            left = {} if each.recovered else self._left or {}
            found.update(self._positions([each.subscription], stored, left, before))
        told = self._told_ahead(position_unknown, stored)
        for key, each in [
            (key, each) for key, each in self._position_unknown.items() if key in found
        ]:
            if each.first is not None and self._is_stored(*each.first, *found[key]):
                # It may be ended here, and is done again then.
                if not await forget(outbox, self.board, key, found[key][1]):
                    outbox.skip(key, each.first[1].msg_id)
                del self._position_unknown[key]
        # From here on at once: what is decided is never decided again.
        gaps: list[Message] = []
        for each in sorted(position_unknown, key=_place):
            key = _subject(each.subscription)
            if key in found and each.first is None:
                each.known = found[key]
                continue
            waited = self._position_unknown.pop(key, None)
            if waited is None or waited.first is None or key not in found or key in told:
                continue
            if (gap := self._gap(found[key][0], waited.first[0], outbox.starts)) is not None:
                gaps += filter(None, [encoded(gap, self.board, outbox.starts)])
        if gaps:
            queue = Outbox(len(gaps), 1 << 30, QueueRow())
            queue.append(gaps)
            queue.close()
            self.gaps_first.append(queue)

    async def ahead_stored(self, outbox: Outbox) -> None:
        """All that was to go `gaps_first` is stored: what it is ahead of is in its place now."""
        open_ones = any(each.first is not None for each in self._position_unknown.values())
        if not self._gap_pending or open_ones or outbox.skips:
            return
        for message in self._gap_pending:
            message.gap_pending = False
        self._gap_pending.clear()
        await outbox.place()

    def _resume(self, outbox: Outbox) -> None:
        """Streams that were late in a former process, and of which it stored nothing, still are."""
        for message in outbox.gap_pending():
            subscription = Subscription(DataType(message.data_type), message.instrument)
            record = self._read(message, self._reader(subscription))
            if record is not None:
                self._position_unknown[message.subject] = _Late(
                    subscription, (record, message), recovered=True
                )
                self._gap_pending.append(message)

    def _told_ahead(
        self, position_unknown: Sequence[_Late], stored: Mapping[str, Stored]
    ) -> set[str]:
        """The subjects of which a former process stored what was to go ahead, or even more.

        All that goes ahead is stored in one order: the last gap of an instrument, where it is one
        of those, proves the others before it.
        """
        recovered = [each for each in position_unknown if each.recovered and each.first is not None]
        latest: dict[str, tuple[int, str]] = {}
        told = set()
        for each in recovered:
            name, key = _gaps_of(each.subscription), _subject(each.subscription)
            gap = self._read(stored[name], cursors.read_gap) if name in stored else None
            at = _place(each)[0]
            ours = (CONNECTION, each.subscription.data_type, at)
            if gap is not None and (gap.connection, gap.affected, gap.ended_at) == ours:
                latest[name] = _place(each)
            record = self._stored(each.subscription, stored)
            if record is not None and record.collected_at >= at:
                told.add(key)
        for each in recovered:
            if _place(each) <= latest.get(_gaps_of(each.subscription), (0, "")):
                told.add(_subject(each.subscription))
        return told

    def _stored(self, subscription: Subscription, stored: Mapping[str, Stored]) -> Record | None:
        message = stored.get(_subject(subscription))
        return None if message is None else self._read(message, self._reader(subscription))

    async def serve(self, last: Last, earlier: Earlier | None = None) -> None:
        """Answer the venues, as long as the connection stands. Raises SinkLost or SinkRefused."""
        while True:
            while not self._asked:
                await self._moved.park()
            question = self._asked[0]
            found = await self._look_up(question.subscriptions, last, earlier)
            self._known.update((key, known) for key, (known, _) in found.items())
            question.answered = True
            self._asked.remove(question)
            self._moved.unpark_all()

    def gone(self) -> None:
        """The connection is over."""
        self._serving = False
        self._moved.unpark_all()

    # The pump's side.

    @property
    def position_unknown(self) -> bool:
        """There are streams whose position or whose first record has not come yet."""
        return bool(self._position_unknown)

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
            position_unknown = self._position_unknown.get(message.subject)
            if position_unknown is not None and position_unknown.known is None:
                if position_unknown.first is None:
                    position_unknown.first, message.gap_pending = (record, message), True
                    self._gap_pending.append(message)
            elif position_unknown is not None and position_unknown.known is not None:
                del self._position_unknown[message.subject]
                known, msg_id = position_unknown.known
                is_stored = self._is_stored(record, message, known, msg_id)
                gap = None if is_stored else self._gap(known, record, starts)
                if gap is not None:
                    passed += filter(None, [encoded(gap, self.board, starts)])
                    message = healing(message, record, gap.started_at)
                elif (doubt := doubts.get(message.subject)) in passed:
                    # Of a connection before its first record, the feed knew nothing to join it to.
                    passed.remove(doubt)
                    message = healing(message, record, 0)
                if is_stored or message.msg_id == msg_id:
                    continue
            passed.append(message)
        return passed

    # What all of them need.

    def _unanswered(self, subscriptions: Sequence[Subscription]) -> None:
        """Nobody said: what a former process left behind does, or the streams are late."""
        found = self._positions(subscriptions, {}, self._left or {}, {})
        for subscription in subscriptions:
            key = _subject(subscription)
            if key in found:
                self._known[key] = found[key][0]
            else:
                self._position_unknown[key] = _Late(subscription)

    async def _look_up(
        self, subscriptions: Sequence[Subscription], last: Last, earlier: Earlier | None
    ) -> dict[str, tuple[Cursor, str | None]]:
        stored = await self._ask(subscriptions, last)
        before = await self._before(subscriptions, stored, earlier)
        return self._positions(subscriptions, stored, self._left or {}, before)

    async def _ask(self, subscriptions: Sequence[Subscription], last: Last) -> Mapping[str, Stored]:
        if not subscriptions:
            return {}
        subjects = [
            name
            for subscription in subscriptions
            for name in (_subject(subscription), _gaps_of(subscription))
        ]
        return await last(list(dict.fromkeys(subjects)))

    def _positions(
        self,
        subscriptions: Sequence[Subscription],
        stored: Mapping[str, Stored],
        left: Mapping[str, Message],
        before: Mapping[str, Sequence[Stored]],
    ) -> dict[str, tuple[Cursor, str | None]]:
        """By subject. What a former process left behind is later than what it stored."""
        found = {}
        for subscription in subscriptions:
            key, latest = _subject(subscription), None
            for message in _told(key, stored, left):
                record = self._read(message, self._reader(subscription))
                if record is not None and (
                    latest is None or record.collected_at >= latest[0].collected_at
                ):
                    latest = record, message.msg_id
            if latest is None:
                continue
            has = self.capability(subscription)
            others = [*before.get(key, ()), *_told(key, stored, left)] if has.unordered else []
            told_before = [self._read(each, self._reader(subscription)) for each in others]
            told = _told(_gaps_of(subscription), stored, left)
            gaps = [self._read(each, cursors.read_gap) for each in told]
            gap = max(filter(None, gaps), key=lambda each: each.collected_at, default=None)
            known = cursors.cursor(*latest, gap, has)
            known.recent = cursors.recent(filter(None, told_before), has) if others else None
            found[key] = known, latest[1]
        return found

    def _read(self, message: Stored | Message, read: Callable[..., R]) -> R | None:
        """None, and said once, where somebody else wrote it."""
        try:
            return read(message.payload, wall=self.now().wall)
        except cursors.Foreign as error:
            if not self._foreign:
                log.warning("restart.foreign_message", subject=message.subject, reason=str(error))
            self._foreign = True
            return None

    def _reader(self, subscription: Subscription) -> Callable[..., Record]:
        return partial(cursors.read, subscription=subscription, has=self.capability(subscription))

    async def _before(
        self,
        subscriptions: Sequence[Subscription],
        stored: Mapping[str, Stored],
        earlier: Earlier | None,
    ) -> Mapping[str, Sequence[Stored]]:
        """What is stored before the last message of those whose ids come in no order."""
        keys = [
            _subject(subscription)
            for subscription in subscriptions
            if self.capability(subscription).unordered
        ]
        messages = [stored[key] for key in keys if key in stored]
        return await earlier(messages) if earlier is not None and messages else {}

    def _is_stored(
        self, record: Record, message: Message, known: Cursor, msg_id: str | None
    ) -> bool:
        """Whether what was read is in the stream, whose last message is this one."""
        if message.msg_id == msg_id:
            return True
        return not isinstance(record, Gap) and cursors.holds(
            known, record, self.capability(_want(record))
        )

    def _gap(self, known: Cursor, record: Record, starts: GapStarts) -> Gap | None:
        has = self.capability(_want(record))
        gap = cursors.gap_before(known, record, has, CONNECTION)
        if gap is not None:
            # Rather one that claims a moment too much than one that begins behind what is missing.
            gap.started_at = starts.earlier((gap.instrument, gap.affected), gap.started_at)
        return gap


def _told(
    name: str, stored: Mapping[str, Stored], left: Mapping[str, Message]
) -> list[Stored | Message]:
    sources: tuple[Mapping[str, Stored | Message], ...] = (stored, left)
    return [source[name] for source in sources if name in source]


def _place(position_unknown: _Late) -> tuple[int, str]:
    """Where its gap comes among those that go ahead."""
    at = 0 if position_unknown.first is None else position_unknown.first[0].collected_at
    return at, _subject(position_unknown.subscription)


def _want(record: Record) -> Subscription:
    return Subscription(DataType(record.data_type), record.instrument)


def _subject(subscription: Subscription) -> str:
    return subject(subscription.data_type, subscription.instrument)


def _gaps_of(subscription: Subscription) -> str:
    return subject(Gap.data_type, subscription.instrument)
