"""What counts as a number: plain decimals, and exponents that are written out."""

from collections.abc import Callable
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketprism import decimals
from marketprism.decimals import NotANumber, from_json, known, signed, unsigned

PLAIN = ["0", "0.0", "0.00000001", "7", "10", "100.50", "9" * 64, "0." + "9" * 64]
BAD = ["", "00", "007.50", "01", "00.5", ".5", "5.", "+1", " 1", "1 ", "1\n", "NaN", "Infinity"]
BAD += ["1_000", "١٢", "1,5", "0x10", "9" * 65, "0." + "9" * 65, "1e", "e5", "1e5.0", "1e1000"]
BAD += ["1E99", "01E5", "1e--5", "1e 5", "1e٥"]


@pytest.mark.parametrize("text", PLAIN)
def test_a_plain_number_is_itself(text: str) -> None:
    """To the letter."""
    assert unsigned(text) is text
    assert signed(text) is text
    assert signed(f"-{text}") == f"-{text}"
    assert from_json(text.encode()) == from_json(f'"{text}"'.encode()) == text


@pytest.mark.parametrize("text", [*BAD, "-1", "-1e5", "-00"])
def test_all_else_is_none(text: str) -> None:
    """A zero ahead of other digits too, and an exponent that would fill a page."""
    with pytest.raises(NotANumber):
        unsigned(text)
    with pytest.raises(NotANumber):
        decimals.pairs([("1", "1"), (text, "1")], [])
    with pytest.raises(NotANumber):
        decimals.levels([("1", "1", "0")], [("1", text, "0")])
    assert known(text, unsigned) is None


@pytest.mark.parametrize("text", ["-", "--1", "-.5", *(f"-{text}" for text in BAD)])
def test_a_sign_makes_nothing_a_number(text: str) -> None:
    """Of rates, which may be negative."""
    with pytest.raises(NotANumber):
        signed(text)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("1E-8", "0.00000001"),
        ("1.50e3", "1500"),
        ("2.5E+1", "25"),
        ("0E-8", "0.00000000"),
        ("100e0", "100"),
    ],
)
def test_an_exponent_is_written_out(text: str, plain: str) -> None:
    """Exactly; in levels with all that stands beside it."""
    assert unsigned(text) == from_json(text.encode()) == plain
    assert signed(f"-{text}") == f"-{plain}"
    level = [("1.5", text)]
    assert decimals.pairs([], list(level)) == ([], [("1.5", plain)])
    assert decimals.levels([("1.5", text, "0", "1")], []) == ([("1.5", plain)], [])


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=0), st.sampled_from("eE"))
def test_what_is_accepted_is_exact(number: Decimal, letter: str) -> None:
    """However it is spelled."""
    for text in (str(number), f"{number:e}".replace("e", letter)):
        try:
            written = unsigned(text)
        except NotANumber:
            continue
        assert Decimal(written) == Decimal(text)
        assert set(written) <= set("0123456789.")


def test_levels_that_are_plain_are_the_very_same() -> None:
    """Nothing is copied."""
    bids, asks = [("1", "2")], [("3", "4")]
    reads: list[Callable[..., object]] = [decimals.pairs, decimals.levels]
    for read in reads:
        sides = read(bids, asks)
        assert isinstance(sides, tuple)
        assert sides[0] is bids
        assert sides[1] is asks


def test_a_comma_within_a_text_is_not_two_numbers() -> None:
    """Texts are matched together."""
    for text in ("1,5", "1,", ",1"):
        with pytest.raises(NotANumber):
            decimals.pairs([(text, "1")], [])
