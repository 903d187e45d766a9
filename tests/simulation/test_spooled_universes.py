"""Universes in which memory is small, the broker is away often, and the disk is small as well."""

from collections.abc import Sequence

import attrs
import pytest
from tally import Tally
from test_simulation import failed
from universe import Outcome, Plan, lived

from marketprism.records import Record
from marketprism.sinks import losses
from marketprism.sinks.blocks import Numbered
from marketprism.sinks.losses import Losses

FAULTS = ("broker_killed", "broker_killed", "broker_stalled", "broker_full", "acks_lost", "cut")


def spooled(seed: int, spool: int, restarts: float = 0.0) -> Outcome:
    """The seed's universe, with so many bytes of disk, and so many seconds between restarts."""
    plan = Plan.of(seed)
    # Where an answer is left out while later ones come, only who heard those knows what is stored:
    # it is sent again by a new process, which the duplicate window must see.
    left_out = ("acks_lost",) if restarts else ()
    return lived(
        attrs.evolve(
            plan,
            kinds=tuple(kind for kind in dict.fromkeys(FAULTS) if kind not in left_out),
            restarts=restarts,
            mean_gap=4.0,
            channel=100_000,
            outbox=60,
            busy=1.0,
            # What the outbox dropped of a book is healed by its next snapshot.
            snapshot_interval=10.0,
            spool=spool,
        )
    )


@pytest.mark.parametrize("seed", range(4))
def test_what_goes_by_the_disk_is_stored_as_what_does_not(seed: int, tally: Tally) -> None:
    """Nothing is lost, doubled, reordered or wrong, and with room enough nothing is dropped."""
    outcome = spooled(seed, 10**9)
    tally.add(outcome)
    assert not outcome.breaches, failed(outcome)
    assert outcome.dropped == 0


@pytest.mark.parametrize("seed", range(5))
def test_what_a_former_process_left_on_disk_is_stored_by_the_next(seed: int, tally: Tally) -> None:
    """Stopped and killed again and again, mostly with the broker away: nothing is lost without a
    gap, nothing is stored twice, and no gap is told of what was there.
    """
    outcome = spooled(seed, 10**9, restarts=25.0)
    tally.add(outcome)
    assert not outcome.breaches, failed(outcome)


@pytest.mark.parametrize("seed", range(4))
def test_what_no_disk_could_hold_lies_in_a_gap_and_books_chain(seed: int, tally: Tally) -> None:
    """The judge knows what the exchanges said: each message that went is told, and no more."""
    outcome = spooled(seed, 250_000)
    tally.add(outcome)
    assert not outcome.breaches, failed(outcome)


def test_something_is_dropped_in_these_universes() -> None:
    """Else they would say nothing; and the same seed drops the same."""
    outcomes = [spooled(seed, 250_000) for seed in (0, 0, 6)]
    assert min(outcome.dropped for outcome in outcomes) > 100
    assert outcomes[0].trace == outcomes[1].trace


def no_gap(_losses: Losses, batch: Sequence[Numbered]) -> list[Numbered]:
    """A mutant: what was dropped is nobody's business."""
    return list(batch)


def not_withheld(_record: Record) -> bool:
    """A mutant: the updates of a book go on behind what was dropped."""
    return False


def forgotten(*_: object) -> None:
    """A mutant: nobody remembers what was dropped."""


@pytest.mark.parametrize(
    ("owner", "name", "mutant"),
    [
        (Losses, "gated", no_gap),
        (losses, "_is_update", not_withheld),
        (Losses, "drop", forgotten),
    ],
)
def test_each_mutant_of_the_dropping_is_caught(
    owner: object, name: str, mutant: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the judge would be none."""
    monkeypatch.setattr(owner, name, mutant)
    assert any(spooled(seed, 250_000).breaches for seed in (0, 5, 1, 2))
