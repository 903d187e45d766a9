"""Make before break: what the new one of two connections holds back until it may go on. Pure.

For a while both connections carry every stream, and both sessions share its cursor. A stream is the
old one's until it is certain that nothing is missing between what the old one published and what
the new one heard: then the two have joined.

- The old one published the first event that the new one holds, or a later one (the cursor tells);
  or
- both were subscribed for `OVERLAP` and neither heard anything, and all that the old one was told
  until then has come: so it is not dead, and nothing is on its way to it alone. A new one that is
  deaf to what the old one hears takes nothing over.

Then the new one says what it held, past the cursor, and the old one hears no more of the stream.
Where what both hear does not join within `PATIENCE`, the new one goes on all the same: what is
missing then is told as a gap, as after any reconnect. What the old one is refused, so that it tells
nothing, is the new one's as soon as that hears it.
"""

from collections.abc import Callable, Iterable
from typing import Generic, NamedTuple, TypeVar

import attrs

from marketprism.clock import SECOND, Timestamp
from marketprism.feeds.venue import Session
from marketprism.records import GapReason
from marketprism.streams.state import Phase
from marketprism.streams.subscription import Stream

Event = TypeVar("Event")
Reached = Callable[[Stream], int | None]
"""How far the old one published a stream, in the terms of `hold`'s position."""

OVERLAP = 5 * SECOND
PATIENCE = 30 * SECOND
MAX_HELD = 20_000
"""Events of one stream; with more of them it goes on at once."""


class Unjoined(NamedTuple):
    """What a gap says where two connections have not joined."""

    reason: GapReason
    why: str


LATE = Unjoined("stale", "what two connections heard did not join in time")
ENDED = Unjoined("disconnect", "its connection ended before another had joined it")


@attrs.define
class _Held(Generic[Event]):
    since: Timestamp | None = None
    """When the new one's subscription was acknowledged."""
    position: int | None = None
    """The id or the time of the first event held that has one, as the cursor counts."""
    first: Event | None = None
    """That event."""
    events: list[tuple[Event, Timestamp]] = attrs.field(factory=list)


class Handover(Generic[Event]):
    """The streams that a new session has not taken over yet."""

    def __init__(self, old: Session, streams: Iterable[Stream]) -> None:
        self.old = old
        self._held: dict[Stream, _Held[Event]] = {stream: _Held() for stream in streams}
        self._bereft = False

    def __contains__(self, stream: object) -> bool:
        return stream in self._held

    def __bool__(self) -> bool:
        return bool(self._held)

    def acknowledged(self, stream: Stream, now: Timestamp) -> None:
        """The new one's subscription stands."""
        held = self._held.get(stream)
        if held is not None and held.since is None:
            held.since = now

    def since(self, stream: Stream) -> Timestamp | None:
        """From when on the new one hears all of a stream; None while it is not sure to."""
        return self._held[stream].since

    def hold(self, stream: Stream, position: int | None, event: Event, now: Timestamp) -> None:
        """The new one heard an event of a stream that is the old one's still; one without a
        position tells nothing of where the stream stands.
        """
        held = self._held[stream]
        if held.position is None and position is not None:
            held.position, held.first = position, event
        held.events.append((event, now))

    def first(self, stream: Stream) -> Event | None:
        """The first event that is held of a stream, and has a position."""
        return self._held[stream].first

    def bereave(self) -> None:
        """The old one is gone: nothing more is to be waited for."""
        self._bereft = True

    def due(self, reached: Reached, now: Timestamp) -> list[Stream]:
        """The streams to take over now: those that have joined, and those that need not any more
        for the new one to go on.
        """
        return [
            stream
            for stream in self._held
            if self._gives_up(stream, now) or self.joined(stream, reached)
        ]

    def joined(self, stream: Stream, reached: Reached) -> bool:
        """Whether nothing is missing between the old one's last event and the new one's first."""
        held = self._held[stream]
        if held.position is not None:
            position = reached(stream)
            return position is not None and position >= held.position
        state = self.old.streams.get(stream)
        if held.since is None or state is None or state.heard_until is None:
            return False
        silent_since = max(held.since.monotonic, state.last_record or 0)
        return state.heard_until - silent_since >= OVERLAP

    def take(self, stream: Stream) -> tuple[list[tuple[Event, Timestamp]], object]:
        """What was held of a stream, which is the new one's from now on; and what the old one hands
        over with it.
        """
        held = self._held.pop(stream)
        return held.events, self.old.hand_over(stream)

    def _gives_up(self, stream: Stream, now: Timestamp) -> bool:
        held = self._held[stream]
        if self._bereft or len(held.events) > MAX_HELD:
            return True
        state = self.old.streams.get(stream)
        if held.since is not None and state is not None and state.phase is Phase.PARKED:
            return True
        if held.position is None or held.since is None:
            return False
        return now.monotonic - held.since.monotonic >= PATIENCE
