"""The rule by which prices are written."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketprism.spelling import Spelling

BINANCE = ["100.10", "99.00", "0.25", "100000.00"]
OKX = ["100.1", "99", "0.25", "100000", "70"]


def levels(*prices: str) -> list[tuple[str, str]]:
    """Those prices, at some quantity."""
    return [(price, "1") for price in prices]


@pytest.mark.parametrize("prices", [BINANCE, OKX, ["100", "70"], []])
@pytest.mark.parametrize("known", range(5))
def test_what_an_exchange_writes_by_its_rule_is_never_looked_up(
    prices: list[str], known: int
) -> None:
    """Whatever rule that is: the ordinary case costs one look at each price."""
    spelling = Spelling(prices[:known])
    for place, price in enumerate(prices[known:], known):
        spelling.admit(price, prices[:place])
    assert spelling.covers(levels(*prices))


@pytest.mark.parametrize(
    ("standing", "price", "found"),
    [
        (BINANCE, "100.1", "100.10"),
        (BINANCE, "100.100", "100.10"),
        (BINANCE, "99", "99.00"),
        (BINANCE, "7.123", None),
        (BINANCE, "7", None),
        (OKX, "100.10", "100.1"),
        (OKX, "99.0", "99"),
        (OKX, "9.90", None),
        (["100.5", "7.50"], "7.5", "7.50"),
        (["100.5", "7.50"], "7.500", "7.50"),
        (["100.5", "7.50"], "100.50", "100.5"),
        (["100", "7.50"], "100.0", "100"),
        (["100", "7.50"], "100.000", "100"),
        (["100.000", "7.50"], "100", "100.000"),
    ],
)
def test_a_price_that_breaks_the_rule_is_looked_up_by_its_value(
    standing: list[str], price: str, found: str | None
) -> None:
    """It is what stands already, or else itself."""
    spelling = Spelling(standing)
    assert not spelling.covers(levels(price))
    assert spelling.standing(price, standing) == (found or price)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 99), st.integers(0, 3)), max_size=20),
    st.integers(0, 20),
)
def test_a_number_that_stands_is_found_in_whatever_text_it_comes(
    written: list[tuple[int, int]], known: int
) -> None:
    """However prices come to stand: and what is covered stands in no other text."""
    texts = [f"{tenths / 10:.{places}f}" for tenths, places in written if places or not tenths % 10]
    standing: dict[float, str] = {}
    for text in texts[:known]:
        standing.setdefault(float(text), text)
    spelling = Spelling(standing.values())
    for text in texts[known:]:
        stands = standing.setdefault(float(text), text)
        others = [each for each in standing.values() if each != text]
        if spelling.covers(levels(text)):
            assert stands == text
        found = spelling.standing(text, set(others))
        assert found == stands
        if found == text:
            spelling.admit(text, others)
