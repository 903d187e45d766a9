"""What a seeded market of perpetuals tells beside books and trades."""

from collections.abc import Callable
from decimal import Decimal
from itertools import pairwise

import pytest

from marketprism.simulator import okx_instruments
from marketprism.simulator.binance_derivatives_rest import listing
from marketprism.simulator.events import (
    Event,
    Forced,
    Liquidations,
    Mark,
    OpenInterest,
    Snapshot,
    Update,
)
from marketprism.simulator.listings import Listing
from marketprism.simulator.market import Market, Rules

START = 1_700_000_000_050


def run(rules: Rules, symbol: str, seconds: int = 30, quotes: float = 20) -> list[Event]:
    """All events of some seconds."""
    market = Market(5, [symbol], quotes_per_second=quotes, rules=rules)
    market.step(START)
    return market.step(START + seconds * 1_000)


@pytest.mark.parametrize(
    ("found", "symbol"),
    [
        (listing, "BTCUSDT"),
        (okx_instruments.listing, "BTC-USDT-SWAP"),
        (okx_instruments.listing, "BTC-USD-SWAP"),
    ],
)
def test_marks_and_open_interest_keep_their_pace(
    found: Callable[[str], Listing], symbol: str
) -> None:
    """A mark each second, open interest each third, all near the price and worth about as much."""
    events = run(Rules(found, perpetual=True), symbol)
    marks = [event for event in events if isinstance(event, Mark)]
    assert all(late.time - early.time == 1_000 for early, late in pairwise(marks))
    assert len(marks) == 30
    for mark in marks:
        assert abs(Decimal(mark.mark) / 60_000 - 1) < Decimal("0.01")
        assert mark.time < mark.funding_time <= mark.time + 8 * 3_600_000
        assert mark.following_time - mark.funding_time == 8 * 3_600_000
    interests = [event for event in events if isinstance(event, OpenInterest)]
    assert len(interests) == 10
    for interest in interests:
        assert abs(Decimal(interest.value) / 2_000_000_000 - 1) < Decimal("0.1")
        value = Decimal(interest.base) * 60_000
        assert abs(value / Decimal(interest.value) - 1) < Decimal("0.01")


def test_liquidations_come_in_pushes_of_several() -> None:
    """Every few seconds; some orders of a push are alike, and they are not in order of time."""
    pushes = [
        event
        for event in run(Rules(listing, perpetual=True), "BTCUSDT", 300, quotes=1)
        if isinstance(event, Liquidations)
    ]
    assert 75 < len(pushes) < 300
    orders: list[tuple[Forced, ...]] = [push.orders for push in pushes]
    assert {len(each) for each in orders} >= {1, 2, 3, 4}
    assert any(len(set(each)) < len(each) for each in orders)
    assert any(early.time > late.time for each in orders for early, late in pairwise(each))
    assert all(
        push.time - 1_000 < order.time <= push.time for push in pushes for order in push.orders
    )


def test_a_market_with_perpetuals_has_the_same_trades_and_books() -> None:
    """What is told beside them takes nothing from their randomness."""
    with_more = run(Rules(listing, perpetual=True), "BTCUSDT")
    beside = Mark | OpenInterest | Liquidations
    assert [event for event in with_more if not isinstance(event, beside)] == run(
        Rules(listing), "BTCUSDT"
    )


def told(market: Market, now: int) -> list[Update]:
    """The updates up to now."""
    return [event for event in market.step(now) if isinstance(event, Update)]


def test_the_told_book_is_that_of_the_updates() -> None:
    """Whenever it is asked for, it is what a client has who heard all updates."""
    market = Market(5, ["BTCUSDT"], trades_per_second=50, quotes_per_second=200)
    market.step(START)
    bids = dict(market.first_snapshot("BTCUSDT").bids)
    for now in range(START, START + 3_000, 70):
        for update in told(market, now):
            bids.update(update.bids)
            assert update.last_id <= market.told("BTCUSDT").last_id
        kept = {price: size for price, size in bids.items() if Decimal(size)}
        assert kept == dict(market.told("BTCUSDT").bids)


def test_an_update_can_tell_the_top_of_the_book() -> None:
    """It is the best of the told book."""
    market = Market(5, ["BTCUSDT"], quotes_per_second=200, rules=Rules(tops=25))
    market.step(START)
    last = told(market, START + 2_000)[-1].top
    assert isinstance(last, Snapshot)
    whole = market.told("BTCUSDT")
    assert (last.bids, last.asks) == (whole.bids[:25], whole.asks[:25])


def test_a_quiet_book_is_told_to_be_quiet() -> None:
    """An update without levels that ends where the one before did."""
    market = Market(
        5, ["BTCUSDT"], trades_per_second=0, quotes_per_second=0, rules=Rules(keep_alive=60_000)
    )
    market.step(START)
    known = market.told("BTCUSDT").last_id
    updates = told(market, START + 200_000)
    assert [(each.first_id - 1, each.last_id, each.bids, each.asks) for each in updates] == [
        (known, known, [], [])
    ] * 3
    assert all(late.time - early.time == 60_000 for early, late in pairwise(updates))


def test_numbers_can_begin_anew() -> None:
    """One update leads from the old numbers to small ones, and the chain goes on from there."""
    market = Market(5, ["BTCUSDT"], quotes_per_second=200, rules=Rules(id_step=4))
    market.step(START)
    before = told(market, START + 500)
    market.renumber("BTCUSDT")
    after = told(market, START + 1_500)
    assert after[0].first_id == before[-1].last_id + 1
    assert after[0].last_id < 1_000 < before[-1].last_id
    assert all(late.first_id == early.last_id + 1 for early, late in pairwise(after))
    assert market.told("BTCUSDT").last_id == after[-1].last_id
