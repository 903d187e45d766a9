"""Binance's messages: the fields that are used, and what a field may hold.

One decoder reads every event by its `e`; an event that does not fit is rejected as a whole.
"""

from typing import Annotated, Final

import msgspec

Id = Annotated[int, msgspec.Meta(ge=0)]
Milliseconds = Annotated[int, msgspec.Meta(ge=0, lt=253_402_300_800_000)]
"""Since the Unix epoch; before the year 10000, beyond which no time can be written."""
Level = tuple[str, str]


class DepthUpdate(msgspec.Struct, tag_field="e", tag="depthUpdate", gc=False):
    """`<symbol>@depth@100ms`."""

    s: str
    E: Milliseconds
    U: Id
    u: Id
    b: list[Level]
    a: list[Level]
    T: Milliseconds | None = None
    pu: Id | None = None


class Trade(msgspec.Struct, tag_field="e", tag="trade", gc=False):
    """`<symbol>@trade`: one fill."""

    s: str
    E: Milliseconds
    t: Id
    p: str
    q: str
    T: Milliseconds
    m: bool


class AggregateTrade(msgspec.Struct, tag_field="e", tag="aggTrade", gc=False):
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


class ServerShutdown(msgspec.Struct, tag_field="e", tag="serverShutdown"):
    """This server is about to stop: reconnect at once."""


Event = DepthUpdate | Trade | AggregateTrade | ServerShutdown

read_event: Final = msgspec.json.Decoder(Event).decode


class CommandError(msgspec.Struct):
    """Why a command was refused."""

    code: int
    msg: str = ""


class Answer(msgspec.Struct, forbid_unknown_fields=True):
    """To a command. Nothing but an id and its outcome, so that no event passes for one."""

    id: int | None
    result: msgspec.Raw | None = None
    error: CommandError | None = None


read_answer: Final = msgspec.json.Decoder(Answer).decode


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


class ExchangeInfo(msgspec.Struct):
    """`GET …/exchangeInfo`."""

    symbols: list[Symbol]


read_exchange_info: Final = msgspec.json.Decoder(ExchangeInfo).decode
