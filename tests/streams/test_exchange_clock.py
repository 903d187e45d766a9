"""How far an exchange's clock is from ours."""

import random

import attrs
import pytest

from marketprism.clock import Timestamp
from marketprism.streams.exchange_clock import LEAST, REMEMBERED, TOLERANCE, ExchangeClock

SECOND = 1_000_000_000
DAY = 86_400 * SECOND
START = 1_700_000_000 * SECOND
LATENCY = SECOND // 10


@attrs.define
class Life:
    """An exchange, and a collector whose clocks are what they are."""

    slow: int = 0
    """By how much our wall clock is slow."""
    slept: int = 0
    """How long the machine slept: its monotonic clock stood."""
    seconds: float = 0.0
    clock: ExchangeClock = attrs.field(factory=ExchangeClock)

    @property
    def stamp(self) -> int:
        """What the exchange stamps what is read now."""
        return START + round(self.seconds * SECOND) - LATENCY

    @property
    def now(self) -> Timestamp:
        true = round(self.seconds * SECOND)
        return Timestamp(START + true - self.slow, true - self.slept)

    def hear(self, count: int, ahead: int = 0) -> None:
        """So many stamps, one a second, all of them so far ahead."""
        for _ in range(count):
            self.seconds += 1
            self.clock.learn(self.stamp + ahead, self.now)

    def believes(self, ahead: int = 0) -> bool:
        """Whether it takes a stamp so far ahead."""
        return not self.clock.is_ahead(self.stamp + ahead, self.now)


def test_at_first_our_own_clock_is_what_there_is() -> None:
    """A minute ahead of it is still believed, more is not."""
    life = Life()
    assert life.clock.offset is None
    assert life.believes(TOLERANCE)
    assert not life.believes(TOLERANCE + LATENCY + 1)


def test_a_clock_that_is_slow_is_made_up_for() -> None:
    """By the median of what the exchange says, which is told."""
    life = Life(slow=DAY)
    assert not life.believes()
    life.hear(LEAST)
    assert life.clock.offset == DAY - LATENCY
    assert life.believes()
    assert not life.believes(TOLERANCE + 2 * LATENCY)


def test_stamps_of_a_time_to_come_do_not_move_it() -> None:
    """Nor where they are the first, or nearly half of all."""
    life = Life()
    life.hear(LEAST // 2, DAY)
    life.hear(LEAST)
    for _ in range(3 * REMEMBERED):
        life.hear(1)
        assert life.believes()
        assert not life.believes(DAY)
        life.hear(1, DAY)
    life.hear(1)
    assert life.clock.offset is not None
    assert abs(life.clock.offset) < SECOND


@pytest.mark.parametrize("step", [-3_600, 3_600, -DAY // SECOND])
def test_our_clock_may_be_set(step: int) -> None:
    """What comes then is believed all the same, at once and later."""
    life = Life()
    life.hear(60)
    life.slow = -step * SECOND
    for _ in range(2 * REMEMBERED):
        assert life.believes()
        life.hear(1)
    assert life.clock.offset == -step * SECOND - LATENCY


def test_the_machine_may_have_slept() -> None:
    """Its monotonic clock stood; what comes is of later, and believed."""
    life = Life()
    life.hear(60)
    life.seconds += 7_200
    life.slept = 7_200 * SECOND
    for _ in range(2 * REMEMBERED):
        assert life.believes()
        life.hear(1)
    assert not life.believes(2 * TOLERANCE)


def test_a_burst_is_one_stamp_and_what_is_remembered_is_bounded() -> None:
    """However much comes."""
    life, dice = Life(), random.Random(1)
    for _ in range(20_000):
        life.seconds += dice.random() / 10
        life.clock.learn(life.stamp + dice.randrange(SECOND), life.now)
    assert life.clock.offset is not None
    assert 0 < life.clock.offset < SECOND
    kept = attrs.asdict(life.clock)
    assert len(kept["_to_wall"]["_latest"]) == len(kept["_to_wall"]["_ascending"]) == REMEMBERED
    assert kept["_to_wall"]["_ascending"] == sorted(kept["_to_wall"]["_latest"])
