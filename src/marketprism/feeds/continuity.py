"""Whether a stream goes on where it stood, as far as its exchange lets one tell. Pure.

A stamp of a time to come (`exchange_clock`) is no progress: what bears one is told once, and moves
no time. A number in such a frame is believed where it follows by one, or when another goes on from
it; else the stream stays where it is.
"""

from collections.abc import Sequence
from enum import Enum
from itertools import pairwise
from typing import TypeVar

from marketprism.clock import Timestamp
from marketprism.feeds.actions import Output
from marketprism.records import Gap, Record
from marketprism.streams.ahead import Mark
from marketprism.streams.cursor import Cursor, OpenGap
from marketprism.streams.state import Phase, StreamState

Row = TypeVar("Row")


class Place(Enum):
    """Where a stamp stands in a stream that goes by its times."""

    NEWS = "news"
    LATEST = "latest"
    """It was told already, and nothing later was."""
    PAST = "past"
    AHEAD = "ahead"
    """Of a time to come, and not told yet."""


def placed(cursor: Cursor, stamp: int, now: Timestamp) -> Place:
    """Where a stamp stands. One that is ahead counts as told from here on."""
    mark = (stamp, None)
    if mark in cursor.ahead:
        return Place.LATEST if stamp > (believed(cursor, now) or 0) else Place.PAST
    if cursor.clock.is_ahead(stamp, now):
        cursor.ahead.note(mark)
        return Place.AHEAD
    last = believed(cursor, now)
    if last is None or stamp > last:
        return Place.NEWS
    return Place.LATEST if stamp == last else Place.PAST


def believed(cursor: Cursor, now: Timestamp) -> int | None:
    """The time at which a stream stands. One that has turned out to be of a time to come is given
    up: what came after it may have been passed over.
    """
    at = cursor.event_time
    if at is None or not cursor.clock.is_ahead(at, now):
        return at
    cursor.lose("sequence", "its last time turned out to be one to come")
    cursor.ahead.note((at, None))
    cursor.event_time = None
    return None


def apart(
    rows: Sequence[tuple[int, Row]], cursor: Cursor, now: Timestamp
) -> tuple[list[tuple[int, Row]], list[tuple[int, Row]]]:
    """Rows with their times: those that can be, and those that are ahead and not told yet, which
    are to be told beside them.
    """
    can_be, early = [], []
    for row in rows:
        if not cursor.clock.is_ahead(row[0], now):
            can_be.append(row)
        elif placed(cursor, row[0], now) is Place.AHEAD:
            early.append(row)
    cursor.ahead.count += len(early)
    return can_be, early


def accept_counted(
    state: StreamState,
    number: int,
    event_time: int,
    now: Timestamp,
    connection: str,
    part: int | None = None,
) -> tuple[bool, Sequence[Gap]]:
    """Whether the event numbered `number` is news, and the gaps that end with it.

    The next number proves that nothing is missing, whatever happened to the connection between.
    A number that has passed already is a duplicate — unless a lower one happened later: then it
    counts anew (or a number was wrong), and what lies between cannot be told. Of two events of one
    number (aggregates: `part` is the last trade in them) the one with the larger part is news.
    """
    cursor, ahead, mark = state.cursor, state.cursor.ahead, (number, part)
    last, told = cursor.last_id, ahead.count > 0 and mark in ahead
    early = cursor.clock.is_ahead(event_time, now)
    passed = last is not None and number <= last
    gaps: Sequence[Gap] = ()
    if last is not None and number == last + 1:
        cursor.gap = None
    elif last is None or number - 1 == ahead.candidate or not (early or passed):
        gaps = _missing(state, number, now, connection)
        if early:
            ahead.note(mark)
    elif number == last and _is_larger(part, cursor.last_trade_id):
        if early:
            return _floats(state, mark, now), ()
    elif early and not passed:
        ahead.candidate = number
        return _floats(state, mark, now), ()
    elif early or number == last or event_time <= _stands_at(cursor, now):
        state.duplicates += 1
        return False, ()
    else:
        gaps = _missing(state, number, now, connection)
    cursor.last_id, cursor.last_trade_id, ahead.candidate = number, part, None
    if told:
        state.duplicates += 1
    else:
        _accepted(state, None if early else event_time, now)
        ahead.count += early
    return not told, gaps


