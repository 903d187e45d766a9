"""R1: whatever befalls them, what is stored is what was said, and what is missing is in a gap."""

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from tally import Tally
from universe import VENUES, Outcome, Plan, lived

FIXED = range(32)
"""Seeds that every run has; what a part may have beyond them is fresh."""
PARTS = 16
"""Tests that the seeds are dealt to, so that all cores have some."""
MOST, BUDGET = 2, 9.0
"""Seeds of a part and seconds of real time, where no number of seeds is asked for. Two are the
fixed ones alone.
"""


def failed(outcome: Outcome) -> str:
    """What to read, and how to see it again."""
    lines = outcome.breaches[:12]
    more = len(outcome.breaches) - len(lines)
    seed = outcome.plan.seed
    return "\n".join(
        [
            f"seed {seed} ({', '.join(outcome.plan.venues)}):",
            *lines,
            *([f"… and {more} more"] if more > 0 else []),
            f"again: pytest tests/simulation/test_simulation.py -k one_seed --seed {seed}",
        ]
    )


def dealt(part: int, seeds: int | None) -> Iterator[int]:
    """A part's seeds: its share of so many, or of the fixed ones and then fresh ones while there
    is time.
    """
    if seeds is not None:
        yield from range(part, seeds, PARTS)
        return
    began = time.monotonic()
    fresh = random.SystemRandom().randrange(10**6, 10**9)
    for number, seed in enumerate([*FIXED[part::PARTS], *range(fresh, fresh + MOST)][:MOST]):
        if number >= len(FIXED[part::PARTS]) and time.monotonic() - began > BUDGET:
            return
        yield seed


@pytest.mark.parametrize("part", range(PARTS))
def test_nothing_is_lost_doubled_or_wrong_whatever_happens(
    part: int, seeds: int | None, tally: Tally
) -> None:
    """Cuts, holes, flips, skips, swaps, late and stale and failing snapshots, lost acks, kills:
    0 lost without a gap, 0 twice, 0 out of order, each book the exchange's, all live in 60 s.
    """
    for seed in dealt(part, seeds):
        outcome = lived(seed)
        tally.add(outcome)
        assert not outcome.breaches, failed(outcome)


def test_one_seed(seed: int | None, tally: Tally) -> None:
    """A seed that failed, again; without one, the first."""
    outcome = lived(0 if seed is None else seed)
    tally.add(outcome)
    assert not outcome.breaches, failed(outcome)


def elsewhere(seed: int) -> str:
    """The trace that another process comes to, whose sets have another order."""
    code = f"from universe import lived; print(lived({seed}).trace)"
    environ = os.environ | {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "PYTHONHASHSEED": f"{seed + 1}",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.mark.parametrize("seed", [2, 4])
def test_the_same_seed_gives_the_same_trace(seed: int) -> None:
    """Three times, every stored byte and every fault at the same virtual moment."""
    trace = lived(seed).trace
    assert trace == lived(seed).trace == elsewhere(seed)
    assert trace != lived(seed + 100).trace


def test_the_first_seeds_have_every_venue() -> None:
    """So that few seeds already mean something."""
    assert {Plan.of(seed).venues[0] for seed in range(len(VENUES))} == set(VENUES)
