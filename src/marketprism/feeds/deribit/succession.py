"""How the younger of two Deribit connections takes indices over from the elder. Pure.

An index joins once the elder has published a value as late as the first that the younger heard; no
value is asked for again. An elder that still waits for what it missed publishes nothing, so it is
waited for. Where that takes too long, the values that waited there go on waiting here.
"""

from collections.abc import Mapping

from marketprism.clock import Moment
from marketprism.feeds import handover
from marketprism.feeds.deribit.series import Series
from marketprism.feeds.handover import Unjoined
from marketprism.feeds.venue import Phase, Session, Stream, Turn

Value = tuple[int, str]
"""When it was so, nanoseconds, and what it was."""


class Succession(handover.Succession[Value]):
    """The indices that the younger connection has not taken over yet."""

    def __init__(self, elder: Session, new: Mapping[str, Series]) -> None:
        states = {(each.state.data_type, index): each.state for index, each in new.items()}
        super().__init__(elder, states)
        self._elder = elder
        self._new = new

    def hold(self, stream: Stream, told_at: int, value: str, now: Moment) -> bool:
        """Whether a value is held back: it is of an index that is the elder's still."""
        if stream not in self._handover:
            return False
        # What bears a time to come tells nothing of where the index stands.
        ahead = self._states[stream].cursor.clock.is_ahead(told_at, now)
        self._handover.hold(stream, None if ahead else told_at, (told_at, value), now)
        return True

    def _reached(self, stream: Stream) -> int | None:
        return self._states[stream].cursor.event_time

    def _take(self, stream: Stream, unjoined: Unjoined, now: Moment, turn: Turn) -> None:
        before, series = self._elder.streams[stream], self._new[stream[1]]
        joined = self._handover.joined(stream, self._reached)
        first = self._handover.first(stream)
        held, elder = self._handover.take(stream)
        assert isinstance(elder, Series)
        series.state.last_record = before.last_record
        if joined:
            if before.phase is Phase.LIVE:
                series.state.phase = Phase.LIVE
            series.succeed(elder, overlaps=first is not None)
        else:
            series.state.cursor.lose(*unjoined)
            if first is not None:
                _wait_on(series, elder, first[0], now, turn)
        for (told_at, value), heard in held:
            # What is waited for from here on is waited for from now on.
            series.hear(told_at, value, Moment(heard.wall, now.monotonic), turn)


def _wait_on(series: Series, elder: Series, first: int, now: Moment, turn: Turn) -> None:
    """The values that waited with the elder for what it missed, where `first` follows them."""
    told = [(record.timestamp or 0, record) for record in elder.held]
    if not told or told[-1][0] < first:
        return
    for told_at, record in told:
        if told_at < first:
            heard = Moment(record.collected_at, now.monotonic)
            series.hear(told_at, record.volatility_index, heard, turn)
