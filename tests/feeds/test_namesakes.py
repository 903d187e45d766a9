"""One symbol, one instrument."""

import captures
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketprism.feeds.binance import BinanceDerivatives, BinanceSpot
from marketprism.feeds.namesakes import one_each
from marketprism.feeds.okx import OkxDerivatives, OkxSpot
from marketprism.instruments import Instrument
from marketprism.settings.exchanges import Api, VenueConfig


def listed(symbol: str, native_id: str, *, trading: bool = True) -> Instrument:
    """A row of an exchange's list."""
    return Instrument("okx", "spot", symbol, native_id, trading=trading)


LIVE = listed("SLX-USDT", "SLX-USDT")
PLACE = listed("SLX-USDT", "LISTING-SPOT-SLX-USDT", trading=False)
SECOND = listed("SLX-USDT", "SLX-USDT-2")


@pytest.mark.parametrize("rows", [[LIVE, PLACE], [PLACE, LIVE], [PLACE, LIVE, LIVE]])
def test_the_one_that_trades_is_meant(rows: list[Instrument]) -> None:
    """Nobody needs to be told."""
    assert one_each(rows) == ([LIVE], [])


def test_of_two_that_trade_the_second_is_refused_by_name() -> None:
    """A line that names both."""
    chosen, (collision,) = one_each([LIVE, SECOND, listed("A-B", "A-B")])
    assert [each.native_id for each in chosen] == ["SLX-USDT", "A-B"]
    assert str(collision) == "SLX-USDT is SLX-USDT: SLX-USDT-2 has that name too, refused"


def test_the_one_that_is_collected_stays() -> None:
    """The order of a list may change while we run; where it ended, the other is meant."""
    chosen, (collision,) = one_each([LIVE, SECOND], {"SLX-USDT-2"})
    assert chosen == [SECOND]
    assert (collision.kept, collision.refused) == (SECOND, LIVE)
    ended = listed("SLX-USDT", "SLX-USDT-2", trading=False)
    assert one_each([LIVE, ended], {"SLX-USDT-2"}) == ([LIVE], [])


def test_two_that_differ_in_case_alone_do_not_share() -> None:
    """Streams are asked for in lower case, symbols are written in upper case."""
    one, other = listed("PEPE-USDT", "PEPEUSDT"), listed("PEPE2-USDT", "pepeUSDT")
    chosen, (collision,) = one_each([one, other])
    assert chosen == [one]
    assert (collision.kept, collision.refused) == (one, other)


@given(
    st.lists(
        st.builds(
            listed,
            st.sampled_from(["A-B", "C-D", "E-F"]),
            st.sampled_from(["ab", "AB", "cd", "ef", "x"]),
            trading=st.booleans(),
        )
    )
)
def test_no_two_of_them_share_a_name(rows: list[Instrument]) -> None:
    """Whatever is listed; and who is left out has a namesake that is not."""
    chosen, collisions = one_each(rows)
    assert len({each.symbol for each in chosen}) == len(chosen)
    assert len({each.native_id.upper() for each in chosen}) == len(chosen)
    for each in rows:
        assert any(
            each.symbol == other.symbol or each.native_id.upper() == other.native_id.upper()
            for other in chosen
        )
    for collision in collisions:
        assert collision.kept.trading
        assert collision.refused.trading
        assert collision.kept in chosen


@pytest.mark.parametrize(
    ("venue", "file", "kind", "count"),
    [
        (OkxSpot, "okx/instruments_2022-02-27.jsonl", "instType=SPOT", 509),
        (OkxDerivatives, "okx/instruments_2022-02-27.jsonl", "instType=SWAP", 162),
        (BinanceSpot, "binance_spot/exchangeInfo_2021-04-17.jsonl", "/api/v3/", 1405),
        (BinanceDerivatives, "binance_usdm/exchangeInfo_2021-12-05.jsonl", "/fapi/v1/", 142),
    ],
)
def test_of_the_recorded_lists_nothing_is_refused(
    venue: type[OkxSpot | OkxDerivatives | BinanceSpot | BinanceDerivatives],
    file: str,
    kind: str,
    count: int,
) -> None:
    """No rule of these costs a market that there was."""
    config = VenueConfig("venue", Api("http://x", "ws://x"), ("*",), ())
    (body,) = (line.raw for line in captures.capture(file) if kind in line.url)
    found = venue(config).instruments([body])
    assert len(found) == count
    assert one_each(found) == (found, [])
