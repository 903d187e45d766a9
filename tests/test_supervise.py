"""Policies under no clock at all, the supervisor under virtual time."""

import errno
import itertools
import math

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from marketprism.errors import Lost, RateLimited, Refused, StartFailed
from marketprism.settings.supervision import BackoffConfig, IntensityConfig, SupervisionConfig
from marketprism.supervise import (
    Attempt,
    Backoff,
    BreakerState,
    CircuitBreaker,
    Conclusion,
    Ended,
    Intensity,
    conclude,
    supervise,
)

POLICY = SupervisionConfig(BackoffConfig(1, 8, 30), IntensityConfig(2, 100), refused_retry=300)


@given(st.integers(0, 2000), st.floats(0, 1, exclude_max=True))
def test_a_wait_is_a_random_part_of_a_doubling_bound(failures: int, chance: float) -> None:
    """Full jitter: anything from nothing to the bound, which stops at the cap."""
    wait = Backoff(0.5, 60, failures).wait(chance)
    assert 0 <= wait <= min(60, 0.5 * 2.0 ** min(failures, 60))
    assert math.isfinite(wait)


def test_a_wait_is_never_shorter_than_the_other_side_asks() -> None:
    """`Retry-After` wins."""
    assert Backoff(0.5, 60).wait(0.9, 42.0) == 42.0


def test_bugs_are_counted_within_their_window() -> None:
    """The third within it is one too many; an old one no longer counts."""
    intensity = Intensity(2, 100)
    assert [intensity.exceeded(at) for at in (0, 50, 101, 102)] == [False, False, False, True]


@pytest.mark.parametrize(
    ("error", "conclusion", "retry_after"),
    [
        (Lost("x"), Conclusion.TRANSIENT, None),
        (ExceptionGroup("", [Lost("x"), RateLimited("y", retry_after=9)]), "transient", 9),
        (ExceptionGroup("", [Lost("x"), Refused("y")]), Conclusion.REFUSED, None),
        (ExceptionGroup("", [Refused("x"), ValueError("y")]), Conclusion.BUG, None),
        (ExceptionGroup("", [ExceptionGroup("", [StartFailed("x")])]), Conclusion.FATAL, None),
        (KeyError("x"), Conclusion.BUG, None),
        (OSError(errno.EMFILE, "too many"), Conclusion.TRANSIENT, None),
        (ExceptionGroup("", [OSError(errno.ENFILE, "x"), Refused("y")]), Conclusion.REFUSED, None),
        (OSError(errno.EBADF, "x"), Conclusion.BUG, None),
    ],
)
def test_the_worst_of_a_group_decides(
    error: Exception, conclusion: str, retry_after: float | None
) -> None:
    """What cannot be had over a bug over a refusal over the weather."""
    end = conclude(error)
    assert end.conclusion == conclusion
    assert end.retry_after == retry_after


async def ends(
    errors: list[Exception | None], clock: trio.testing.MockClock, life: float = 0.0
) -> tuple[list[Ended], list[float]]:
    """Supervise an attempt that fails so; how each was concluded, and when each began."""
    told: list[Ended] = []
    begun: list[float] = []

    async def attempt(this: Attempt) -> None:
        begun.append(trio.current_time())
        if life:
            this.produced()
        await trio.sleep(life)
        if (error := errors[len(begun) - 1]) is not None:
            raise error

    await supervise("test", attempt, POLICY, told.append)
    return told, begun


async def test_the_weather_is_borne_for_ever(autojump_clock: trio.testing.MockClock) -> None:
    """A hundred losses, each waited for no longer than the cap."""
    told, begun = await ends([*[Lost("x")] * 100, None], autojump_clock)
    assert len(told) == 100
    waits = [later - sooner for sooner, later in itertools.pairwise(begun)]
    assert max(waits) <= 8
    assert len(set(waits)) > 50


async def test_a_long_good_life_forgets_old_failures(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """After it the wait starts from the first bound again."""
    _, begun = await ends([*[Lost("x")] * 30, None], autojump_clock, life=40)
    waits = [later - sooner - 40 for sooner, later in itertools.pairwise(begun)]
    assert max(waits) <= 1


async def test_a_refusal_is_tried_again_slowly(autojump_clock: trio.testing.MockClock) -> None:
    """Not before `refused_retry`."""
    _, begun = await ends([Refused("x"), None], autojump_clock)
    assert begun[1] - begun[0] >= 300


async def test_bugs_beyond_the_intensity_end_it(autojump_clock: trio.testing.MockClock) -> None:
    """Two are borne; the third leaves the supervisor, as itself."""
    with pytest.raises(KeyError):
        await ends([KeyError("a"), KeyError("b"), KeyError("c")], autojump_clock)


async def test_a_start_that_fails_is_not_tried_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """It needs somebody's hand."""
    with pytest.raises(StartFailed):
        await ends([StartFailed("x"), None], autojump_clock)


async def test_a_cancellation_is_nobodys_failure(autojump_clock: trio.testing.MockClock) -> None:
    """It passes through, also out of a nursery, and is not told."""
    told: list[Ended] = []

    async def attempt(_life: Attempt) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            await trio.sleep_forever()

    with trio.move_on_after(5) as scope:
        await supervise("test", attempt, POLICY, told.append)
    assert scope.cancelled_caught
    assert told == []


def test_a_breaker_opens_after_failures_in_a_row_and_probes_with_one() -> None:
    """Closed, open, half-open: one caller may try, and what it finds decides."""
    breaker, second = CircuitBreaker(3, 30), 1_000_000_000
    for _ in range(2):
        breaker.failed(0)
    breaker.succeeded()
    for _ in range(3):
        assert breaker.admit(0) == 0
        breaker.failed(0)
    assert breaker.state(0) is BreakerState.OPEN
    assert breaker.admit(10 * second) == 20 * second
    assert breaker.state(30 * second) is BreakerState.HALF_OPEN
    assert breaker.admit(30 * second) == 0
    assert breaker.admit(31 * second) > 0
    breaker.failed(32 * second)
    assert breaker.state(33 * second) is BreakerState.OPEN
    assert breaker.admit(62 * second) == 0
    breaker.succeeded()
    assert breaker.state(62 * second) is BreakerState.CLOSED


def test_a_probe_that_never_tells_does_not_lock_the_breaker() -> None:
    """It was cancelled, say: after the recovery time another may try."""
    breaker, second = CircuitBreaker(1, 30), 1_000_000_000
    breaker.failed(0)
    assert breaker.admit(30 * second) == 0
    assert breaker.admit(59 * second) > 0
    assert breaker.admit(60 * second) == 0
