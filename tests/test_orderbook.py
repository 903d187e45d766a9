"""The book, against a naive one."""

from collections.abc import Sequence
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketprism.orderbook import OrderBook
from marketprism.records import Level

prices = st.decimals("0.01", "99.99", places=2).map(str)
quantities = st.sampled_from(["0", "0.00", "1.5", "2", "10.0"])
sides = st.lists(st.tuples(prices, quantities), max_size=8)


@given(st.lists(st.tuples(sides, sides), max_size=10), st.integers(1, 5))
def test_it_is_what_a_naive_book_is(
    updates: list[tuple[list[tuple[str, str]], list[tuple[str, str]]]], depth: int
) -> None:
    """The last quantity of each price, zeros gone, best first, cut at the depth."""
    book = OrderBook([], [], 0)
    naive: tuple[dict[str, str], dict[str, str]] = ({}, {})
    for number, update in enumerate(updates, 1):
        book.apply(*update, number, number)
        for model, levels in zip(naive, update, strict=True):
            model.update(levels)
    bids = sorted(naive[0].items(), key=lambda level: Decimal(level[0]), reverse=True)
    asks = sorted(naive[1].items(), key=lambda level: Decimal(level[0]))
    expected = [[level for level in side if Decimal(level[1])][:depth] for side in (bids, asks)]
    assert list(map(list, book.top(depth))) == expected
    assert book.last_id == len(updates)


def test_prices_that_no_float_tells_apart_are_in_order_all_the_same() -> None:
    """Eighteen digits: ordered as decimals."""
    close = ["0.123456789012345678", "0.123456789012345677", "0.123456789012345679"]
    book = OrderBook([(price, "1") for price in close], [(price, "1") for price in close], 1)
    bids, asks = book.top(3)
    assert [price for price, _ in bids] == sorted(close, reverse=True)
    assert [price for price, _ in asks] == sorted(close)


@given(
    st.sets(st.integers(1, 99), min_size=1),
    st.lists(st.tuples(st.integers(1, 99), st.integers(0, 3)), max_size=60),
    st.integers(1, 12),
    st.integers(1, 12),
    st.booleans(),
)
def test_what_lies_beyond_a_cut_snapshot_is_never_shown(
    whole: set[int], changes: list[tuple[int, int]], limit: int, depth: int, bids: bool
) -> None:
    """However the market moves: what is shown is the true best, without a hole; and no less than
    is known.
    """
    truth = dict.fromkeys(whole, 5)
    shown = sorted(whole, reverse=bids)[:limit]
    side = [(f"{price}.0", "5") for price in shown]
    book = OrderBook(side if bids else [], [] if bids else side, 0, None, limit)
    assert book.ends()[bids] is None
    cut = len(shown) == limit
    assert book.ends()[not bids] == (f"{shown[-1]}.0" if cut else None)
    for price, quantity in changes:
        truth[price] = quantity
        level = [(f"{price}.0", str(quantity))]
        book.apply(level if bids else [], [] if bids else level, 0, None)
    true = sorted((price for price, quantity in truth.items() if quantity), reverse=bids)
    known = [
        price for price in true if not cut or (price >= shown[-1] if bids else price <= shown[-1])
    ]
    found = [float(level[0]) for level in book.top(depth)[not bids]]
    assert found == known[:depth]
    assert book.exhausted == (cut and not known)


# One price in several spellings.


def spelt(tenths: int, digits: int) -> str:
    """A price, with so many digits or as few as it takes."""
    return f"{tenths / 10:.{digits}f}" if digits or not tenths % 10 else f"{tenths / 10:.1f}"


SPELT = st.tuples(
    st.builds(spelt, st.integers(1, 30), st.integers(0, 3)),
    st.sampled_from(["0", "0.0", "1", "2.50", "3"]),
)
SPELT_SIDE = st.lists(SPELT, max_size=8)


def take(side: dict[str, str], levels: Sequence[Level]) -> None:
    """What somebody does who knows prices by their text."""
    for price, quantity in levels:
        side[price] = quantity
        if not Decimal(quantity):
            del side[price]


def by_value(side: dict[str, str]) -> list[tuple[Decimal, Decimal]]:
    """Each level; a price that stands twice is there twice."""
    return sorted((Decimal(price), Decimal(quantity)) for price, quantity in side.items())


