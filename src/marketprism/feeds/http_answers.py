"""What an HTTP answer means beside its data: stop, ask again soon, or ask again slowly. Pure.

HTTP says some of it the same everywhere (`usual`). An exchange has headers, codes and words of its
own for it; how those are read, its venue declares.
"""

import re
from collections.abc import Callable, Mapping
from email.utils import mktime_tz, parsedate_tz
from typing import Final, NamedTuple

import attrs

from marketprism.clock import SECOND

FORBIDDEN: Final = (401, 403, 451)
"""Statuses that mean us, or our place: not the moment."""
PASSING: Final = (408, 425, 429, 418)
"""Those of 4xx that mean the moment."""
SHORTEST_STOP, LONGEST_STOP = 1.0, 3 * 86_400.0
"""Seconds. What a host says is believed up to the longest ban that an exchange announces: Binance's
go from 2 minutes to 3 days.
https://developers.binance.com/docs/binance-spot-api-docs/rest-api/limits
"""

_seconds: Final = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?").fullmatch


class Guess(NamedTuple):
    """How many seconds to stop where a host does not say, or says what cannot be: the first time,
    twice as many each time it says so again, and at most.
    """

    first: float
    longest: float


STOPS: Final[Mapping[int, Guess]] = {429: Guess(10.0, 30.0), 418: Guess(120.0, 1800.0)}
"""The statuses by which a host says stop: asked too much, and banned for not having heeded that."""


@attrs.frozen
class HttpAnswer:
    """One answer, good or bad, over REST or to a handshake."""

    status: int
    headers: Mapping[str, str]
    """By their names in lower case."""
    body: bytes = b""


@attrs.frozen
class Meaning:
    """What an answer means."""

    error: str | None = None
    """Why it is of no use, in words; None: it is what was asked for."""
    passes: bool = True
    """The reason for that is the moment's: ask again with the ordinary backoff. Else slowly."""
    stop: Guess | None = None
    """Nobody may call this host for now: for `retry_after`, else for so long."""
    retry_after: float | None = None
    """Seconds that the host says itself, and that can be believed."""
    used_weight: int | None = None
    """The host's own count of what was used in its current window."""


def worded(status: int, meaning: Meaning) -> str:
    """A status, with the exchange's own words where it has any."""
    own = meaning.error not in (None, f"status {status}")
    return f"status {status}" + f" ({meaning.error})" * own


Interpret = Callable[[HttpAnswer, int], Meaning]
"""What an answer means; the time is ours, wall nanoseconds."""


def usual(answer: HttpAnswer, wall: int) -> Meaning:
    """What HTTP itself says."""
    status = answer.status
    if status == 200:
        return Meaning()
    return Meaning(
        f"status {status}",
        not 400 <= status < 500 or status in PASSING,
        STOPS.get(status),
        _retry_after(answer.headers.get("retry-after", ""), answer, wall),
    )


def seconds_until(until: int, answer: HttpAnswer, wall: int) -> float | None:
    """Seconds to a time (nanoseconds) that an answer names; None where that cannot be believed.

    It is by the exchange's clock, and so is the answer's own date: where there is one, it does not
    matter what our clock says.
    """
    said = _date(answer.headers.get("date", ""))
    return believable((until - (wall if said is None else said)) / SECOND)


def believable(seconds: float) -> float | None:
    """A time to wait, when it can be meant: not in the past, nor longer than any ban."""
    return max(seconds, SHORTEST_STOP) if 0 <= seconds <= LONGEST_STOP else None


def later(*waits: float | None) -> float | None:
    """The longest of those that are known."""
    return max((wait for wait in waits if wait is not None), default=None)


def _retry_after(text: str, answer: HttpAnswer, wall: int) -> float | None:
    """`Retry-After`: seconds, or a date (RFC 9110, 10.2.3)."""
    if _seconds(text):
        return believable(float(text))
    until = _date(text)
    return None if until is None else seconds_until(until, answer, wall)


def _date(text: str) -> int | None:
    """An HTTP date, nanoseconds."""
    try:
        parts = parsedate_tz(text)
        return None if parts is None else mktime_tz(parts) * SECOND
    except (ValueError, OverflowError, TypeError, IndexError):
        return None
