"""Make before break: what the younger of two connections holds back until it may go on. Pure.

For a while both connections carry every stream, and both sessions share its cursor. A stream is
the elder's until it is certain that nothing is missing between what the elder published and what
the younger heard:

- the elder published the first event that the younger holds, or a later one (the cursor tells); or
- both were subscribed for `OVERLAP` and the younger heard nothing: then what the elder alone was
  still to hear has come.

Then the younger says what it held, past the cursor, and the elder hears no more of the stream.
Where neither comes true within `PATIENCE`, the younger goes on all the same: what is missing then
is told as a gap, as after any reconnect.
"""

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

import attrs

from marketprism.feeds.venue import Moment, Session, Stream

Event = TypeVar("Event")

SECOND = 1_000_000_000
OVERLAP = 5 * SECOND
PATIENCE = 30 * SECOND
MAX_HELD = 20_000
"""Events of one stream; with more of them it goes on at once."""


@attrs.define
class _Held(Generic[Event]):
    acknowledged_at: int | None = None
    """Monotonic."""
    first: int | None = None
    """The id or the time of the first event held, as the cursor counts."""
    events: list[tuple[Event, Moment]] = attrs.field(factory=list)


class Handover(Generic[Event]):
    """The streams that a younger session has not taken over yet."""

    def __init__(self, elder: Session, streams: Iterable[Stream]) -> None:
        self.elder = elder
        self._held: dict[Stream, _Held[Event]] = {stream: _Held() for stream in streams}
        self._bereft = False

    def __contains__(self, stream: Stream) -> bool:
        return stream in self._held

    def __bool__(self) -> bool:
        return bool(self._held)

    def acknowledged(self, stream: Stream, now: Moment) -> None:
        """The younger's subscription stands."""
        held = self._held.get(stream)
        if held is not None and held.acknowledged_at is None:
            held.acknowledged_at = now.monotonic

    def hold(self, stream: Stream, position: int, event: Event, now: Moment) -> None:
        """The younger heard an event of a stream that is the elder's still."""
        held = self._held[stream]
        held.first = position if held.first is None else held.first
        held.events.append((event, now))

    def bereave(self) -> None:
        """The elder is gone: nothing more is to be waited for."""
        self._bereft = True

    def due(self, reached: Callable[[Stream], int | None], now: Moment) -> list[Stream]:
        """The streams to take over now. `reached` is how far the elder published a stream, in the
        terms of `hold`'s position.
        """
        return [
            stream
            for stream, held in self._held.items()
            if self._is_due(stream, held, reached, now)
        ]

    def take(self, stream: Stream) -> tuple[list[tuple[Event, Moment]], object]:
        """What was held of a stream, which is the younger's from now on; and what the elder hands
        over with it.
        """
        held = self._held.pop(stream)
        return held.events, self.elder.release(stream)

    def _is_due(
        self,
        stream: Stream,
        held: _Held[Event],
        reached: Callable[[Stream], int | None],
        now: Moment,
    ) -> bool:
        if self._bereft or len(held.events) > MAX_HELD:
            return True
        if held.first is not None:
            position = reached(stream)
            if position is not None and position >= held.first:
                return True
        if held.acknowledged_at is None:
            return False
        together = now.monotonic - held.acknowledged_at
        return together >= (OVERLAP if held.first is None else PATIENCE)
