"""The streams of a connection that have fallen silent: found, counted and logged."""

from collections.abc import Iterator, Mapping

import structlog

from marketprism.board.board import Board
from marketprism.board.rows import ConnectionRow
from marketprism.clock import SECOND, Timestamp
from marketprism.feeds.freshness import Freshness, Remedy
from marketprism.feeds.silence_log import tell_silences
from marketprism.streams.state import StreamState
from marketprism.streams.subscription import Stream

log = structlog.get_logger()


class Silences:
    """Of one connection, by the `Freshness` of its feed; without one, nobody judges."""

    def __init__(self, freshness: Freshness | None, board: Board, row: ConnectionRow) -> None:
        self._freshness = freshness
        self._board = board
        self._row = row

    def connected(self) -> None:
        """All streams are given time again."""
        if self._freshness is not None:
            self._freshness.connected()

    def found(
        self, streams: Mapping[Stream, StreamState], now: Timestamp
    ) -> Iterator[tuple[Stream, Remedy, float]]:
        """Those silent for too long, what to do, and the limit in seconds."""
        if self._freshness is None:
            return
        silent = list(self._freshness.judge(streams, now.monotonic))
        tell_silences(log.bind(connection=self._row.name), silent)
        for stream, answer, limit in silent:
            what = (self._row.venue, str(stream[0]), answer.name.lower())
            self._board.silences[what] += 1
            yield stream, answer, limit


def others_speak(
    streams: Mapping[Stream, StreamState], silent: Stream, limit: float, now: Timestamp
) -> bool:
    """Whether other streams said something in the time for which this one was silent."""
    since = now.monotonic - limit * SECOND
    return any(
        state.last_record is not None and state.last_record > since
        for stream, state in streams.items()
        if stream != silent
    )
