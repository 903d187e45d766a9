"""Figures that depend on a seed, a name and the time only."""

from forms import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from marketprism.simulator.figures import candle, long_share, row_times, volatility, wave

NOW = 1_700_000_000
few = settings(max_examples=examples(25), deadline=None)


@few
@given(st.integers(0, 2**32), st.integers(0, 10**13), st.integers(1, 10**6))
def test_a_wave_stays_within_one_and_is_repeatable(seed: int, time: int, step: int) -> None:
    """It depends on what it is given, and on nothing else."""
    value = wave(seed, "name", time, step)
    assert -1.0 <= value <= 1.0
    assert wave(seed, "name", time, step) == value
    assert -1.0 <= wave(seed, "other", time, step) <= 1.0


@few
@given(st.integers(0, 2**32), st.integers(NOW, NOW + 10**6), st.integers(0, 400))
def test_a_candle_is_that_of_all_its_seconds(seed: int, first: int, length: int) -> None:
    """Open, high, low and close are those of the values told each second."""
    values = [volatility(seed, "btc_usd", first + second) for second in range(length + 1)]
    expected = values[0], max(values), min(values), values[-1]
    assert candle(seed, "btc_usd", first, first + length) == expected


@few
@given(st.integers(0, 2**32), st.integers(0, 10**13))
def test_shares_of_longs_are_plausible(seed: int, row: int) -> None:
    """Between a third and two thirds, to four digits."""
    share = long_share(seed, "top position", "BTCUSDT", row)
    assert 0.34 < share < 0.66
    assert share == round(share, 4)


def test_rows_end_with_the_present_one() -> None:
    """Multiples of the period, oldest first."""
    assert row_times(1_234, 500, 3) == [0, 500, 1_000]
    assert row_times(1_000, 500, 1) == [1_000]
