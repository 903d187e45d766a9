"""Whether data is arriving: of all that is collected, and of each venue. Pure.

Data is records. A socket that stands, a pong, an acknowledgement or a heartbeat is none: an
exchange in maintenance gives all of these for hours.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import attrs

from marketprism.board.board import Board
from marketprism.board.rows import ConnectionRow
from marketprism.board.stream_row import StreamRow
from marketprism.clock import SECOND, Timestamp
from marketprism.streams.state import Phase

NOTHING_FOR = 60.0
"""Seconds without a record that are borne of any stream: no rhythm is judged more closely."""
SLOW = 900.0
"""Seconds without a record that are borne of what comes rarely: three rows of five minutes. Who
may be silent for longer does not speak for those that may not.
"""


class Voice(NamedTuple):
    """One stream, as it stands at a moment."""

    row: StreamRow
    state: str
    heard: int
    """Monotonic nanoseconds: its last record, or its beginning."""
    last: int | None
    """Monotonic nanoseconds: its last record; None before the first."""
    limit: float | None
    """Seconds of silence after which something is amiss; None: it may be silent."""


def voices(board: Board) -> dict[str, list[Voice]]:
    """Those of each venue; but of markets that do not trade, which have nothing to say."""
    found: dict[str, list[Voice]] = {}
    for row in board.stream_rows():
        if row.standing is None:
            last = row.last_seen
            heard = last if last is not None else board.started
            if row.begun is not None and row.begun > heard:
                heard = row.begun
            found.setdefault(row.venue, []).append(Voice(row, row.state, heard, last, row.limit))
    return found


@attrs.frozen
class Arrival:
    """How it stands with the data of some streams."""

    silent: bool
    """None comes, though some must."""
    since: int | None
    """Monotonic nanoseconds: the latest record, or the beginning of the youngest stream."""
    last: int | None
    """Monotonic nanoseconds: the latest record; None before the first."""


def arrival(voices: Sequence[Voice], board: Board, now: Timestamp) -> Arrival:
    """Whether these streams say what they must.

    Where some may not be silent, none of them has spoken for as long as it may be; where all that
    comes is rare, for `SLOW`. Where none is confirmed on a live connection, for `NOTHING_FOR`.
    """
    if not voices:
        return Arrival(False, None, None)
    last = max((each.last for each in voices if each.last is not None), default=None)
    asked = [each for each in voices if each.state != Phase.PARKED]
    often, rare = [], []
    for each in asked:
        seconds = _seconds(each.heard, now)
        declared = each.row.quiet_limit
        if declared is not None and declared >= SLOW:
            rare.append(seconds)
        elif each.limit is not None:
            often.append((seconds, max(NOTHING_FOR, each.limit)))
    if not any(each.state in (Phase.ACKNOWLEDGED, Phase.LIVE) for each in asked):
        # Whatever may be silent: nobody listens to any of them.
        silent = min(_seconds(_lost(each, board), now) for each in voices) > NOTHING_FOR
    elif often:
        longest = SLOW if any(limit < SLOW for _, limit in often) else math.inf
        silent = all(seconds > min(limit, longest) for seconds, limit in often)
    else:
        silent = bool(rare) and min(rare) > SLOW
    return Arrival(silent, max(each.heard for each in voices), last)


def down(venue: str, board: Board) -> ConnectionRow | None:
    """The connection that a venue lost last, where it has none that stands."""
    rows = [
        row
        for row in board.connections.values()
        if row.venue == venue and row.state != "stopped" and not row.next
    ]
    if not rows or any(row.state == "connected" or row.reason is None for row in rows):
        return None
    return max(rows, key=lambda row: row.down_since or board.started)


def _lost(voice: Voice, board: Board) -> int:
    """Since when a stream that may be silent could not be heard."""
    connection = board.connections.get(voice.row.connection)
    since = None if connection is None else connection.down_since
    return max(voice.heard, since or 0)


def _seconds(then: int, now: Timestamp) -> float:
    return (now.monotonic - then) / SECOND
