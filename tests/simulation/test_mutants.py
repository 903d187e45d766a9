"""R2: a checker that cannot fail is no checker."""

from collections.abc import Callable
from itertools import islice

import mutants_delivery
import mutants_refusals
import mutants_restart
import mutants_rotation
import mutants_streams
import pytest
from mutants import MUTANTS
from tally import Tally
from universe import Plan, lived

MOST_SEEDS = 20
ROOMS = (mutants_delivery, mutants_refusals, mutants_restart, mutants_rotation, mutants_streams)
"""Where they stand; imported, they are known."""


@pytest.mark.parametrize("name", MUTANTS)
def test_each_mutant_of_our_recovery_is_caught(
    name: str, monkeypatch: pytest.MonkeyPatch, say: Callable[[str], None]
) -> None:
    """Within a few seeds, by what the judge says of the stored stream."""
    mutant = MUTANTS[name]
    mutant.patch(monkeypatch)
    for plan in islice(mutant.plans(), MOST_SEEDS):
        if breaches := lived(plan).breaches:
            say(f"killed by seed {plan.seed}: {name} ({breaches[0][:60]})")
            return
    pytest.fail(f"{name} survived {MOST_SEEDS} seeds")


FIRST_PLANS = {next(mutant.plans()): name for name, mutant in MUTANTS.items()}
"""Many are looked for in the same universes: one of their names says which."""


@pytest.mark.parametrize("plan", FIRST_PLANS, ids=FIRST_PLANS.values())
def test_without_the_mutation_the_same_universe_is_sound(plan: Plan, tally: Tally) -> None:
    """What kills a mutant is the mutation, not the universe it was looked for in."""
    outcome = lived(plan)
    tally.add(outcome)
    assert outcome.breaches == []
