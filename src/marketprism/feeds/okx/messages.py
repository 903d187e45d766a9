"""OKX's messages (API v5): the fields that are used, and what a field may hold.

A push is read in two steps: the envelope, then each element of its `data` by its channel, so that
one bad element is rejected beside its neighbours. Most numbers and times come as text. A field with
a default is one that a record can do without: where it cannot be read it is null.
"""

import re
from typing import Annotated, Final, Literal, NamedTuple

import msgspec

from marketprism.bounds import LARGEST, LATEST, Id
from marketprism.decimals import NotANumber
from marketprism.feeds.forgiving import forgiving, read_pair

PreviousSequence = Annotated[int, msgspec.Meta(ge=-1, le=LARGEST)]
Level = Annotated[tuple[str, ...], msgspec.Meta(min_length=2)]
"""`[price, size, "0", orders]`."""
Side = Literal["buy", "sell"]
_whole = re.compile("[1-9][0-9]{0,18}|0").fullmatch


def nanoseconds(text: str) -> int:
    """A time: milliseconds since the Unix epoch, in digits. Raises NotANumber."""
    value = number(text)
    if value > LATEST:
        raise NotANumber(f"not a time: {text!r}")
    return value * 1_000_000


def number(text: str) -> int:
    """A whole number in digits, up to what 63 bits hold. Raises NotANumber."""
    if _whole(text) is None or (value := int(text)) > LARGEST:
        raise NotANumber(f"not a whole number: {text[:80]!r}")
    return value


class Key(NamedTuple):
    """What one subscription is told by."""

    channel: str
    subject: str
    """A native instrument id, or for `liquidation-orders` an instrument type."""


class Arg(msgspec.Struct, gc=False, omit_defaults=True):
    """The argument of a subscription, echoed by acknowledgements and pushes."""

    channel: str
    instId: str = ""  # noqa: N815 (OKX's name)
    instType: str = ""  # noqa: N815 (OKX's name)

    @property
    def key(self) -> Key:
        return Key(self.channel, self.instId or self.instType)


class Message(msgspec.Struct):
    """Everything that comes but `pong`: an event has `event`, a push has `arg` and `data`.

    https://www.okx.com/docs-v5/en/#overview-websocket-subscribe

    {"event":"subscribe","arg":{"channel":"trades","instId":"BTC-USDT"},"connId":"a4d3ae55"}
    """

    event: str | None = None
    arg: Arg | None = None
    action: str | None = None
    data: list[msgspec.Raw] = []
    code: str | int = ""
    msg: str = ""


read_message: Final = forgiving(Message)


class Book(msgspec.Struct):
    """Channel `books`: a snapshot or an update.

    https://www.okx.com/docs-v5/en/#order-book-trading-market-data-ws-order-book-channel

    {"asks":[["59004.5","0","0","0"]],"bids":[["59004.4","1.25","0","3"]],"ts":"1621447077008",
     "checksum":0,"seqId":123457,"prevSeqId":123456}
    """

    asks: list[Level]
    bids: list[Level]
    ts: str
    seqId: Id  # noqa: N815 (OKX's name)
    prevSeqId: PreviousSequence | None = None  # noqa: N815 (OKX's name)
    checksum: int = 0
    """0 since 2026-06-23."""


read_book: Final = forgiving(Book)


class Trade(msgspec.Struct, gc=False):
    """Channel `trades`: fills of one taker order at one price.

    https://www.okx.com/docs-v5/en/#order-book-trading-market-data-ws-trades-channel

    {"instId":"BTC-USDT","tradeId":"130639474","px":"42219.9","sz":"0.12060306","side":"buy",
     "ts":"1630048897897","count":"3"}
    """

    tradeId: str  # noqa: N815 (OKX's name)
    px: str
    sz: str
    ts: str
    side: Side | None = None
    count: str | None = None


read_trade: Final = forgiving(Trade)


class Funding(msgspec.Struct, gc=False):
    """Channel `funding-rate`. Unread and empty both mean that nothing is said.

    https://www.okx.com/docs-v5/en/#public-data-websocket-funding-rate-channel

    {"instId":"BTC-USD-SWAP","instType":"SWAP","fundingRate":"0.0001875","fundingTime":"1700726400000",
     "nextFundingRate":"","nextFundingTime":"1700755200000","ts":"1700724675402"}
    """

    fundingRate: str  # noqa: N815 (OKX's name)
    fundingTime: str | None = None  # noqa: N815 (OKX's name)
    nextFundingTime: str | None = None  # noqa: N815 (OKX's name)
    nextFundingRate: str | None = None  # noqa: N815 (OKX's name)
    ts: str | None = None


read_funding: Final = forgiving(Funding)


