"""The book, against a naive one."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from marketprism.orderbook import OrderBook

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
