"""Binance's messages: the fields that are used, and what a field may hold.

One decoder reads every event by its `e`; an event that does not fit is rejected as a whole.
"""

import contextlib
from collections.abc import Callable, Container
from typing import Annotated, Any, Final, Literal, NamedTuple, get_args

import msgspec

UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding raises."""

Id = Annotated[int, msgspec.Meta(ge=0)]
Milliseconds = Annotated[int, msgspec.Meta(ge=0, lt=253_402_300_800_000)]
"""Since the Unix epoch; before the year 10000, beyond which no time can be written."""
Level = tuple[str, str]
SIDES: Final = ("b", "a")
"""The levels of a `DepthUpdate`; `BOOK_SIDES` of a `DepthSnapshot`. Rows that have grown are read
by way of `longer_rows`."""
BOOK_SIDES: Final = ("bids", "asks")

COIN_MARGINED: Final = 2
"""The value of `st` that marks an event of the other futures market, which shares our streams."""


class _Event(msgspec.Struct, tag_field="e", kw_only=True, gc=False):
    """What is pushed. `e` names its kind."""

    st: int | None = None
    """Futures since 2026-06-30: 1 is USD-M, 2 is COIN-M; absent is ours."""


class DepthUpdate(_Event, tag="depthUpdate", kw_only=True, gc=False):
    """`<symbol>@depth@100ms`."""

    s: str
    E: Milliseconds
    U: Id
    u: Id
    b: list[Level]
    a: list[Level]
    T: Milliseconds | None = None
    pu: Id | None = None
    """Futures: the last id of the event before."""


class Trade(_Event, tag="trade", kw_only=True, gc=False):
    """`<symbol>@trade`: one fill."""

    s: str
    E: Milliseconds
    t: Id
    p: str
    q: str
    T: Milliseconds
    m: bool


class AggregateTrade(_Event, tag="aggTrade", kw_only=True, gc=False):
    """`<symbol>@aggTrade`: the fills of one taker order at one price."""

    s: str
    E: Milliseconds
    a: Id
    p: str
    q: str
    f: Id
    l: Id  # noqa: E741 (Binance's name for the last trade id)
    T: Milliseconds
    m: bool


class MarkPriceUpdate(_Event, tag="markPriceUpdate", kw_only=True, gc=False):
    """`<symbol>@markPrice@1s`. Its `P`, the estimated settlement price, is not used."""

    s: str
    E: Milliseconds
    p: str
    r: str
    """The rate that is paid at `T`; empty for what has no funding."""
    T: Milliseconds
    """When it is paid; 0 for what has no funding."""
    i: str | None = None


class LiquidationOrder(msgspec.Struct, gc=False):
    """The order that closes a position by force."""

    s: str
    S: Literal["BUY", "SELL"]
    q: str
    p: str
    T: Milliseconds
    ap: str | None = None
    X: str | None = None
    z: str | None = None
    st: int | None = None


class ForceOrder(_Event, tag="forceOrder", kw_only=True, gc=False):
    """`<symbol>@forceOrder`."""

    E: Milliseconds
    o: LiquidationOrder


class ServerShutdown(_Event, tag="serverShutdown", kw_only=True, gc=False):
    """This server is about to stop: reconnect at once."""


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


def _vocabulary(one: Any, push: Any) -> Vocabulary:
    events = frozenset(str(kind.__struct_config__.tag) for kind in get_args(one))
    return Vocabulary(msgspec.json.Decoder(push).decode, events)


SPOT: Final = _vocabulary(SpotEvent, SpotEvent)
FUTURES: Final = _vocabulary(FuturesEvent, FuturesEvent | list[msgspec.Raw])


class _Kind(msgspec.Struct):
    e: str | None = None


_read_kind = msgspec.json.Decoder(_Kind).decode


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
    """`GET …/depth`."""

    lastUpdateId: Id  # noqa: N815 (Binance's name)
    bids: list[Level]
    asks: list[Level]
    T: Milliseconds | None = None


read_snapshot: Final = msgspec.json.Decoder(DepthSnapshot).decode


class Failure(msgspec.Struct):
    """The body of a REST answer that is not 200."""

    code: int
    msg: str = ""


read_failure: Final = msgspec.json.Decoder(Failure).decode


class Symbol(msgspec.Struct):
    """One row of `exchangeInfo`."""

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
    """`GET …/exchangeInfo`."""

    symbols: list[msgspec.Raw]


_read_exchange_info: Final = msgspec.json.Decoder(ExchangeInfo).decode
_read_symbol: Final = msgspec.json.Decoder(Symbol).decode


def read_exchange_info(body: bytes) -> list[Symbol]:
    """The rows that can be read: an odd one must not cost us all the others.

    Raises msgspec.DecodeError where the body, or every row of it, cannot be.
    """
    rows, symbols, last = _read_exchange_info(body).symbols, list[Symbol](), None
    for row in rows:
        try:
            symbols.append(_read_symbol(row))
        except UNREADABLE as error:
            last = error
    if last is not None and not symbols:
        raise last
    return symbols


class FundingInfo(msgspec.Struct):
    """One row of `GET /fapi/v1/fundingInfo`: of a symbol that deviates from the usual."""

    symbol: str
    fundingIntervalHours: Any = None  # noqa: N815 (Binance's name)
    """Not in every row."""

    @property
    def hours(self) -> int | None:
        """Between two funding times; None where the row does not say."""
        said = self.fundingIntervalHours
        return said if type(said) is int and 1 <= said <= MOST_HOURS else None


MOST_HOURS: Final = 168
"""A longer interval is none."""

_read_rows: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_read_funding_info: Final = msgspec.json.Decoder(FundingInfo).decode


def read_funding_info(body: bytes) -> list[FundingInfo]:
    """The rows that can be read. Raises msgspec.DecodeError where the body cannot be."""
    rows = []
    for row in _read_rows(body):
        with contextlib.suppress(*UNREADABLE):
            rows.append(_read_funding_info(row))
    return rows


class OpenInterest(msgspec.Struct):
    """`GET /fapi/v1/openInterest`."""

    symbol: str
    openInterest: str  # noqa: N815 (Binance's name)
    time: Milliseconds


read_open_interest: Final = msgspec.json.Decoder(OpenInterest).decode


class RatioRow(msgspec.Struct):
    """One row of the long/short ratios under `/futures/data`."""

    longShortRatio: str  # noqa: N815 (Binance's name)
    longAccount: str  # noqa: N815 (Binance's name)
    shortAccount: str  # noqa: N815 (Binance's name)
    timestamp: Milliseconds | Annotated[str, msgspec.Meta(pattern="^[0-9]{1,14}$")]
    """The documentation writes it as a string; it comes as a number."""
    symbol: str | None = None


read_ratios: Final = msgspec.json.Decoder(list[RatioRow]).decode