def accept_uncounted(
    state: StreamState, event_time: int | None, now: Timestamp, connection: str
) -> Gap | None:
    """For events without numbers that join: the gap that ends with this one, if one is open.

    Nothing proves that a time out of contact was empty, so it always is a gap of unknown size.
    """
    cursor = state.cursor
    gap = cursor.close(state.instrument, state.data_type, now.wall, connection)
    early = event_time is not None and cursor.clock.is_ahead(event_time, now)
    _accepted(state, None if early else event_time, now)
    cursor.ahead.count += early
    return gap


def tell(
    state: StreamState, record: Record, now: Timestamp, connection: str, output: Output
) -> None:
    """Publish what has no number that joins, and before it the gap that ends with it."""
    gap = accept_uncounted(state, record.timestamp, now, connection)
    output.records += [record] if gap is None else [gap, record]


def listening(state: StreamState, now: Timestamp, connection: str) -> Gap | None:
    """For a stream that may be silent for hours: the gap that ends with its confirmed
    subscription, if one is open. From here on, silence means that there was nothing.
    """
    gap = state.cursor.close(state.instrument, state.data_type, now.wall, connection)
    state.cursor.received = now.wall
    return gap


def awaited(state: StreamState, now: Timestamp) -> None:
    """A subscription is confirmed: out of sight from here on is a gap, though nothing has been told
    of the stream yet.
    """
    if state.cursor.received is None:
        state.cursor.received = now.wall


def lives(state: StreamState, now: Timestamp) -> None:
    """It told something that is published."""
    state.phase, state.detail = Phase.LIVE, None
    state.last_record = now.monotonic
    state.records += 1


def _accepted(state: StreamState, event_time: int | None, now: Timestamp) -> None:
    """At that time; None: it says none that can be."""
    cursor = state.cursor
    if event_time is not None:
        cursor.event_time = event_time
    cursor.received = now.wall
    lives(state, now)


def _is_larger(part: int | None, known: int | None) -> bool:
    return part is not None and known is not None and part > known


def _floats(state: StreamState, mark: Mark, now: Timestamp) -> bool:
    """Whether it is news that is told where the stream does not stand, which stays where it is, in
    time too: what is missing before it would have come earlier.
    """
    ahead = state.cursor.ahead
    if mark in ahead:
        state.duplicates += 1
        return False
    ahead.note(mark)
    ahead.count += 1
    lives(state, now)
    return True


def _stands_at(cursor: Cursor, now: Timestamp) -> int:
    """The exchange's time of the last event, or when it was read, where that time is no use."""
    at = cursor.event_time
    if at is None or cursor.clock.is_ahead(at, now):
        return (cursor.received or 0) + (cursor.clock.offset or 0)
    return at


def _missing(state: StreamState, number: int, now: Timestamp, connection: str) -> list[Gap]:
    """The gaps between the last number and this one, around what was told of them ahead of its
    time; one of unknown size where they do not count up to this one.
    """
    cursor, about = state.cursor, (state.instrument, state.data_type, now.wall, connection)
    last = cursor.last_id
    if last is None or number < last:
        if last is not None:
            cursor.lose("sequence", f"its numbers began anew at {number}, after {last}")
        gap = cursor.close(*about)
        return [] if gap is None else [gap]
    gaps = []
    lost = cursor.gap or OpenGap("sequence", 0, f"{number} came after {last}")
    for before, after in pairwise([last, *cursor.ahead.numbers(last + 1, number - 1), number]):
        if after == before + 1:
            continue
        cursor.lose(lost.reason, lost.why)
        gap = cursor.close(*about, (before + 1, after - 1), countable=True)
        if gap is not None:
            gaps.append(gap)
    cursor.gap = None
    return gaps
