"""What the stream, and what a former process left behind, tell of where a subject stood."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

import structlog

from marketprism.clock import Timestamp
from marketprism.gaps.ids import GapStarts
from marketprism.records import DataType, Gap, Record
from marketprism.resume import cursors
from marketprism.resume.last_message import Earlier, Last, Stored
from marketprism.streams.cursor import Cursor
from marketprism.streams.subscription import Capability, Subscription
from marketprism.wire import Message, subject

CONNECTION = "restart"
"""What a gap names that no feed could tell."""

log = structlog.get_logger()

R = TypeVar("R", bound=Record)
Known = tuple[Cursor, str | None]
"""A position, and the id of the last stored message."""


class Lookup:
    """From messages to positions, and what these prove of what is read later."""

    def __init__(
        self, now: Callable[[], Timestamp], capability: Callable[[Subscription], Capability]
    ) -> None:
        self._now = now
        self._capability = capability
        self._foreign = False

    async def stored(
        self, subscriptions: Sequence[Subscription], last: Last
    ) -> Mapping[str, Stored]:
        """The last messages of these, and of their gaps."""
        if not subscriptions:
            return {}
        subjects = [
            name
            for subscription in subscriptions
            for name in (subject_of(subscription), gaps_of(subscription))
        ]
        return await last(list(dict.fromkeys(subjects)))

    async def before(
        self,
        subscriptions: Sequence[Subscription],
        stored: Mapping[str, Stored],
        earlier: Earlier | None,
    ) -> Mapping[str, Sequence[Stored]]:
        """What is stored before the last message of those whose ids come in no order."""
        keys = [
            subject_of(subscription)
            for subscription in subscriptions
            if self._capability(subscription).unordered
        ]
        messages = [stored[key] for key in keys if key in stored]
        return await earlier(messages) if earlier is not None and messages else {}

    def positions(
        self,
        subscriptions: Sequence[Subscription],
        stored: Mapping[str, Stored],
        left: Mapping[str, Message],
        before: Mapping[str, Sequence[Stored]],
    ) -> dict[str, Known]:
        """By subject. What a former process `left` behind is later than what it stored."""
        found = {}
        for subscription in subscriptions:
            key, latest = subject_of(subscription), None
            for message in _told(key, stored, left):
                record = self.record(subscription, message)
                if record is not None and (
                    latest is None or record.collected_at >= latest[0].collected_at
                ):
                    latest = record, message.msg_id
            if latest is None:
                continue
            has = self._capability(subscription)
            others = [*before.get(key, ()), *_told(key, stored, left)] if has.unordered else []
            told_before = [self.record(subscription, each) for each in others]
            gaps = [self.gap(each) for each in _told(gaps_of(subscription), stored, left)]
            gap = max(filter(None, gaps), key=lambda each: each.collected_at, default=None)
            known = cursors.cursor(*latest, gap, has)
            known.recent = cursors.recent(filter(None, told_before), has) if others else None
            found[key] = known, latest[1]
        return found

    def record(self, subscription: Subscription, message: Stored | Message) -> Record | None:
        """What a message of that stream holds; None where somebody else wrote it."""
        has = self._capability(subscription)
        return self._read(message, partial(cursors.read, subscription=subscription, has=has))

    def gap(self, message: Stored | Message) -> Gap | None:
        """What a gap's message holds; None where somebody else wrote it."""
        return self._read(message, cursors.read_gap)

    def _read(self, message: Stored | Message, read: Callable[..., R]) -> R | None:
        """None, and said once, where somebody else wrote it."""
        try:
            return read(message.payload, wall=self._now().wall)
        except cursors.Foreign as error:
            if not self._foreign:
                log.warning("restart.foreign_message", subject=message.subject, reason=str(error))
            self._foreign = True
            return None

    def is_stored(self, record: Record, message: Message, known: Known) -> bool:
        """Whether what was read is in the stream, whose last message is this one."""
        cursor, msg_id = known
        if message.msg_id == msg_id:
            return True
        return not isinstance(record, Gap) and cursors.holds(
            cursor, record, self._capability(_subscription(record))
        )

    def gap_before(self, known: Cursor, record: Record, starts: GapStarts) -> Gap | None:
        """What lies between a position and the first record that was read without it."""
        has = self._capability(_subscription(record))
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


def _subscription(record: Record) -> Subscription:
    return Subscription(DataType(record.data_type), record.instrument)


def subject_of(subscription: Subscription) -> str:
    """Where its records are published."""
    return subject(subscription.data_type, subscription.instrument)


def gaps_of(subscription: Subscription) -> str:
    """Where its gaps are published."""
    return subject(Gap.data_type, subscription.instrument)
