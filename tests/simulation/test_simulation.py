"""R1: whatever befalls them, what is stored is what was said, and what is missing is in a gap."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from tally import Tally
from universe import VENUES, Outcome, Plan, lived

import marketprism

FIXED = range(24)
"""Seeds that every run has."""
FRESH = 32
"""How many more a run has, which no other state of the source had."""
PARTS = 32
"""Tests that the seeds are dealt to, so that all cores have some."""


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


def fresh() -> range:
    """Seeds that follow from the source: each change is tried in universes of its own, and what
    failed fails again.
    """
    source = Path(marketprism.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(source.rglob("*.py")):
        digest.update(path.read_bytes())
    first = 10**6 + int.from_bytes(digest.digest()[:4])
    return range(first, first + FRESH)


def dealt(part: int, seeds: int | None) -> Sequence[int]:
    """A part's share of so many seeds, or of the fixed and the fresh ones."""
    return ([*FIXED, *fresh()] if seeds is None else range(seeds))[part::PARTS]


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


@pytest.mark.parametrize("seed", [2])
def test_the_same_seed_gives_the_same_trace(seed: int) -> None:
    """Three times, every stored byte and every fault at the same virtual moment."""
    trace = lived(seed).trace
    assert trace == lived(seed).trace == elsewhere(seed)
    assert trace != lived(seed + 100).trace


def test_the_first_seeds_have_every_venue() -> None:
    """So that few seeds already mean something."""
    assert {Plan.of(seed).venues[0] for seed in range(len(VENUES))} == set(VENUES)
