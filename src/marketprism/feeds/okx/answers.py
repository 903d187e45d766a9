"""What OKX's answers over REST mean beside their data. Pure.

Errors stand in the body, also under status 200: `code` is read before `data`.
https://www.okx.com/docs-v5/en/#error-code
"""

from typing import Final

import attrs

from marketprism.feeds.http_answers import FORBIDDEN, Guess, HttpAnswer, Meaning, usual
from marketprism.feeds.okx.messages import answer_error

TOO_MANY: Final = "50011"
PASSING: Final = frozenset({TOO_MANY, "50001", "50013", "50026"})
"""Too many requests; not available; busy; a system error."""
STOPPED_FOR: Final = Guess(2.0, 30.0)
"""OKX counts in windows of two seconds."""


def interpret(answer: HttpAnswer, wall: int) -> Meaning:
    """The body's own error, where it tells one."""
    meaning, error = usual(answer, wall), answer_error(answer.body)
    if error is None:
        return meaning
    passes = error.code in PASSING or answer.status >= 500
    stop = meaning.stop or (STOPPED_FOR if error.code == TOO_MANY else None)
    return attrs.evolve(
        meaning,
        error=str(error),
        passes=answer.status not in FORBIDDEN and (passes or stop is not None),
        stop=stop,
    )
