"""What OKX lists: placeholders, markets about to open, families of one underlying."""

import json
from typing import Any

import pytest

from marketprism.feeds.okx.instruments import read_instruments
from marketprism.instruments import Instrument


def read(*rows: dict[str, Any]) -> list[Instrument]:
    """The instruments of a list."""
    return read_instruments(json.dumps({"code": "0", "data": rows}).encode(), "perpetual")


def spot(**changes: str) -> dict[str, str]:
    """A row of a spot market."""
    row = {"instType": "SPOT", "instId": "SLX-USDT", "baseCcy": "SLX", "quoteCcy": "USDT"}
    return row | {"state": "live"} | changes


def swap(**changes: str) -> dict[str, str]:
    """A row of a perpetual."""
    row = {"instType": "SWAP", "instId": "BTC-USDT-SWAP", "uly": "BTC-USDT", "state": "live"}
    return row | {"instFamily": "BTC-USDT", "ctVal": "0.01", "ctValCcy": "BTC"} | changes


PLACEHOLDER = spot(instId="LISTING-SPOT-SLX-USDT", state="preopen")


@pytest.mark.parametrize(
    "row",
    [
        PLACEHOLDER,
        spot(instId="", state="preopen"),
        spot(baseCcy=""),
        spot(quoteCcy=""),
        swap(instId="", state="preopen"),
        swap(ctVal="", state="preopen"),
        swap(uly="", instFamily="", state="preopen"),
    ],
)
def test_a_row_that_keeps_a_place_costs_itself_alone(row: dict[str, str]) -> None:
    """The live one beside it is meant, wherever it stands."""
    live = spot(instId="ABC-USDT", baseCcy="ABC")
    for rows in ([row, live], [live, row]):
        assert [one.native_id for one in read(*rows)] == ["ABC-USDT"]


def test_a_market_that_is_about_to_open_is_known() -> None:
    """Under its own name, and not trading."""
    (one,) = read(spot(state="preopen"))
    assert (one.symbol, one.native_id, one.trading) == ("SLX-USDT", "SLX-USDT", False)
    (one,) = read(swap(uly="", state="preopen"))
    assert (one.symbol, one.trading) == ("BTC-USDT", False)


def test_a_family_of_an_underlying_is_called_by_its_own_name() -> None:
    """`BTC-USD_UM-SWAP` is margined in USD and linear; `BTC-USD-SWAP` is inverse."""
    united = swap(instId="BTC-USD_UM-SWAP", uly="BTC-USD", instFamily="BTC-USD_UM")
    inverse = swap(instId="BTC-USD-SWAP", uly="BTC-USD", instFamily="BTC-USD") | {
        "ctVal": "100",
        "ctValCcy": "USD",
    }
    one, other = read(united, inverse)
    assert (one.symbol, one.base, one.quote) == ("BTC-USD_UM", "BTC", "USD")
    assert (one.inverse, one.contract_size) == (False, "0.01")
    assert (other.symbol, other.base, other.quote) == ("BTC-USD", "BTC", "USD")
    assert (other.inverse, other.contract_size) == (True, "100")


def test_an_underlying_of_another_name_says_nothing_of_the_quote() -> None:
    """As where an asset was renamed."""
    (one,) = read(swap(uly="XBT-USDT"))
    assert (one.symbol, one.base, one.quote) == ("BTC-USDT", "BTC", "USDT")
