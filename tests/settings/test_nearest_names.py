"""What is suggested to somebody who wrote a name that does not exist."""

import pytest

from marketprism.settings.nearest_names import (
    as_currency,
    as_symbol,
    nearest_symbols,
    suggestion,
    unknown_words,
)

SYMBOLS = [
    *("BTC-USDT", "BTC-USDC", "ETH-USDT", "ETH-BTC", "1000SHIB-USDT", "DOGE-USDT"),
    *("SOL-USDT", "PEPE-USDC"),
]


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("binance_spt", ' (did you mean "binance_spot"?)'),
        ("Binance_Spot", ' (did you mean "binance_spot"?)'),
        ("binance", ' (did you mean "binance_derivatives" or "binance_spot"?)'),
        ("foo", ""),
        ("", ""),
    ],
)
def test_a_close_name_is_suggested(word: str, expected: str) -> None:
    """Or all that begin so; nothing where nothing is close."""
    assert suggestion(word, ["okx_spot", "binance_spot", "binance_derivatives"]) == expected


@pytest.mark.parametrize(
    ("word", "symbol"),
    [
        *[(word, "BTC-USDT") for word in ("BTCUSDT", "btcusdt", "btc-usdt", "BTC/USDT")],
        *[(word, "BTC-USDT") for word in ("BTC_USDT", "BTC-USDT-SWAP", "BTC-USDT-PERP")],
        ("XBTUSD", "XBT-USD"),
        ("BTCTUSD", "BTC-TUSD"),
        ("*USDT", "*-USDT"),
        ("1000SHIBUSDT", "1000SHIB-USDT"),
        ("BTC", None),
        ("USDT", None),
        ("BTC-USD-220527", None),
        ("", None),
        ("-", None),
    ],
)
def test_a_market_written_in_another_fashion_is_read(word: str, symbol: str | None) -> None:
    """As other exchanges and programs write it; None where that cannot be told."""
    assert as_symbol(word) == symbol


@pytest.mark.parametrize(
    ("word", "currency"), [("btc", "BTC"), ("BTC-USD", "BTC"), ("btc_usd", "BTC"), ("?!", None)]
)
def test_a_currency_is_read_likewise(word: str, currency: str | None) -> None:
    """Where symbols are bare currencies."""
    assert as_currency(word) == currency


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("BTC-UDST", ["BTC-USDT"]),
        ("BTC-EUR", ["BTC-USDT", "BTC-USDC"]),
        ("BTV-USDT", ["BTC-USDT"]),
        ("SHIB-USDT", ["1000SHIB-USDT"]),
        ("PEPE-USDT", ["PEPE-USDC"]),
        ("BTV-UDST", ["BTC-USDT"]),
        ("*-USTD", ["*-USDT", "*-USDC"]),
        ("DOG-*", ["DOGE-*"]),
        ("QQQ-ZZZ", []),
    ],
)
def test_the_nearest_markets_are_found(pattern: str, expected: list[str]) -> None:
    """The same base first, then the same quote; patterns for patterns."""
    found = nearest_symbols(pattern, SYMBOLS)
    assert found[: len(expected)] == expected
    assert len(found) <= 3
    assert bool(found) is bool(expected)


def test_currencies_are_found_likewise() -> None:
    """An exchange whose symbols are no pairs."""
    assert nearest_symbols("BTV", ["BTC", "ETH"]) == ["BTC"]


def test_the_first_few_are_named_and_the_rest_counted() -> None:
    """A list that was written for another exchange is long."""
    unknown = [f"X{number}-USDT" for number in range(7)]
    assert unknown_words(unknown, {"X0-USDT": ["XO-USDT"]}) == (
        'X0-USDT (did you mean "XO-USDT"?), X1-USDT, X2-USDT, X3-USDT, X4-USDT, and 2 more'
    )
