"""Whether a stream goes on where it stood, as far as its exchange lets one tell. Pure."""

from marketprism.feeds.venue import Moment, Phase, StreamState
from marketprism.records import Gap


def accept_counted(
    state: StreamState,
    number: int,
    event_time: int,
    now: Moment,
    connection: str,
) -> tuple[bool, Gap | None]:
    """Whether the event numbered `number` is news, and the gap that ends with it, if one does.

    The next number proves that nothing is missing, whatever happened to the connection between.
    A number that has passed already is a duplicate — unless a lower one happened later: then it
    counts anew (or a number was wrong), and what lies between cannot be told.
    """
    cursor, gap = state.cursor, None
    last = cursor.last_id
    if last is None:
        gap = cursor.close(state.instrument, state.data_type, now.wall, connection)
    else:
        if number == last + 1:
            cursor.gap = None
        elif number > last:
            cursor.lose("sequence")
            gap = cursor.close(
                state.instrument,
                state.data_type,
                now.wall,
                connection,
                (last + 1, number - 1),
                countable=True,
            )
        elif number < last and cursor.event_time is not None and event_time > cursor.event_time:
            cursor.lose("sequence")
            gap = cursor.close(state.instrument, state.data_type, now.wall, connection)
        else:
            state.duplicates += 1
            return False, None
    cursor.last_id = number
    _accepted(state, gap, event_time, now)
    return True, gap


def accept_uncounted(
    state: StreamState, event_time: int | None, now: Moment, connection: str
) -> Gap | None:
    """For events without numbers that join: the gap that ends with this one, if one is open.

    Nothing proves that a time out of contact was empty, so it always is a gap of unknown size.
    """
    gap = state.cursor.close(state.instrument, state.data_type, now.wall, connection)
    _accepted(state, gap, event_time, now)
    return gap


def listening(state: StreamState, now: Moment, connection: str) -> Gap | None:
    """For a stream that may be silent for hours: the gap that ends with its confirmed
    subscription, if one is open. From here on, silence means that there was nothing.
    """
    gap = state.cursor.close(state.instrument, state.data_type, now.wall, connection)
    if gap is not None:
        state.gaps += 1
    state.cursor.received = now.wall
    return gap


def awaited(state: StreamState, now: Moment) -> None:
    """A subscription is confirmed: out of sight from here on is a gap, though nothing has been told
    of the stream yet.
    """
    if state.cursor.received is None:
        state.cursor.received = now.wall


def _accepted(state: StreamState, gap: Gap | None, event_time: int | None, now: Moment) -> None:
    if gap is not None:
        state.gaps += 1
    cursor = state.cursor
    cursor.event_time = event_time
    cursor.received = now.wall
    state.phase, state.detail = Phase.LIVE, None
    state.last_record = now.monotonic
    state.records += 1
