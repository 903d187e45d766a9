"""Numbers that depend on nothing but a seed, a name and the time.

What is asked for over REST at some moment, or again after a cut, is then the same as what was told
or would have been told: there is nothing to remember.
"""

import random
from functools import lru_cache

FIVE_MINUTES = 300_000
"""Milliseconds."""


@lru_cache(1 << 17)
def _knot(seed: int, name: str, number: int) -> float:
    return random.Random(f"{seed}:{name}:{number}").uniform(-1.0, 1.0)


def wave(seed: int, name: str, time: int, step: int) -> float:
    """A number from -1 to 1, on a straight line between the multiples of `step` milliseconds."""
    number, rest = divmod(time, step)
    low, high = _knot(seed, name, number), _knot(seed, name, number + 1)
    return low + (high - low) * rest / step


def long_share(seed: int, name: str, symbol: str, row: int) -> float:
    """The share of longs, between 0.35 and 0.65, to four digits, as of one row of a statistic."""
    slow = wave(seed, f"{name}:{symbol}", row, 36 * FIVE_MINUTES)
    fast = wave(seed, f"{name}:{symbol}:fast", row, FIVE_MINUTES)
    return round(0.5 + 0.1 * slow + 0.05 * fast, 4)


def row_times(now: int, period: int, limit: int) -> list[int]:
    """The last `limit` multiples of `period` up to now, oldest first; all in milliseconds."""
    last = now - now % period
    return [last - back * period for back in reversed(range(limit))]


_CALM = 10_000
"""Milliseconds between the turns of a volatility index; between two turns it is a line."""


def volatility(seed: int, name: str, second: int) -> float:
    """The volatility index at a second since the epoch, in percent points to two digits."""
    at = second * 1_000
    slow = wave(seed, f"dvol:{name}", at, 360 * _CALM)
    fast = wave(seed, f"dvol:{name}:fast", at, _CALM)
    return round(50.0 + 8.0 * slow + 0.5 * fast, 2)


def candle(seed: int, name: str, first: int, last: int) -> tuple[float, float, float, float]:
    """Open, high, low and close of the index over the seconds `first` to `last`, both included.

    Its extremes are where it turns, so no second between two turns has to be looked at.
    """
    output = _CALM // 1_000
    outputs = range(first - first % output + output, last, output)
    values = [volatility(seed, name, second) for second in (first, *outputs, last)]
    return values[0], max(values), min(values), values[-1]
