"""A host's allowance, under no clock but the one that is handed in."""

from hypothesis import given
from hypothesis import strategies as st

from marketprism.clock import SECOND
from marketprism.feeds.budget import Budget

LIMIT, PERIOD = 100, 60.0

asked = st.lists(st.tuples(st.integers(0, 40 * SECOND), st.integers(1, 120)), max_size=60)


def granted(budget: Budget, wishes: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """When each wish, made so long after the one before, is granted, and its weight."""
    now, grants = 0, []
    for pause, weight in wishes:
        now += pause
        now += budget.wait(weight, now)
        assert budget.wait(weight, now) == 0
        budget.spend(weight, now)
        grants.append((now, weight))
    return grants


@given(asked)
def test_no_stretch_of_a_period_holds_more_than_the_limit(wishes: list[tuple[int, int]]) -> None:
    """Wherever the host's own windows begin; only a weight above it all goes alone."""
    grants = granted(Budget(LIMIT, PERIOD), wishes)
    for start, _ in grants:
        within = [weight for at, weight in grants if start <= at < start + PERIOD * SECOND]
        assert sum(within) <= LIMIT or len(within) == 1


@given(asked, st.integers(1, 120))
def test_nobody_waits_without_need(wishes: list[tuple[int, int]], weight: int) -> None:
    """A nanosecond earlier there was no room."""
    budget = Budget(LIMIT, PERIOD)
    now = granted(budget, wishes)[-1][0] if wishes else 0
    wait = budget.wait(weight, now)
    if wait:
        assert budget.wait(weight, now + wait - 1) == 1


def test_the_hosts_own_count_counts_where_it_is_larger() -> None:
    """Others use our address; and what is still on its way the host has not counted."""
    budget = Budget(LIMIT, PERIOD)
    budget.spend(50, 0)
    budget.observed(30, 1)
    assert budget.used == 50
    budget.observed(90, 10 * SECOND)
    assert budget.used == 90
    assert budget.wait(20, 10 * SECOND) == 50 * SECOND
    assert budget.wait(70, 10 * SECOND) == 60 * SECOND


def test_what_was_spent_is_forgotten_a_period_later() -> None:
    """To the nanosecond, and it alone."""
    budget = Budget(LIMIT, PERIOD)
    budget.spend(60, 0)
    budget.spend(40, 30 * SECOND)
    assert budget.wait(60, 60 * SECOND - 1) == 1
    assert budget.wait(60, 60 * SECOND) == 0
    assert budget.used == 40
