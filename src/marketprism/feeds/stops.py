"""Whether a host may be called, by its own word. Pure: times are monotonic nanoseconds.

One that says stop is left alone by all until then. What follows is a single call, which finds out
whether it is over; only its answer lets the others go on. So a ban that lasts hears of us once, and
one that has ended is not met by all who waited for its end.
"""

from typing import Final

import attrs

from marketprism.clock import SECOND
from marketprism.feeds.http_answers import Guess

LOOK: Final = SECOND // 4
"""How often it is looked whether the one call has been answered."""


@attrs.define(eq=False)
class Stop:
    """What one host said of being called."""

    until: int = 0
    in_force: bool = False
    """It said so, and no call has shown yet that it is over."""
    _probe: object | None = None
    """Whose call finds that out."""
    _guesses: int = 0

    def told(self, seconds: float | None, guess: Guess, now: int) -> float:
        """It says stop, for so many seconds or without a time. How many it is stopped for now.

        A stop is never shortened. Several who are told together are told once, so that only what
        is said again after its end makes a guess grow.
        """
        if seconds is None and now < self.until:
            return (self.until - now) / SECOND
        if seconds is None:
            seconds = min(guess.first * 2.0 ** min(self._guesses, 30), max(guess))
            self._guesses += 1
        self.until = max(self.until, now + round(seconds * SECOND))
        self.in_force, self._probe = True, None
        return (self.until - now) / SECOND

    def wait(self, now: int) -> int:
        """Nanoseconds after which to look again; 0: somebody may call."""
        if now < self.until:
            return self.until - now
        return LOOK if self._probe is not None else 0

    def admit(self, who: object, now: int) -> int:
        """0: this one may call, and must say how it ended: `passed`, `told`, and `left` always.
        Else as `wait`.
        """
        if (wait := self.wait(now)) == 0 and self.in_force:
            self._probe = who
        return wait

    def passed(self, who: object) -> None:
        """That call was answered, and not by a stop. Those that were made before it was told prove
        nothing.
        """
        if self._probe is who:
            self.in_force, self._probe, self._guesses = False, None, 0

    def left(self, who: object) -> None:
        """That call is over; where it found out nothing, the next one may."""
        if self._probe is who:
            self._probe = None
