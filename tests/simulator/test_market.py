"""The seeded market: its messages agree with each other, whatever the seed."""

from collections.abc import Iterator
from decimal import Decimal
from itertools import pairwise

import pytest
from forms import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from marketprism.simulator.events import Aggregate, Event, Snapshot, Trade, Update
from marketprism.simulator.listings import listing
from marketprism.simulator.market import Market

pytestmark = pytest.mark.once

SYMBOL = "BTCUSDT"
START = 1_700_000_000_050

seeds = st.integers(0, 2**32)
few = settings(max_examples=examples(15), deadline=None)


def busy(seed: int) -> Market:
    """A market in which much happens."""
    return Market(seed, [SYMBOL], trades_per_second=100, quotes_per_second=200)


def run(market: Market, seconds: int = 4) -> list[Event]:
    """All events of some seconds, by steps of 70 ms."""
    market.step(START)
    return [
        event
        for elapsed in range(70, seconds * 1_000, 70)
        for event in market.step(START + elapsed)
    ]


def rebuilt(snapshot: Snapshot, updates: Iterator[Update]) -> tuple[dict[str, str], dict[str, str]]:
    """The sides of a book, kept by a client from a snapshot on."""
    bids, asks = dict(snapshot.bids), dict(snapshot.asks)
    for update in updates:
        for side, levels in ((bids, update.bids), (asks, update.asks)):
            for price, quantity in levels:
                side[price] = quantity
                if not Decimal(quantity):
                    del side[price]
    return bids, asks


@few
@given(seeds)
def test_ids_are_contiguous(seed: int) -> None:
    """Trades, aggregates and book changes are numbered without a hole."""
    events = run(busy(seed))
    trades = [event.trade_id for event in events if isinstance(event, Trade)]
    aggregates = [event.aggregate_id for event in events if isinstance(event, Aggregate)]
    updates = [event for event in events if isinstance(event, Update)]
    assert len(trades) > 50
    assert trades == list(range(trades[0], trades[0] + len(trades)))
    assert aggregates == list(range(aggregates[0], aggregates[0] + len(aggregates)))
    assert all(late.first_id == early.last_id + 1 for early, late in pairwise(updates))
    assert all(update.first_id <= update.last_id for update in updates)
    assert all(update.time % 100 == 0 for update in updates)


@few
@given(seeds)
def test_events_are_in_order_of_time(seed: int) -> None:
    """No event is older than the one before it, over all symbols."""
    times = [event.time for event in run(Market(seed, quotes_per_second=100))]
    assert times == sorted(times)


@few
@given(seeds)
def test_book_is_never_crossed_and_keeps_some_hundreds_of_levels(seed: int) -> None:
    """The best bid is below the best ask at any moment, and neither side runs dry."""
    market = busy(seed)
    market.step(START)
    for elapsed in range(100, 4_000, 100):
        market.step(START + elapsed)
        book = market.snapshot(SYMBOL)
        assert Decimal(book.bids[0][0]) < Decimal(book.asks[0][0])
        assert all(Decimal(high[0]) > Decimal(low[0]) for high, low in pairwise(book.bids))
        assert all(Decimal(low[0]) < Decimal(high[0]) for low, high in pairwise(book.asks))
        assert 100 <= len(book.bids) <= 501
        assert 100 <= len(book.asks) <= 501


@few
@given(seeds)
def test_updates_lead_from_one_snapshot_to_the_next(seed: int) -> None:
    """A book kept by the updates alone is the book of the market."""
    market = busy(seed)
    events = run(market)
    updates = (event for event in events if isinstance(event, Update))
    # Bring the end to a batch, so that all changes have been told.
    last = market.step(START + 4_050 - 4_050 % 100 + 50)
    told = (event for event in last if isinstance(event, Update))
    bids, asks = rebuilt(market.first_snapshot(SYMBOL), iter([*updates, *told]))
    book = market.snapshot(SYMBOL)
    assert bids == dict(book.bids)
    assert asks == dict(book.asks)