@settings(deadline=None)
@given(SPELT_SIDE, SPELT_SIDE, st.lists(st.tuples(SPELT_SIDE, SPELT_SIDE), max_size=6))
def test_prices_in_any_spelling_are_one_level_to_those_who_know_them_by_text(
    bids: list[Level], asks: list[Level], updates: list[tuple[list[Level], list[Level]]]
) -> None:
    """Of the book and of what is published: as one that goes by values has it. The exchange's
    latest spelling of each is not lost.
    """
    book = OrderBook(bids, asks, 0)
    theirs = (dict(book.bids), dict(book.asks))
    values: tuple[dict[Decimal, tuple[str, str]], ...] = ({}, {})
    for number, sides in enumerate([(bids, asks), *updates]):
        if number:
            for their, levels in zip(theirs, book.apply(*sides, number, None), strict=True):
                take(their, levels)
        for value, levels in zip(values, sides, strict=True):
            for price, quantity in levels:
                value[Decimal(price)] = (price, quantity)
                if not Decimal(quantity):
                    del value[Decimal(price)]
        for ours, their, value in zip((book.bids, book.asks), theirs, values, strict=True):
            assert ours == their
            assert by_value(ours) == sorted((p, Decimal(q)) for p, (_, q) in value.items())
        for levels, value in zip(book.top_as_said(99), values, strict=True):
            assert sorted(map(tuple, levels)) == sorted(value.values())


@pytest.mark.parametrize("other", ["100.1", "100.100", "100.1000"])
def test_a_level_keeps_its_spelling_for_as_long_as_it_stands(other: str) -> None:
    """A removal in another one removes it; what comes back then is another level."""
    book = OrderBook([("100.10", "1"), ("99.00", "1")], [("101.00", "2")], 1)
    assert book.apply([(other, "3")], [], 2, None) == ([("100.10", "3")], [])
    assert book.top(1)[0] == [("100.10", "3")]
    assert book.top_as_said(1)[0] == [(other, "3")]
    assert book.apply([("100.10", "4")], [], 3, None) == ([("100.10", "4")], [])
    assert book.top_as_said(1)[0] == [("100.10", "4")]
    assert book.apply([(other, "0.00")], [], 4, None) == ([("100.10", "0.00")], [])
    assert book.top(1)[0] == [("99.00", "1")]
    book.apply([(other, "5")], [], 5, None)
    assert book.top(9)[0] == [(other, "5"), ("99.00", "1")]


def test_of_a_price_that_comes_twice_in_an_update_the_last_counts() -> None:
    """In whichever spelling, and standing or not."""
    book = OrderBook([("100", "1")], [], 1)
    assert book.apply([("100.0", "2"), ("99.0", "4"), ("99", "5")], [], 2, None)[0] == [
        ("100", "2"),
        ("99.0", "4"),
        ("99.0", "5"),
    ]
    book.apply([("100", "7"), ("100.00", "0"), ("99", "0"), ("99.00", "6")], [], 3, None)
    assert book.top(9)[0] == [("99.00", "6")]


def test_an_ordinary_update_is_handed_on_as_it_is() -> None:
    """Nothing is made anew where all is written alike."""
    book = OrderBook([("100.10", "1")], [("100.20", "1")], 1)
    bids, asks = [("100.10", "0"), ("99.90", "2")], [("100.30", "4")]
    written = book.apply(bids, asks, 2, 0)
    assert written[0] is bids
    assert written[1] is asks


@settings(deadline=None)
@given(SPELT_SIDE, SPELT_SIDE)
def test_a_book_is_written_as_another_where_both_have_a_price(
    one: list[Level], other: list[Level]
) -> None:
    """The levels stay what they were, and what follows finds them."""
    book, told = OrderBook(one, [], 1), OrderBook(other, [], 1)
    before, said = by_value(book.bids), book.top_as_said(99)[0]
    book.write_as(told)
    assert by_value(book.bids) == before
    assert book.top_as_said(99)[0] == said
    texts = {Decimal(price): price for price in told.bids}
    assert all(texts.get(Decimal(price), price) == price for price in book.bids)
    longer = [price + ("0" if "." in price else ".000") for price in book.bids]
    book.apply([(price, "0") for price in longer], [], 2, 0)
    assert book.bids == {}


def test_what_was_shown_is_kept_beyond_what_is_known() -> None:
    """Not shown again, and no further than it was shown, else a fresh book would never end; and
    by its value, as all else.
    """
    prices = ["9.0", "8.0", "7.00", "6.0", "5.0", "4.0", "3.0"]
    old = OrderBook([(price, "1") for price in prices], [], 1, None, limit=7)
    fresh = OrderBook([("9.0", "1"), ("8.0", "1")], [], 1, None, limit=2)
    fresh.apply([("6.0", "1"), ("2.0", "1")], [], 1, None)
    fresh.write_as(old, ("5.0", None))
    assert sorted(fresh.bids) == ["2.0", "5.0", "6.0", "7.00", "8.0", "9.0"]
    assert [price for price, _ in fresh.top(9)[0]] == ["9.0", "8.0"]
    assert fresh.apply([("7.0", "0")], [], 2, None)[0] == [("7.00", "0")]
    assert "7.00" not in fresh.bids