class Interest(msgspec.Struct, gc=False):
    """Channel `open-interest`.

    https://www.okx.com/docs-v5/en/#public-data-websocket-open-interest-channel

    {"instId":"BTC-USDT-SWAP","instType":"SWAP","oi":"2216113.01","oiCcy":"22161.1301",
     "oiUsd":"1939251795.54","ts":"1743041250440"}
    """

    ts: str
    oi: str | None = None
    """Contracts."""
    oiCcy: str | None = None  # noqa: N815 (OKX's name)
    """In the base asset."""
    oiUsd: str | None = None  # noqa: N815 (OKX's name)


read_interest: Final = forgiving(Interest)


class Liquidated(msgspec.Struct):
    """Channel `liquidation-orders`: one instrument's.

    https://www.okx.com/docs-v5/en/#public-data-websocket-liquidation-orders-channel

    {"instId":"BTC-USDT-SWAP","instType":"SWAP","uly":"BTC-USDT","details":[{"bkPx":"42001.1",
     "posSide":"long","side":"sell","sz":"13","ts":"1692266434010"}]}
    """

    instId: str  # noqa: N815 (OKX's name)
    details: list[msgspec.Raw]


read_liquidated: Final = msgspec.json.Decoder(Liquidated).decode


class Liquidation(msgspec.Struct, gc=False):
    """One of `details`.


    {"bkPx":"42001.1","posSide":"long","side":"sell","sz":"13","ts":"1692266434010"}
    """

    ts: str
    side: Side | None = None
    bkPx: str | None = None  # noqa: N815 (OKX's name)
    sz: str | None = None
    posSide: Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z_]{0,16}\Z")] = ""  # noqa: N815 (OKX's name)
    """`long`, `short`, `net`; a part of the id only."""


read_liquidation: Final = forgiving(Liquidation)


class Answer(msgspec.Struct):
    """The body of any REST answer; a `code` other than `"0"` is a failure.

    https://www.okx.com/docs-v5/en/#overview-rest-authentication

    {"code":"0","msg":"","data":[["1701417600000","1.1739"]]}
    """

    code: str
    msg: str = ""
    data: list[msgspec.Raw] = []


read_answer: Final = msgspec.json.Decoder(Answer).decode
UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What the readers above raise."""
UNKNOWN_INSTRUMENT: Final = "51001"


class AnswerError(ValueError):
    """An answer that tells an error, whatever its status: `code` and words."""

    def __init__(self, code: str, words: str) -> None:
        super().__init__(f"{code}: {words[:200]}" if words else code)
        self.code = code


class _Outcome(msgspec.Struct):
    code: str
    msg: str = ""


_read_outcome: Final = msgspec.json.Decoder(_Outcome).decode


def answer_code(body: bytes) -> str | None:
    """The `code` of a REST answer, or None when it has none."""
    try:
        return _read_outcome(body).code
    except UNREADABLE:
        return None


def answer_error(body: bytes) -> AnswerError | None:
    """The error that an answer tells; None where it tells none, or cannot be read."""
    try:
        outcome = _read_outcome(body)
    except UNREADABLE:
        return None
    return None if outcome.code == "0" else AnswerError(outcome.code, outcome.msg)


def read_data(body: bytes) -> list[msgspec.Raw]:
    """The rows of a REST answer. Raises AnswerError where it tells an error: `code` is read before
    `data`; and what decoding raises.
    """
    if (error := answer_error(body)) is not None:
        raise error
    return read_answer(body).data


class InstrumentRow(msgspec.Struct):
    """One row of `/api/v5/public/instruments`.

    https://www.okx.com/docs-v5/en/#public-data-rest-api-get-instruments

    {"instId":"BTC-USDT-SWAP","instType":"SWAP","instFamily":"BTC-USDT","uly":"BTC-USDT",
     "state":"live","ctVal":"0.01","ctMult":"1","ctValCcy":"BTC"}
    """

    instId: str  # noqa: N815 (OKX's name)
    instType: str  # noqa: N815 (OKX's name)
    state: str = ""
    baseCcy: str = ""  # noqa: N815 (OKX's name)
    quoteCcy: str = ""  # noqa: N815 (OKX's name)
    instFamily: str = ""  # noqa: N815 (OKX's name)
    uly: str = ""
    ctVal: str = ""  # noqa: N815 (OKX's name)
    ctMult: str = ""  # noqa: N815 (OKX's name)
    ctValCcy: str = ""  # noqa: N815 (OKX's name)


read_instrument: Final = msgspec.json.Decoder(InstrumentRow).decode
read_ratio: Final = read_pair
"""A row of the ratios: `["ts", "ratio"]`."""
