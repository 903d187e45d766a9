"""Binance's messages: the fields that are used, and what a field may hold.

One decoder reads every event by its `e`. A field with a default is one that a record can do
without: where it cannot be read it is null; any other costs the event.
"""

from collections.abc import Callable, Container, Sequence
from typing import Any, Final, Literal, NamedTuple, TypeVar, get_args

import msgspec

from marketprism.bounds import Id, Milliseconds
from marketprism.feeds.forgiving import by_field, forgiving

UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding raises."""

Level = tuple[str, str]
Row = TypeVar("Row", bound=msgspec.Struct)


COIN_MARGINED: Final = 2
"""The value of `st` that marks an event of the other futures market, which shares our streams."""


class _Event(msgspec.Struct, tag_field="e", kw_only=True, gc=False):
    """What is pushed. `e` names its kind."""

    st: int | None = None
    """Futures since 2026-06-30: 1 is USD-M, 2 is COIN-M; absent is ours."""


class DepthUpdate(_Event, tag="depthUpdate", kw_only=True, gc=False):
    """`<symbol>@depth@100ms`.

    https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams#diff-depth-stream
    https://developers.binance.com/docs/derivatives/usds-margined-futures/websocket-market-streams/Diff-Book-Depth-Streams

    {"e":"depthUpdate","E":1617494400109,"T":1617494400103,"s":"BTCUSDT","U":271700001,"u":271700010,
     "pu":271700000,"b":[["58000.10","0.512"]],"a":[["58000.20","0.000"]]}
    """

    s: str
    """The symbol, here and below."""
    U: Id
    """The first change in it."""
    u: Id
    """The last one."""
    b: list[Level]
    """Bids: price and what stands there now."""
    a: list[Level]
    """Asks."""
    E: Milliseconds | None = None
    """When it was said, here and below."""
    T: Milliseconds | None = None
    """Futures: the matching engine's. One of the two times must be there."""
    pu: Id | None = None
    """Futures: the last id of the event before."""


class Trade(_Event, tag="trade", kw_only=True, gc=False):
    """`<symbol>@trade`: one fill.

    https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams#trade-streams

    {"e":"trade","E":1617494400109,"s":"BTCUSDT","t":741112000,"p":"58000.10","q":"0.01200000",
     "T":1617494400108,"m":true,"M":true}
    """

    s: str
    t: Id
    """Its number: they count by ones."""
    p: str
    """Price, here and below."""
    q: str
    """Quantity, here and below."""
    T: Milliseconds
    """When it happened, here and below."""
    m: bool | None = None
    """The buyer was the maker."""
    X: str | None = None
    """`MARKET`, where it is said at all; anything else is no market trade."""


class AggregateTrade(_Event, tag="aggTrade", kw_only=True, gc=False):
    """`<symbol>@aggTrade`: the fills of one taker order at one price.

    https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams#aggregate-trade-streams
    https://developers.binance.com/docs/derivatives/usds-margined-futures/websocket-market-streams/Aggregate-Trade-Streams

    {"e":"aggTrade","E":1617494400109,"s":"BTCUSDT","a":647100200,"p":"58000.10","q":"0.01200000",
     "f":741112000,"l":741112003,"T":1617494400108,"m":true,"M":true}
    """

    s: str
    a: Id
    """Its own number: they count by ones."""
    p: str
    q: str
    f: Id
    """The first trade in it."""
    l: Id  # noqa: E741 (Binance's name)
    """The last one."""
    T: Milliseconds
    m: bool | None = None
    X: str | None = None
    """As of a trade."""


class MarkPriceUpdate(_Event, tag="markPriceUpdate", kw_only=True, gc=False):
    """`<symbol>@markPrice@1s`. Its `P`, the estimated settlement price, is not used.

    https://developers.binance.com/docs/derivatives/usds-margined-futures/websocket-market-streams/Mark-Price-Stream

    {"e":"markPriceUpdate","E":1617494400000,"s":"BTCUSDT","p":"58012.44","i":"58010.90",
     "P":"57990.01","r":"0.00010000","T":1617523200000}
    """

    s: str
    E: Milliseconds
    r: str
    """The rate that is paid at `T`; empty for what has no funding."""
    T: Milliseconds | None = None
    """When it is paid; 0 for what has no funding."""
    p: str | None = None
    """The mark price."""
    i: str | None = None
    """The index price."""


class LiquidationOrder(msgspec.Struct, gc=False):
    """The order that closes a position by force."""

    s: str
    T: Milliseconds
    S: Literal["BUY", "SELL"] | None = None
    """Of the order: a long is liquidated by a sell."""
    q: str | None = None
    p: str | None = None
    ap: str | None = None
    """The average price."""
    X: str | None = None
    """The order's status."""
    z: str | None = None
    """What is filled of it."""
    st: int | None = None


class ForceOrder(_Event, tag="forceOrder", kw_only=True, gc=False):
    """`<symbol>@forceOrder`.

    https://developers.binance.com/docs/derivatives/usds-margined-futures/websocket-market-streams/Liquidation-Order-Streams

    {"e":"forceOrder","E":1617494400200,"o":{"s":"BTCUSDT","S":"SELL","o":"LIMIT","f":"IOC",
     "q":"0.014","p":"57800.00","ap":"57850.10","X":"FILLED","l":"0.014","z":"0.014",
     "T":1617494400190}}
    """

    o: LiquidationOrder


class ServerShutdown(_Event, tag="serverShutdown", kw_only=True, gc=False):
    """This server is about to stop: reconnect at once.

    https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams#general-wss-information

    {"e":"serverShutdown","E":1770123456789}
    """


SpotEvent = DepthUpdate | Trade | AggregateTrade | ServerShutdown
FuturesEvent = DepthUpdate | AggregateTrade | MarkPriceUpdate | ForceOrder | ServerShutdown
Event = SpotEvent | FuturesEvent
Push = Event | list[msgspec.Raw]
"""One event; or several, in the streams of a whole market."""


class Vocabulary(NamedTuple):
    """What a market says."""

    read: Callable[[bytes], Push]
    events: frozenset[str]
    """The values of `e` that it reads."""


class _Kind(msgspec.Struct):
    e: str | None = None


_read_kind = msgspec.json.Decoder(_Kind).decode


def _vocabulary(one: Any, push: Any) -> Vocabulary:
    strict = msgspec.json.Decoder(push).decode
    loose = {str(kind.__struct_config__.tag): by_field(kind) for kind in get_args(one)}

    def read(frame: bytes) -> Push:
        try:
            event: Push = strict(frame)
        except msgspec.ValidationError:
            kind = _read_kind(frame).e
            if kind not in loose:
                raise
            event = loose[kind](frame)
        return event

    return Vocabulary(read, frozenset(loose))


SPOT: Final = _vocabulary(SpotEvent, SpotEvent)
FUTURES: Final = _vocabulary(FuturesEvent, FuturesEvent | list[msgspec.Raw])


def why_unread(frame: bytes, cause: Exception, events: Container[str]) -> str:
    """In a short fixed phrase, why a frame is none of those events."""
    if not isinstance(cause, msgspec.ValidationError):
        return "not JSON"
    try:
        kind = _read_kind(frame).e
    except UNREADABLE:
        return "not an event"
    return "unfit event" if kind in events else "unknown event"


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