@few
@given(seeds)
def test_an_aggregate_is_the_sum_of_its_trades(seed: int) -> None:
    """Each aggregate covers the trades since the one before, all at its price and side."""
    events = run(busy(seed))
    trades = {event.trade_id: event for event in events if isinstance(event, Trade)}
    aggregates = [event for event in events if isinstance(event, Aggregate)]
    for each in aggregates:
        parts = [trades[ident] for ident in range(each.first_trade_id, each.last_trade_id + 1)]
        assert sum(Decimal(part.quantity) for part in parts) == Decimal(each.quantity)
        assert {part.price for part in parts} == {each.price}
        assert {part.buyer_is_maker for part in parts} == {each.buyer_is_maker}
    assert all(
        late.first_trade_id == early.last_trade_id + 1 for early, late in pairwise(aggregates)
    )


def test_a_trade_takes_its_quantity_from_the_best_level() -> None:
    """With no makers at work, the books before and after differ by the trades, from the best on."""
    market = Market(7, [SYMBOL], trades_per_second=50, quotes_per_second=0)
    market.step(START)
    seen = 0
    for elapsed in range(10, 2_000, 10):
        before = market.snapshot(SYMBOL)
        trades = [e for e in market.step(START + elapsed) if isinstance(e, Trade)]
        after = market.snapshot(SYMBOL)
        for sold, old, new in ((True, before.bids, after.bids), (False, before.asks, after.asks)):
            taken = [trade for trade in trades if trade.buyer_is_maker is sold]
            seen += len(taken)
            gone = sum(Decimal(q) for _, q in old) - sum(Decimal(q) for _, q in new)
            assert gone == sum(Decimal(trade.quantity) for trade in taken)
            prices = list(dict.fromkeys(trade.price for trade in taken))
            assert prices == [price for price, _ in old[: len(prices)]]
    assert seen > 20


@pytest.mark.parametrize("symbol", ["BTCUSDT", "ETHUSDT", "ETHBTC", "NEWUSDC"])
def test_prices_and_quantities_are_multiples_of_tick_and_lot(symbol: str) -> None:
    """Every number has eight decimals and lies on the symbol's grid."""
    listed = listing(symbol)
    market = Market(3, [symbol], trades_per_second=50, quotes_per_second=100)
    for event in run(market, 2):
        if isinstance(event, Update):
            levels = event.bids + event.asks
        else:
            assert isinstance(event, Trade | Aggregate)
            levels = [(event.price, event.quantity)]
            assert Decimal(event.quantity) > 0
        for price, quantity in levels:
            assert len(price.partition(".")[2]) == len(quantity.partition(".")[2]) == 8
            assert Decimal(price) > 0
            assert Decimal(price) * 10**8 % listed.tick == 0
            assert Decimal(quantity) * 10**8 % listed.lot == 0


@few
@given(seeds)
def test_the_same_seed_gives_the_same_market(seed: int) -> None:
    """Two markets of one seed agree in every event, and two of different seeds do not."""
    assert run(busy(seed), 2) == run(busy(seed), 2)
    assert run(busy(seed), 2) != run(busy(seed + 1), 2)


def test_the_size_of_the_steps_changes_nothing() -> None:
    """One step of two seconds is what many small ones are."""
    small, large = busy(4), busy(4)
    many = run(small, 2)
    large.step(START)
    assert large.step(START + 70 * (1_999 // 70)) == many


def test_symbols_do_not_disturb_each_other() -> None:
    """A symbol's events are the same whoever else is traded."""
    alone = run(Market(1, ["ETHUSDT"]))
    together = run(Market(1, ["BTCUSDT", "ETHUSDT"]))
    assert [event for event in together if event.symbol == "ETHUSDT"] == alone


def test_the_rate_of_trades_is_about_what_was_asked() -> None:
    """Fifty trades a second are fifty, give or take a fifth, over a minute."""
    market = Market(11, [SYMBOL], trades_per_second=50, quotes_per_second=100)
    trades = sum(isinstance(event, Trade) for event in run(market, 60))
    assert 0.8 < trades / (50 * 60) < 1.2


def test_an_unlisted_symbol_without_a_known_quote_is_refused() -> None:
    """A symbol that cannot be taken apart is an error that names it."""
    with pytest.raises(LookupError, match="NONSENSE"):
        Market(1, ["NONSENSE"])
