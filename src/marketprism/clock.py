"""Time, as everything here is told it: nobody but `app` reads a clock."""

from typing import Final, NamedTuple

MILLISECOND: Final = 1_000_000
SECOND: Final = 1_000_000_000
HOUR: Final = 3600 * SECOND
"""Nanoseconds."""


class Timestamp(NamedTuple):
    """A stamp. Clocks jump: times come from the first, durations and deadlines from the second."""

    wall: int
    """Nanoseconds since the Unix epoch."""
    monotonic: int
    """Nanoseconds of a clock that only goes forward."""
