"""What Binance's answers over REST mean beside their data. Pure.

Limits and bans: https://developers.binance.com/docs/binance-spot-api-docs/rest-api/limits
Codes: https://developers.binance.com/docs/binance-spot-api-docs/errors
"""

import re
from typing import Final

import attrs

from marketprism.clock import MILLISECOND
from marketprism.feeds.binance.messages import UNREADABLE
from marketprism.feeds.binance.rest_messages import Failure, read_failure
from marketprism.feeds.http_answers import (
    FORBIDDEN,
    STOPS,
    HttpAnswer,
    Meaning,
    later,
    seconds_until,
    usual,
)

USED_WEIGHT: Final = "x-mbx-used-weight-1m"
TOO_MANY: Final = -1003
"""Too much was asked, whatever the status says."""
UNKNOWN: Final = frozenset({-1121, -4108})
"""No such symbol; it is not traded any more. All other codes may be the moment's."""
MOST_BYTES: Final = 4096
"""A larger body is no error."""

_banned_until: Final = re.compile(rb"banned until ([0-9]{1,18})").search


def interpret(answer: HttpAnswer, wall: int) -> Meaning:
    """Its own count of weight; a ban, of which the body says the end in milliseconds of its clock
    (`IP banned until 1516180405741`); and whether an error passes.
    """
    meaning = attrs.evolve(usual(answer, wall), used_weight=_weight(answer))
    if len(answer.body) > MOST_BYTES:
        return meaning
    failure, banned = _failure(answer.body), _banned_until(answer.body)
    if failure is not None:
        meaning = attrs.evolve(
            meaning, error=f"{failure.code}: {failure.msg[:200]}", passes=_passes(answer, failure)
        )
    if banned:
        until = seconds_until(int(banned[1]) * MILLISECOND, answer, wall)
        waits = later(meaning.retry_after, until)
        error = meaning.error or "banned"
        return attrs.evolve(meaning, error=error, passes=True, stop=STOPS[418], retry_after=waits)
    if failure is not None and failure.code == TOO_MANY:
        return attrs.evolve(meaning, passes=True, stop=meaning.stop or STOPS[429])
    return meaning


def _weight(answer: HttpAnswer) -> int | None:
    said = answer.headers.get(USED_WEIGHT, "")
    return int(said) if said.isascii() and said.isdigit() and len(said) < 10 else None


def _failure(body: bytes) -> Failure | None:
    """The error that a body tells, if it does: also under a status that means success."""
    try:
        failure = read_failure(body)
    except UNREADABLE:
        return None
    return failure if failure.code < 0 else None


def _passes(answer: HttpAnswer, failure: Failure) -> bool:
    return answer.status not in FORBIDDEN and failure.code not in UNKNOWN
