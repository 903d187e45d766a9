"""When the gaps of each stream began: their message ids are made of it."""

from marketprism.clock import MILLISECOND
from marketprism.instruments import Instrument
from marketprism.records import DataType, Gap, OrderBookRecord, Record

_REMEMBERED = 1000


Affected = tuple[Instrument, DataType]
"""The stream that a gap speaks of."""


def identifying(instrument: Instrument) -> tuple[str, str, str, str]:
    """What makes two instruments the same."""
    return (
        instrument.exchange,
        instrument.market_type,
        instrument.symbol,
        instrument.native_id,
    )


class GapStarts:
    """The milliseconds in which the gaps of each stream began: their message ids are made of them,
    whoever made the gap, so no two may share one: the thread that mends a damaged spool makes some,
    too.
    """

    def __init__(self) -> None:
        self._used: dict[Affected, dict[int, object]] = {}
        self._moved: dict[Affected, tuple[int, int]] = {}
        """From when to when the latest gap of a stream was moved, where it was."""

    def distinguish(self, record: Record) -> None:
        """See to it that a gap, as it is told, begins in a millisecond of its own; and that the
        snapshot which heals it names that one.
        """
        if isinstance(record, Gap):
            stream = record.instrument, record.affected
            began, record.started_at = record.started_at, self.later(stream, record.started_at)
            self._moved.pop(stream, None)
            if record.started_at != began:
                self._moved[stream] = began, record.started_at
                record.ended_at = record.timestamp = max(record.ended_at, record.started_at)
        elif self._moved and isinstance(record, OrderBookRecord) and record.heals_gap:
            began, moved = self._moved.get((record.instrument, DataType.ORDERBOOK), (0, 0))
            if record.heals_gap == began:
                record.heals_gap = moved

    def later(self, stream: Affected, at: int) -> int:
        """The first free time from `at` on, in nanoseconds; now it is taken."""
        return self._free(stream, at, 1)

    def earlier(self, stream: Affected, at: int) -> int:
        """The last free time up to `at`; now it is taken."""
        return self._free(stream, at, -1)

    def note(self, stream: Affected, at: int) -> None:
        """This one is taken."""
        self._used.setdefault(stream, {})[at // MILLISECOND] = None

    def _free(self, stream: Affected, at: int, step: int) -> int:
        used, ours = self._used.setdefault(stream, {}), object()
        millisecond = at // MILLISECOND
        # In one step, whichever thread asks.
        while used.setdefault(millisecond, ours) is not ours:
            millisecond += step
            at = millisecond * MILLISECOND
        if len(used) > _REMEMBERED:
            del used[next(iter(used))]
        return at
