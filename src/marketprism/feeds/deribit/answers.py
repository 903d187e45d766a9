"""What Deribit's errors mean, and its answers over REST beside their data. Pure.

https://docs.deribit.com/#rpc-error-codes
"""

from typing import Final

import attrs
import msgspec

from marketprism.feeds.deribit.messages import UNREADABLE, Problem
from marketprism.feeds.http_answers import FORBIDDEN, STOPS, HttpAnswer, Meaning, usual

TOO_MANY_REQUESTS: Final = 10028
"""On the websocket, Deribit closes the connection with it."""
PASSING: Final = frozenset(
    {TOO_MANY_REQUESTS, 10040, 10041, 10047, 10066, 11051, 11094, 13028, 13888}
)
"""Codes that say that Deribit cannot now, whatever it is asked for: too many requests, of one kind
or another; maintenance; not available; timed out. Of the websocket, too."""


class _Refusal(msgspec.Struct):
    error: Problem | None = None


_read: Final = msgspec.json.Decoder(_Refusal).decode


def interpret(answer: HttpAnswer, wall: int) -> Meaning:
    """The `error` of JSON-RPC, where there is one."""
    meaning, problem = usual(answer, wall), _problem(answer.body)
    if problem is None:
        return meaning
    stop = meaning.stop or (STOPS[429] if problem.number == TOO_MANY_REQUESTS else None)
    passes = problem.number in PASSING or answer.status >= 500 or stop is not None
    return attrs.evolve(
        meaning,
        error=f"{problem.code}: {problem.message[:200]}",
        passes=answer.status not in FORBIDDEN and passes,
        stop=stop,
    )


def _problem(body: bytes) -> Problem | None:
    try:
        return _read(body).error
    except UNREADABLE:
        return None
