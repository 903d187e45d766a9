"""How markets stand, list by list."""

import attrs

from marketprism.feeds.markets import NOT_LISTED, Market, Markets, Standing
from marketprism.instruments import Instrument

BTC = Instrument("binance", "spot", "BTC-USDT", "BTCUSDT", native_status="TRADING")
ETH = Instrument("binance", "spot", "ETH-USDT", "ETHUSDT", native_status="TRADING")
HALTED = attrs.evolve(BTC, trading=False, native_status="BREAK")
SETTLED = attrs.evolve(BTC, trading=False, ended=True, native_status="CLOSE")
PLACEHOLDER = attrs.evolve(BTC, native_id="LISTING-BTC", trading=False, native_status="preopen")


def only(markets: Markets) -> Market:
    """The one there is."""
    (market,) = markets
    return market


def test_what_is_new_and_what_stands_otherwise_is_told() -> None:
    """Once; a list that says the same again changes nothing."""
    markets = Markets()
    assert [each.instrument for each in markets.learn([BTC, ETH], [BTC, ETH], 1)] == [BTC, ETH]
    assert markets.learn([BTC, ETH], [BTC, ETH], 2) == []
    (halted,) = markets.learn([HALTED, ETH], [HALTED, ETH], 3)
    assert (halted.instrument.symbol, halted.standing, halted.status) == (
        "BTC-USDT", Standing.PAUSED, "BREAK",
    )  # fmt: skip
    assert markets.learn([HALTED, ETH], [HALTED, ETH], 4) == []
    (again,) = markets.learn([BTC, ETH], [BTC, ETH], 9)
    assert again is halted
    assert (again.standing, again.status, again.idle_until) == (Standing.TRADING, "TRADING", 4)


def test_a_settled_market_has_ended() -> None:
    """As the exchange says; it may come back all the same."""
    markets = Markets()
    markets.learn([BTC], [BTC], 1)
    (market,) = markets.learn([SETTLED], [], 2)
    assert (market.standing, market.status) == (Standing.ENDED, "CLOSE")
    assert markets.learn([BTC], [BTC], 3) == [market]
    assert market.standing is Standing.TRADING


def test_a_single_list_without_a_market_is_not_believed() -> None:
    """It may lack rows, or all of them, in a maintenance; the second in a row is believed."""
    markets = Markets()
    markets.learn([BTC, ETH], [BTC, ETH], 1)
    assert markets.learn([], [], 2) == []
    assert markets.learn([BTC, ETH], [BTC, ETH], 3) == []
    assert markets.learn([ETH], [ETH], 4) == []
    (gone,) = markets.learn([ETH], [ETH], 5)
    assert (gone.instrument, gone.standing, gone.status) == (BTC, Standing.ENDED, NOT_LISTED)
    assert gone.idle_until == 5
    assert markets.learn([ETH], [ETH], 6) == []
    assert gone.idle_until == 6


def test_what_speaks_is_alive_whatever_the_list_lacks() -> None:
    """Until it falls silent."""
    markets = Markets()
    markets.learn([BTC, ETH], [BTC, ETH], 1)
    for wall in range(2, 9):
        assert markets.learn([ETH], [ETH], wall, {"BTCUSDT", "ETHUSDT"}) == []
    (gone,) = markets.learn([ETH], [ETH], 9, {"ETHUSDT"})
    assert gone.standing is Standing.ENDED


def test_a_list_without_a_paused_market_says_nothing_of_it() -> None:
    """It may trade by then: what is known of its pause ends before."""
    markets = Markets()
    markets.learn([HALTED], [HALTED], 1)
    markets.learn([], [], 2)
    assert (only(markets).standing, only(markets).idle_until) == (Standing.PAUSED, 1)


def test_one_symbol_is_one_market() -> None:
    """The one that trades; where a placeholder was there first, that one takes its place."""
    markets = Markets()
    markets.learn([PLACEHOLDER, BTC], [PLACEHOLDER, BTC], 1)
    assert only(markets).instrument == BTC
    markets = Markets()
    markets.learn([PLACEHOLDER], [PLACEHOLDER], 1)
    (market,) = markets.learn([PLACEHOLDER, BTC], [PLACEHOLDER, BTC], 2)
    assert only(markets) is market
    assert market.instrument == BTC
    other = attrs.evolve(BTC, native_id="BTCUSDT2")
    assert markets.learn([BTC, other], [BTC, other], 3) == []
    assert only(markets) is market
