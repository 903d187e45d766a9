"""Streams that began before their position was known, and what waits for it."""

from collections.abc import Iterable, Mapping, Sequence

import attrs

from marketprism.records import DataType, Record
from marketprism.resume.last_message import Stored
from marketprism.resume.lookup import CONNECTION, Known, Lookup, gaps_of, subject_of
from marketprism.streams.subscription import Subscription
from marketprism.wire import Message


@attrs.define
class StreamWithoutPosition:
    """One of them."""

    subscription: Subscription
    first: tuple[Record, Message] | None = None
    """Its first record, which waits in the outbox."""
    known: Known | None = None
    """Its position; found before the first record came."""
    recovered: bool = False
    """That first record is a former process's, which did not learn the position either."""

    @property
    def place(self) -> tuple[int, str]:
        """Where its gap comes among those that go ahead."""
        at = 0 if self.first is None else self.first[0].collected_at
        return at, subject_of(self.subscription)


class StreamsWithoutPosition:
    """All of a process, by subject."""

    def __init__(self) -> None:
        self.streams: dict[str, StreamWithoutPosition] = {}
        self._gap_pending: list[Message] = []
        """First records that say so themselves, until what is to go ahead of them is stored."""

    def add(self, subscription: Subscription) -> None:
        """It begins, and nobody said where it stood."""
        self.streams[subject_of(subscription)] = StreamWithoutPosition(subscription)

    def resume(self, messages: Iterable[Message], lookup: Lookup) -> None:
        """Streams that were late in a former process, and of which it stored nothing, still are."""
        for message in messages:
            subscription = Subscription(DataType(message.data_type), message.instrument)
            record = lookup.record(subscription, message)
            if record is not None:
                late = StreamWithoutPosition(subscription, (record, message), recovered=True)
                self.streams[message.subject] = late
                self._gap_pending.append(message)

    def unresolved(self) -> list[StreamWithoutPosition]:
        """Those of which nothing is known yet."""
        return [late for late in self.streams.values() if late.known is None]

    def waits(self, late: StreamWithoutPosition, record: Record, message: Message) -> None:
        """A record of it comes, and its position is not known: the first one says so itself."""
        if late.first is None:
            late.first, message.gap_pending = (record, message), True
            self._gap_pending.append(message)

    def ahead_stored(self) -> bool:
        """All that was to go ahead is stored; whether anything waited for that."""
        if not self._gap_pending or any(late.first for late in self.streams.values()):
            return False
        for message in self._gap_pending:
            message.gap_pending = False
        self._gap_pending.clear()
        return True


def told_ahead(
    streams: Sequence[StreamWithoutPosition], stored: Mapping[str, Stored], lookup: Lookup
) -> set[str]:
    """The subjects of which a former process stored what was to go ahead, or even more.

    All that goes ahead is stored in one order: the last gap of an instrument, where it is one of
    those, proves the others before it.
    """
    recovered = [late for late in streams if late.recovered and late.first is not None]
    latest: dict[str, tuple[int, str]] = {}
    told = set()
    for late in recovered:
        name, key = gaps_of(late.subscription), subject_of(late.subscription)
        gap = lookup.gap(stored[name]) if name in stored else None
        at = late.place[0]
        ours = (CONNECTION, late.subscription.data_type, at)
        if gap is not None and (gap.connection, gap.affected, gap.ended_at) == ours:
            latest[name] = late.place
        record = lookup.record(late.subscription, stored[key]) if key in stored else None
        if record is not None and record.collected_at >= at:
            told.add(key)
    for late in recovered:
        if late.place <= latest.get(gaps_of(late.subscription), (0, "")):
            told.add(subject_of(late.subscription))
    return told
