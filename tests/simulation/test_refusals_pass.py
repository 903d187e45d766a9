"""Universes in which exchanges refuse, answer oddly or not at all, and halt markets."""

import attrs
import pytest
from chaos import SAID
from tally import Tally
from universe import Plan, lived

SEEDS = range(12)
PARTS = 6
"""Tests that the seeds are dealt to, so that all cores have some."""


def plan(seed: int) -> Plan:
    """A seed's universe, with these kinds of faults beside cuts and losses."""
    kinds = (*sorted(SAID), "cut", "skip")
    return attrs.evolve(Plan.of(seed), kinds=kinds, restarts=0.0, busy=1.0)


@pytest.mark.parametrize("part", range(PARTS))
def test_nothing_an_exchange_says_is_for_ever(part: int, seeds: int | None, tally: Tally) -> None:
    """Nothing lost without a gap, doubled or out of order, and all live within a minute."""
    for seed in (SEEDS if seeds is None else range(seeds))[part::PARTS]:
        outcome = lived(plan(seed))
        tally.add(outcome)
        assert not outcome.breaches, f"seed {seed}: {outcome.breaches[:8]}"
