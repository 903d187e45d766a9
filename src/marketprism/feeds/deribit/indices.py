"""The volatility indices of a connection, and how they go over to the next one. Pure.

An index joins once the old one has published a value as late as the first that the new one heard;
no value is asked for again. An old one that still waits for what it missed publishes nothing, so it
is waited for. Where that takes too long, the values that waited there go on waiting here.
"""

from typing import Never

from marketprism.clock import Timestamp
from marketprism.feeds import succession
from marketprism.feeds.actions import Output
from marketprism.feeds.deribit.series import Series
from marketprism.feeds.streams import Streams
from marketprism.feeds.succession import Taken
from marketprism.settings.exchanges import VenueConfig
from marketprism.streams.cursor import Cursor
from marketprism.streams.state import Phase, StreamState
from marketprism.streams.subscription import Stream, Subscription

Value = tuple[int, str]
"""When it was so, nanoseconds, and what it was."""


class Indices(Streams[Never, Value]):
    """Those of one connection."""

    def __init__(self, name: str, settings: VenueConfig) -> None:
        super().__init__(name)
        self.series: dict[str, Series] = {}
        self._base_url = settings.api.base_url.rstrip("/")

    def add(self, subscription: Subscription, cursor: Cursor) -> None:
        super().add(subscription, cursor)
        state = self.states[subscription.stream]
        self.series[subscription.instrument.native_id] = Series(state, self._base_url, self._name)

    def remove(self, stream: Stream) -> object:
        super().remove(stream)
        return self.series.pop(stream[1])

    def accept(self, stream: Stream, event: Value, now: Timestamp, output: Output) -> None:
        told_at, value = event
        self.series[stream[1]].on_event(told_at, value, now, output)

    def _book(self, state: StreamState) -> Never:
        raise AssertionError(f"{state.instrument} has no book")


class Succession(succession.Succession[Indices, Value]):
    """The indices that the new connection has not taken over yet."""

    def _place(self, event: Value, now: Timestamp) -> tuple[int, int | None]:
        told_at, _ = event
        return told_at, told_at

    def _go_on(self, stream: Stream, taken: Taken[Value], now: Timestamp, output: Output) -> None:
        series, old = self._new.series[stream[1]], taken.handed
        assert isinstance(old, Series)
        if taken.joined:
            if taken.before.phase is Phase.LIVE:
                series.state.phase = Phase.LIVE
            series.succeed(old, overlaps=taken.first is not None)
        else:
            series.state.cursor.lose(*taken.unjoined)
            if taken.first is not None:
                _wait_on(series, old, taken.first[0], now, output)
        for (told_at, value), heard in taken.buffered:
            # What is waited for from here on is waited for from now on.
            series.on_event(told_at, value, Timestamp(heard.wall, now.monotonic), output)


def _wait_on(series: Series, old: Series, first: int, now: Timestamp, output: Output) -> None:
    """The values that waited with the old one for what it missed, where `first` follows them."""
    told = [(record.timestamp or 0, record) for record in old.held]
    if not told or told[-1][0] < first:
        return
    for told_at, record in told:
        if told_at < first:
            heard = Timestamp(record.collected_at, now.monotonic)
            series.on_event(told_at, record.volatility_index, heard, output)
