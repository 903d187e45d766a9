"""What is told among the trades and is none: its id is heard, it is counted, and not published."""

from functools import partial
from typing import Any

import pytest
from cards import CARDS, Card, changed
from desk import Desk

from marketprism.feeds.actions import Reject
from marketprism.feeds.market_trades import NO_MARKET_TRADE, left_out
from marketprism.records import DataType, Gap, Trade

TRADES = [card for card in CARDS if card.data_type is DataType.TRADE]
EVERY = pytest.mark.parametrize("card", TRADES, ids=lambda card: card.name)


def nth(card: Card, number: int, **fields: Any) -> Any:
    """A trade of that id, a millisecond later than the one before."""
    event = card.event
    within: tuple[str | int, ...] = ("data", 0) if "data" in event else ()
    price, quantity = card.numbers[0], card.numbers[1]
    names = {"price": str(price[-1]), "quantity": str(quantity[-1])}
    said = {names.get(name, name): value for name, value in fields.items()}
    if within:
        said |= {"tradeId": str(number), "ts": str(1_700_000_000_000 + number), "count": "1"}
    else:
        said |= {"t": number, "a": number, "T": 1_700_000_000_000 + number, "f": number}
        said |= {"l": number}
    return changed(event, (*within, "x"), partial(_update, said=said))


def _update(event: Any, _key: object, said: dict[str, Any]) -> None:
    event.update(said)


@EVERY
@pytest.mark.parametrize("fields", [{"price": "0"}, {"quantity": "0.000"}, {"price": "0.00"}])
def test_a_trade_of_nothing_moves_the_id_and_is_counted(card: Card, fields: dict[str, str]) -> None:
    """No record and no gap, neither for it nor after it; one told again is a duplicate only."""
    desk = Desk(card)
    odd = nth(card, 8, **fields)
    turn = desk.hear(nth(card, 7), odd, odd, nth(card, 9))
    assert [r.trade_id for r in turn.records if isinstance(r, Trade)] == ["7", "9"]
    assert not [record for record in turn.records if isinstance(record, Gap)]
    (reject,) = turn.actions
    assert isinstance(reject, Reject)
    assert reject.reason == NO_MARKET_TRADE
    assert b"8" in reject.sample
    assert desk.session is not None
    (state,) = desk.session.streams.values()
    assert (state.records, state.duplicates, state.cursor.last_id) == (2, 1, 9)


@EVERY
def test_what_was_missed_before_it_is_a_gap_all_the_same(card: Card) -> None:
    """The gap ends where it was heard, and comes before what follows."""
    if card.venue.startswith("okx"):
        return  # its ids prove no loss
    turn = Desk(card).hear(nth(card, 7), nth(card, 10, quantity="0"), nth(card, 11))
    _, gap, last = turn.records
    assert isinstance(gap, Gap)
    assert (gap.first_missing_id, gap.last_missing_id, gap.lost) == (8, 9, 2)
    assert isinstance(last, Trade)


@pytest.mark.parametrize("kind", ["INSURANCE_FUND", "ADL", ""])
def test_binance_names_what_is_no_market_trade(kind: str) -> None:
    """`X`, where it is said: only MARKET is one."""
    for card in TRADES[:2]:
        desk = Desk(card)
        turn = desk.hear(nth(card, 7, X="MARKET"), nth(card, 8, X=kind), nth(card, 9, X=None))
        assert [r.trade_id for r in turn.records if isinstance(r, Trade)] == ["7", "9"]
        assert [type(step) for step in turn.actions] == [Reject]


def test_it_says_why_in_words() -> None:
    """For the log; a market trade has nothing to say."""
    assert left_out("1", "2") is left_out("1", "2", "MARKET") is None
    assert left_out("1", "2", "ADL") == "it is of kind 'ADL'"
    assert left_out("0.0", "2") == "at a price of zero"
    assert left_out("0.10", "0") == "of a quantity of zero"
