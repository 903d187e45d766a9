"""A histogram that costs one bisection a batch. Pure."""

import bisect
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


class Tally:
    """A histogram that costs one bisection a batch, however many records are in it."""

    def __init__(self, *bounds: float) -> None:
        self.bounds = bounds
        """Upper bounds in seconds, ascending; the last bucket has none."""
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, seconds: float, times: int = 1) -> None:
        self.counts[bisect.bisect_left(self.bounds, seconds)] += times
        self.sum += seconds * times

    @property
    def count(self) -> int:
        return sum(self.counts)

    def quantile(self, fraction: float) -> float | None:
        """The upper bound of the bucket that holds it (the last bound beyond all), or None
        before the first observation.
        """
        if not (total := self.count):
            return None
        reached = 0
        for bound, count in zip((*self.bounds, self.bounds[-1]), self.counts, strict=True):
            reached += count
            if reached >= fraction * total:
                return bound
        return self.bounds[-1]


def latency() -> Tally:
    """One of seconds, from a tenth of a millisecond on."""
    return Tally(
        *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
        *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
    )
