"""Time, as everything here is told it: nobody but `app` reads a clock."""

from typing import NamedTuple


class Moment(NamedTuple):
    """A stamp. Clocks jump: times come from the first, durations and deadlines from the second."""

    wall: int
    """Nanoseconds since the Unix epoch."""
    monotonic: int
    """Nanoseconds of a clock that only goes forward."""
