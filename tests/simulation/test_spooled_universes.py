"""Universes in which memory is small, the broker is away often, and the disk is small as well."""

import attrs
import pytest
from tally import Tally
from test_simulation import failed
from universe import Outcome, Plan, lived

from marketprism.errors import SpoolFull
from marketprism.outbox.transfer import Transfer
from marketprism.pipeline.outlet import Outlet
from marketprism.records import Record

SMALL = 150_000
"""Bytes of disk that are soon full."""
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
            channel=60 if spool == SMALL else 100_000,
            outbox=60,
            busy=1.0,
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
    outcome = spooled(seed, SMALL)
    tally.add(outcome)
    assert not outcome.breaches, failed(outcome)
    assert outcome.dropped == 0, "what was accepted is thrown away"


def test_something_is_not_taken_in_in_these_universes() -> None:
    """Else they would say nothing; and the same seed loses the same."""
    outcomes = [spooled(seed, SMALL) for seed in (0, 0, 1)]
    assert all(refused(outcome) for outcome in outcomes)
    assert outcomes[0].trace == outcomes[1].trace


def refused(outcome: Outcome) -> int:
    """How many gaps tell what the channel had no room for."""
    return sum(b'"reason":"overflow"' in message.payload for message in outcome.stream)


put = Transfer.put


async def thrown_away(transfer: Transfer) -> None:
    """A mutant: what does not fit on the disk is let go."""
    try:
        await put(transfer)
    except SpoolFull:
        window = transfer._log.window
        for block in window.cut_tail(1):
            window.count(block.messages, -1)


def no_gap(outlet: Outlet, record: Record, _connection: str) -> None:
    """A mutant: what the channel had no room for is nobody's business."""


def not_withheld(_outlet: Outlet, _record: Record, _connection: str) -> bool:
    """A mutant: the updates of a book go on behind what the channel had no room for."""
    return False


@pytest.mark.parametrize(
    ("owner", "name", "mutant"),
    [
        (Transfer, "put", thrown_away),
        (Outlet, "_lose", no_gap),
        (Outlet, "_withheld", not_withheld),
    ],
)
def test_each_mutant_of_the_full_disk_is_caught(
    owner: object, name: str, mutant: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the judge would be none."""
    monkeypatch.setattr(owner, name, mutant)
    assert any(spooled(seed, SMALL).breaches for seed in range(4))
