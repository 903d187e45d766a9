"""From contracts to the base asset, and how often funding is told."""

from decimal import ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction

import attrs
import pytest
from forms import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from okx_line import BTC, INVERSE, SWAP

from marketprism.decimals import NotANumber, unsigned
from marketprism.feeds.contracts import base_quantity, contract_size
from marketprism.feeds.sampling import FundingSampling

PLAIN = st.from_regex(
    r"(0|[1-9][0-9]{0,14})(\.[0-9]{1,12})?", fullmatch=True, alphabet="0123456789."
)
SIZES = st.sampled_from(["0.01", "0.1", "1", "10", "0.000001", "1000000", "0.0001"])


@settings(max_examples=examples(300))
@given(contracts=PLAIN, size=SIZES, price=PLAIN)
def test_linear_is_exact(contracts: str, size: str, price: str) -> None:
    """Contracts × contract size, in plain notation."""
    said = base_quantity(attrs.evolve(SWAP, contract_size=size), contracts, price)
    assert Fraction(unsigned(said)) == Fraction(contracts) * Fraction(size)


@settings(max_examples=examples(300))
@given(contracts=PLAIN, size=SIZES, price=PLAIN)
def test_inverse_is_rounded_half_even_to_twelve_digits(
    contracts: str, size: str, price: str
) -> None:
    """Contracts × contract value ÷ price, in plain notation."""
    instrument = attrs.evolve(INVERSE, contract_size=size)
    if Fraction(contracts) == 0:
        assert base_quantity(instrument, contracts, price) == contracts
        return
    if Fraction(price) == 0:
        with pytest.raises(NotANumber):
            base_quantity(instrument, contracts, price)
        return
    said = base_quantity(instrument, contracts, price)
    value = Context(prec=100).multiply(Decimal(contracts), Decimal(size))
    model = Context(prec=12, rounding=ROUND_HALF_EVEN).divide(value, Decimal(price))
    assert Decimal(unsigned(said)) == model


def test_what_is_not_counted_in_contracts_stays_as_it_came() -> None:
    """To the letter, and so does a zero, which removes."""
    assert base_quantity(BTC, "1.500", "2") == "1.500"
    assert base_quantity(SWAP, "0", "2") == "0"
    assert base_quantity(INVERSE, "0.0", "2") == "0.0"


def test_no_quantity_is_ever_written_with_an_exponent() -> None:
    """Neither a small nor a large one."""
    small = attrs.evolve(SWAP, contract_size="0.00000001")
    assert base_quantity(small, "0.01", "1") == "0.0000000001"
    assert base_quantity(INVERSE, "1", "0.00000001") == "10000000000"
    assert base_quantity(INVERSE, "1", "30000000000") == "0.00000000333333333333"


@pytest.mark.parametrize(
    ("value", "multiplier", "size"),
    [
        ("0.01", "1", "0.01"),
        ("1", "0.1", "0.1"),
        ("100", "", "100"),
        ("0.000001", "10", "0.000010"),
    ],
)
def test_a_contracts_size_is_its_value_times_its_multiplier(
    value: str, multiplier: str, size: str
) -> None:
    """Where nothing multiplies, the value itself."""
    assert contract_size(value, multiplier) == size


@given(st.lists(st.tuples(st.integers(0, 200), st.sampled_from(["1", "2"])), max_size=30))
def test_two_collectors_choose_the_same_events_once_they_know_a_rate(
    events: list[tuple[int, str]],
) -> None:
    """Whichever started earlier: from the first window that both saw begin, they agree."""
    events = sorted(events, key=lambda event: event[0])
    seconds = 1_000_000_000
    early, late = FundingSampling(), FundingSampling()
    chosen: dict[str, list[int]] = {"early": [], "late": []}
    for number, (at, rate) in enumerate(events):
        if early.due(rate, None, at * seconds):
            chosen["early"].append(number)
        if number >= 5 and late.due(rate, None, at * seconds):
            chosen["late"].append(number)
    assert set(chosen["late"][1:]) <= set(chosen["early"])
    assert {n for n in chosen["early"] if n >= 5} <= set(chosen["late"])
