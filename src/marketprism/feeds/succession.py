"""How the streams of a connection that is to end go on on the next one. Pure.

When a stream goes over stands in `handover.py`. What the new one holds of it goes through its
ordinary path then: there the past is dropped by the cursor. What the old one knew of it beyond the
cursor goes along.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import attrs
import msgspec

from marketprism.clock import Timestamp
from marketprism.decimals import NotANumber
from marketprism.feeds.actions import Output, Reject
from marketprism.feeds.handover import ENDED, LATE, Handover, Unjoined
from marketprism.feeds.streams import Streams
from marketprism.feeds.venue import SAMPLE_BYTES, Session
from marketprism.records import DataType, Liquidation
from marketprism.streams.state import Phase, StreamState
from marketprism.streams.subscription import Stream

Known = TypeVar("Known", bound=Streams[Any, Any])
"""What both connections know of their streams."""
Event = TypeVar("Event")


@attrs.frozen
class Taken(Generic[Event]):
    """A stream that goes over: how the two connections stood, and what comes with it."""

    joined: bool
    """Nothing is missing between the old one's last event and the new one's first."""
    unjoined: Unjoined
    """What the gap says, where they have not."""
    before: StreamState
    """The old one's."""
    handed: object
    """What the old one knew of it beyond its cursor."""
    buffered: Sequence[tuple[Event, Timestamp]]
    first: Event | None
    """The first that was held, and has a position."""
    since: Timestamp | None
    """From when on the new one heard all of it; None while it is not sure to."""


class Succession(ABC, Generic[Known, Event]):
    """The streams that the new connection has not taken over yet. A venue says where an event
    stands (`_place`), how far the old one has come in the same terms (`_reached`), and how a stream
    goes on (`_go_on`).
    """

    def __init__(self, session: Session, old: Known, new: Known) -> None:
        """Those of the new one's streams that the old one has too go over."""
        self._old = old
        self._new = new
        both = [each for each in new.states if each in session.streams]
        self._handover = Handover[Event](session, both)

    def __contains__(self, stream: object) -> bool:
        return stream in self._handover

    def __bool__(self) -> bool:
        return bool(self._handover)

    def hold(self, stream: Stream, event: Event, now: Timestamp) -> bool:
        """Whether an event is held back: it is of a stream that is the old one's still. Raises
        NotANumber.
        """
        if stream not in self._handover:
            return False
        place, told_at = self._place(event, now)
        # What bears a time to come tells nothing of where the stream stands.
        clock = self._new.states[stream].cursor.clock
        ahead = told_at is not None and clock.is_ahead(told_at, now)
        self._handover.hold(stream, None if ahead else place, event, now)
        return True

    def confirmed(self, stream: Stream, now: Timestamp) -> None:
        """The new one's subscription stands."""
        self._handover.acknowledged(stream, now)

    def proceed(self, now: Timestamp, output: Output) -> None:
        """Take over what has joined, and what was waited for long enough."""
        for stream in self._handover.due(self._reached, now):
            self._take(stream, LATE, now, output)

    def old_gone(self, now: Timestamp, output: Output) -> None:
        """The old one is gone: all that is left goes on from here."""
        self._handover.bereave()
        for stream in self._handover.due(self._reached, now):
            self._take(stream, ENDED, now, output)

    def refused(self, stream: Stream) -> None:
        """The new one cannot have a stream now. The old one's goes on while it speaks; where the
        old one cannot have it either, there is nothing to take over.
        """
        before = self._handover.old.streams.get(stream)
        if before is not None and before.phase is Phase.PARKED:
            self.give_up(stream)

    def give_up(self, stream: Stream) -> None:
        """The new one cannot have a stream, so nobody will: sight of it is lost."""
        if stream in self._handover:
            self._handover.take(stream)
            cursor = self._new.states[stream].cursor
            cursor.lose("disconnect", "the new connection cannot have it")

    @abstractmethod
    def _place(self, event: Event, now: Timestamp) -> tuple[int, int | None]:
        """Where an event stands, as ids or times; and its time, where that must be one that can
        be. Raises NotANumber.
        """

    def _reached(self, stream: Stream) -> int | None:
        """How far the old one published a stream, in the terms of `_place`."""
        data_type, native_id = stream
        if data_type is DataType.FUNDING_RATE:
            return self._old.funding[native_id].heard
        if data_type is DataType.LIQUIDATION:
            # Their times are not in order: what the old one has told, it has told by id.
            first = self._handover.first(stream)
            assert isinstance(first, Liquidation)
            told = first.liquidation_id in self._old.liquidated[native_id]
            return (first.timestamp or 0) if told else None
        return self._new.states[stream].cursor.event_time

    @abstractmethod
    def _go_on(self, stream: Stream, taken: Taken[Event], now: Timestamp, output: Output) -> None:
        """It is the new one's from now on."""

    def _take(self, stream: Stream, unjoined: Unjoined, now: Timestamp, output: Output) -> None:
        handover, state = self._handover, self._new.states[stream]
        before = handover.old.streams[stream]
        joined, first = handover.joined(stream, self._reached), handover.first(stream)
        since = handover.since(stream)
        held, handed = handover.take(stream)
        state.last_record = before.last_record
        self._go_on(
            stream, Taken(joined, unjoined, before, handed, held, first, since), now, output
        )

    def _accept(self, stream: Stream, event: Event, heard: Timestamp, output: Output) -> None:
        try:
            self._new.accept(stream, event, heard, output)
        except NotANumber as error:
            sample = msgspec.json.encode(event)[:SAMPLE_BYTES]
            output.actions.append(Reject("bad number", str(error), sample))
