"""When the gaps of each stream began: their message ids are made of it."""

import msgspec

from marketprism.instruments import Instrument
from marketprism.records import DataType
from marketprism.sinks.identity import Stream, identifying

MILLISECOND = 1_000_000
_REMEMBERED = 1000


class GapStarts:
    """The milliseconds in which the gaps of each stream began: their message ids are made of them,
    whoever made the gap, so no two may share one.
    """

    def __init__(self) -> None:
        self._used: dict[Stream, dict[int, None]] = {}

    def later(self, stream: Stream, at: int) -> int:
        """The first free time from `at` on, in nanoseconds; now it is taken."""
        return self._free(stream, at, 1)

    def earlier(self, stream: Stream, at: int) -> int:
        """The last free time up to `at`; now it is taken."""
        return self._free(stream, at, -1)

    def note(self, stream: Stream, at: int) -> None:
        """This one is taken."""
        self._used.setdefault(stream, {})[at // MILLISECOND] = None

    def _free(self, stream: Stream, at: int, step: int) -> int:
        used = self._used.setdefault(stream, {})
        millisecond = at // MILLISECOND
        while millisecond in used:
            millisecond += step
            at = millisecond * MILLISECOND
        used[millisecond] = None
        if len(used) > _REMEMBERED:
            del used[next(iter(used))]
        return at

    def saved(self) -> bytes:
        """All of them, for a process to come."""
        return msgspec.json.encode(
            [
                (identifying(instrument), affects, list(used))
                for (instrument, affects), used in self._used.items()
            ]
        )

    def restore(self, saved: bytes) -> None:
        """Those that a former process knew."""
        for names, affects, milliseconds in msgspec.json.decode(saved):
            used = self._used.setdefault((Instrument(*names), DataType(affects)), {})
            used.update(dict.fromkeys(milliseconds))
