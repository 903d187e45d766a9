"""Our own recovery code with one thing broken at a time: each must be seen by the judge."""

from collections.abc import Callable, Iterator
from itertools import count

import attrs
import pytest
from universe import Plan

Patch = Callable[[pytest.MonkeyPatch], None]
SMALL = 60
"""Messages that channel and outbox hold where little is to fit into memory."""


@attrs.frozen
class Mutant:
    """What is broken, and in which universes it matters."""

    patch: Patch
    venue: str | None = None
    """The only one; None: the seed's first."""
    kinds: tuple[str, ...] = ()
    """The faults that happen; none: the seed's."""
    tight: bool = False
    """Little fits into memory."""
    restarts: float = 0.0
    """See `Plan`."""
    one_by_one: float = 0.0
    """The same."""
    first: int = 0
    """The seed to begin with: it lives through those before it."""

    def plans(self) -> Iterator[Plan]:
        """Universes to look for it in, seed by seed; small ones, for there are many mutants."""
        for seed in count(self.first):
            plan = Plan.of(seed)
            yield attrs.evolve(
                plan,
                venues=(self.venue or plan.venues[0],),
                kinds=self.kinds or plan.kinds,
                channel=SMALL if self.tight else plan.channel,
                outbox=SMALL if self.tight else plan.outbox,
                restarts=self.restarts,
                one_by_one=self.one_by_one,
                busy=1.0,
            )


MUTANTS: dict[str, Mutant] = {}


def mutant(
    venue: str | None = None,
    *kinds: str,
    tight: bool = False,
    restarts: float = 0.0,
    one_by_one: float = 0.0,
    first: int = 0,
) -> Callable[[Patch], Patch]:
    """Have a patch known by its name."""

    def add(patch: Patch) -> Patch:
        MUTANTS[patch.__name__] = Mutant(patch, venue, kinds, tight, restarts, one_by_one, first)
        return patch

    return add
