"""The rule by which prices are written."""

import pytest
from hypothesis import given
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
    ("standing", "price", "others"),
    [
        (BINANCE, "100.1", {"100.10"}),
        (BINANCE, "100.100", {"100.10"}),
        (BINANCE, "7", {"7.00"}),
        (BINANCE, "7.123", set()),
        (OKX, "100.10", {"100.1"}),
        (OKX, "99.0", {"99"}),
        (["100.5", "7.50"], "7.5", {"7.5", "7.50"}),
        (["100.5", "7.50"], "8", {"8.0", "8.00"}),
        (["100", "7.50"], "70", {"70", "70.00"}),
    ],
)
def test_a_price_that_breaks_the_rule_is_looked_up_by_its_value(
    standing: list[str], price: str, others: set[str]
) -> None:
    """In the texts in which that number may stand."""
    spelling = Spelling(standing)
    assert not spelling.covers(levels(price))
    assert set(spelling.others(price)) == others


@given(
    st.lists(st.tuples(st.integers(0, 99), st.integers(0, 3)), max_size=20),
    st.integers(0, 20),
)
def test_what_it_covers_stands_in_no_other_text(written: list[tuple[int, int]], known: int) -> None:
    """However prices come to stand, and whatever was written before: two texts of one number are
    never both taken as they are, and what stands is found.
    """
    texts = [f"{tenths / 10:.{places}f}" for tenths, places in written if places or not tenths % 10]
    standing: dict[float, str] = {}
    for text in texts[:known]:
        standing.setdefault(float(text), text)
    spelling = Spelling(standing.values())
    for text in texts[known:]:
        stands = standing.get(float(text))
        if spelling.covers(levels(text)):
            assert stands in (None, text)
        elif stands is not None:
            assert stands == text or stands in spelling.others(text)
        if stands is None:
            spelling.admit(text, standing.values())
            standing[float(text)] = text
