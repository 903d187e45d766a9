"""Binance's answers over REST: the fields that are used, and what a field may hold."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from marketprism.bounds import Id, Milliseconds
from marketprism.feeds.binance.messages import UNREADABLE, Level, Row
from marketprism.feeds.forgiving import forgiving


class DepthSnapshot(msgspec.Struct):
    """`GET …/depth`.

    https://developers.binance.com/docs/binance-spot-api-docs/rest-api/market-data-endpoints#order-book
    https://developers.binance.com/docs/derivatives/usds-margined-futures/market-data/rest-api/Order-Book

    {"lastUpdateId":271700005,"bids":[["58000.10","0.512"]],"asks":[["58000.20","1.004"]]}
    """

    lastUpdateId: Id  # noqa: N815 (Binance's name)
    bids: list[Level]
    asks: list[Level]
    T: Milliseconds | None = None


read_snapshot: Final = forgiving(DepthSnapshot)


class Failure(msgspec.Struct):
    """The body of a REST answer that is not 200.

    https://developers.binance.com/docs/binance-spot-api-docs/errors

    {"code":-1121,"msg":"Invalid symbol."}
    """

    code: int
    msg: str = ""


read_failure: Final = msgspec.json.Decoder(Failure).decode


class Symbol(msgspec.Struct):
    """One row of `exchangeInfo`.


    {"symbol":"BTCUSDT","status":"TRADING","baseAsset":"BTC","quoteAsset":"USDT",
     "contractType":"PERPETUAL","marginAsset":"USDT"}
    """

    symbol: str
    status: str
    baseAsset: str  # noqa: N815 (Binance's name)
    quoteAsset: str  # noqa: N815 (Binance's name)
    contractType: str | None = None  # noqa: N815 (Binance's name)
    marginAsset: str | None = None  # noqa: N815 (Binance's name)

    @property
    def named(self) -> bool:
        """Whether it is more than a place that is kept for a market."""
        return bool(self.symbol and self.baseAsset and self.quoteAsset)


class ExchangeInfo(msgspec.Struct):
    """`GET …/exchangeInfo`.

    https://developers.binance.com/docs/binance-spot-api-docs/rest-api/general-endpoints#exchange-information
    https://developers.binance.com/docs/derivatives/usds-margined-futures/market-data/rest-api/Exchange-Information

    {"symbols":[{"symbol":"BTCUSDT","status":"TRADING","baseAsset":"BTC","quoteAsset":"USDT"}]}
    """

    symbols: list[msgspec.Raw]


_read_exchange_info: Final = msgspec.json.Decoder(ExchangeInfo).decode
_read_symbol: Final = msgspec.json.Decoder(Symbol).decode
read_rows: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode


def read_exchange_info(body: bytes) -> list[Symbol]:
    """The rows that can be read: an odd one must not cost us all the others.

    Raises msgspec.DecodeError where the body, or every row of it, cannot be.
    """
    return _readable(_read_exchange_info(body).symbols, _read_symbol)


class FundingInfo(msgspec.Struct):
    """One row of `GET /fapi/v1/fundingInfo`: of a symbol that deviates from the usual.

    https://developers.binance.com/docs/derivatives/usds-margined-futures/market-data/rest-api/Get-Funding-Rate-Info

    {"symbol":"LPTUSDT","adjustedFundingRateCap":"0.02","fundingIntervalHours":4}
    """

    symbol: str
    fundingIntervalHours: Any = None  # noqa: N815 (Binance's name)
    """Not in every row."""

    @property
    def hours(self) -> int | None:
        """Between two funding times; None where the row does not say."""
        said = self.fundingIntervalHours
        return said if type(said) is int and 1 <= said <= MOST_HOURS else None


_read_funding_info: Final = forgiving(FundingInfo)
MOST_HOURS: Final = 168
"""A longer interval is none."""


def read_funding_info(body: bytes) -> list[FundingInfo]:
    """The rows that can be read; one may lack its interval. Raises like `read_exchange_info`."""
    return _readable(read_rows(body), _read_funding_info)


def _readable(rows: Sequence[msgspec.Raw], read: Callable[[msgspec.Raw], Row]) -> list[Row]:
    found, last = list[Row](), None
    for row in rows:
        try:
            found.append(read(row))
        except UNREADABLE as error:
            last = error
    if last is not None and not found:
        raise last
    return found


class OpenInterest(msgspec.Struct):
    """`GET /fapi/v1/openInterest`.

    https://developers.binance.com/docs/derivatives/usds-margined-futures/market-data/rest-api/Open-Interest

    {"symbol":"BTCUSDT","openInterest":"10659.509","time":1617494400123}
    """

    openInterest: str  # noqa: N815 (Binance's name)
    time: Milliseconds
    symbol: str | None = None


read_open_interest: Final = forgiving(OpenInterest)


class RatioRow(msgspec.Struct):
    """One row of the long/short ratios under `/futures/data`.

    https://developers.binance.com/docs/derivatives/usds-margined-futures/market-data/rest-api/Top-Trader-Long-Short-Ratio
    https://developers.binance.com/docs/derivatives/usds-margined-futures/market-data/rest-api/Long-Short-Ratio

    {"symbol":"BTCUSDT","longShortRatio":"1.4342","longAccount":"0.5892","shortAccount":"0.4108",
     "timestamp":1617494400000}
    """

    timestamp: Milliseconds
    """The documentation writes it as a string; it comes as a number."""
    longShortRatio: str | None = None  # noqa: N815 (Binance's name)
    longAccount: str | None = None  # noqa: N815 (Binance's name)
    shortAccount: str | None = None  # noqa: N815 (Binance's name)
    symbol: str | None = None


read_ratio: Final = forgiving(RatioRow)
