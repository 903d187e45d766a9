"""Selecting instruments by symbol and by pattern."""

from marketprism.instruments import Instrument, select


def spot(symbol: str, *, trading: bool = True) -> Instrument:
    """An instrument of that symbol."""
    return Instrument("binance", "spot", symbol, symbol.replace("-", ""), trading=trading)


POOL = [spot("BTC-USDT"), spot("ETH-USDT"), spot("ETH-BTC"), spot("OLD-USDT", trading=False)]


def test_patterns_select_what_can_be_traded_once_each() -> None:
    """In the order of the patterns; nothing twice."""
    chosen, unmatched = select(POOL, ["ETH-BTC", "*-USDT", "ETH-*"])
    assert [each.symbol for each in chosen] == ["ETH-BTC", "BTC-USDT", "ETH-USDT"]
    assert unmatched == []


def test_what_does_not_trade_is_selected_by_its_full_name_only() -> None:
    """A pattern means what can be traded; a name means that one."""
    assert [each.symbol for each in select(POOL, ["OLD-USDT"])[0]] == ["OLD-USDT"]


def test_patterns_without_a_match_are_told() -> None:
    """A typing error must not pass for an empty market."""
    assert select(POOL, ["BTC-USDT", "DOGE-*", "btc-usdt"])[1] == ["DOGE-*", "btc-usdt"]


def test_a_pattern_that_leaves_out_all_it_names_is_no_mistake() -> None:
    """Nothing of that trades now; there is no other name for it."""
    assert select(POOL, ["OLD-*", "NEW-*"]) == ([], ["NEW-*"])
