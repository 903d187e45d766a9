"""Binance's messages: the fields that are used, and what a field may hold.

One decoder reads every event by its `e`. A field with a default is one that a record can do
without: where it cannot be read it is null; any other costs the event.
"""

from collections.abc import Callable, Container
from typing import Any, Final, Literal, NamedTuple, TypeVar, get_args

import msgspec

from marketprism.bounds import Id, Milliseconds
from marketprism.feeds.forgiving import by_field

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
