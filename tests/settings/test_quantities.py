"""Single values of the configuration: what is read as what, and what is not read at all."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketprism.settings import quantities


@pytest.mark.parametrize(
    ("written", "seconds"),
    [(10, 10.0), (0.25, 0.25), ("500ms", 0.5), ("120s", 120.0), ("10m", 600.0), ("48h", 172_800.0)],
)
def test_durations_are_read_as_written(written: object, seconds: float) -> None:
    """Seconds, or text with a unit."""
    assert quantities.duration(written) == seconds


@pytest.mark.parametrize(
    ("written", "size"),
    [(7, 7), ("7", 7), ("1MB", 10**6), ("512KiB", 2**19), ("2GiB", 2**31), ("1.5GiB", 3 * 2**29)],
)
def test_sizes_are_read_as_written(written: object, size: int) -> None:
    """Bytes, or text with a unit; an i makes the difference it should."""
    assert quantities.size(written) == size


@pytest.mark.parametrize(
    ("written", "read"),
    [(0.7, 0.7), (1, 1), (1.0, 1), (2, 2), ("1GiB", 2**30), ("700MiB", 700 * 2**20)],
)
def test_a_share_or_a_size_is_known_by_its_look(written: object, read: float) -> None:
    """Numbers up to one are shares; whole numbers beyond, and text, are bytes."""
    assert quantities.share_or_size(written) == read


@pytest.mark.parametrize("wrong", [0, 0.0, -0.5, 1.5, 700.25, "70%", "0.7 of it", True, None])
def test_what_is_neither_share_nor_size_is_refused(wrong: object) -> None:
    """In words that name both."""
    with pytest.raises(ValueError, match=r"a share.* or a size"):
        quantities.share_or_size(wrong)


@pytest.mark.parametrize(
    "wrong", [math.nan, math.inf, -1, 10**400, True, None, "", "5 parsecs", "-5s", "1e3", "५s", []]
)
def test_no_quantity_is_read_out_of_nonsense(wrong: object) -> None:
    """What is not finite, not positive, not ASCII digits or not a number at all is refused."""
    for read in (quantities.duration, quantities.size, quantities.count, quantities.share):
        with pytest.raises(ValueError, match="must"):
            read(wrong)


@given(st.one_of(st.text(), st.integers(), st.floats(), st.booleans(), st.none()))
def test_quantities_are_finite_or_refused(value: object) -> None:
    """Whatever stands in the file, a duration is a usable number of seconds or a ValueError."""
    try:
        seconds = quantities.duration(value)
    except ValueError as error:
        assert str(error).startswith("must")
    else:
        assert 0 < seconds <= quantities.LONGEST
