"""OKX's messages (API v5): the fields that are used, and what a field may hold.

A push is read in two steps: the envelope, then each element of its `data` by its channel, so that
one bad element is rejected beside its neighbours. Most numbers and times come as text.
"""

from typing import Annotated, Final, Literal, NamedTuple

import msgspec

from marketprism.feeds.decimals import NotANumber
from marketprism.feeds.longer_rows import cut

_LARGEST = 2**63 - 1
_YEAR_10000 = 253_402_300_800_000
"""Milliseconds; beyond it no time can be written."""

Sequence = Annotated[int, msgspec.Meta(ge=0, le=_LARGEST)]
PreviousSequence = Annotated[int, msgspec.Meta(ge=-1, le=_LARGEST)]
Level = Annotated[tuple[str, ...], msgspec.Meta(min_length=2)]
"""`[price, size, "0", orders]`."""
Side = Literal["buy", "sell"]


def nanoseconds(text: str) -> int:
    """A time: milliseconds since the Unix epoch, in digits. Raises NotANumber."""
    value = number(text)
    if value >= _YEAR_10000:
        raise NotANumber(f"not a time: {text!r}")
    return value * 1_000_000


def number(text: str) -> int:
    """A whole number in digits, up to what 63 bits hold. Raises NotANumber."""
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= _LARGEST):
        raise NotANumber(f"not a whole number: {text[:80]!r}")
    return int(text)


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
    """Everything that comes but `pong`: an event has `event`, a push has `arg` and `data`."""

    event: str | None = None
    arg: Arg | None = None
    action: str | None = None
    data: list[msgspec.Raw] = []
    code: str | int = ""
    msg: str = ""


read_message: Final = msgspec.json.Decoder(Message).decode


class Book(msgspec.Struct):
    """Channel `books`: a snapshot or an update."""

    asks: list[Level]
    bids: list[Level]
    ts: str
    seqId: Sequence  # noqa: N815 (OKX's name)
    prevSeqId: PreviousSequence | None = None  # noqa: N815 (OKX's name)
    checksum: int = 0
    """0 since 2026-06-23."""


read_book: Final = msgspec.json.Decoder(Book).decode


def read_grown_book(raw: bytes | msgspec.Raw) -> Book:
    """A book; where its levels have grown by something that is no text, their first two columns."""
    try:
        return read_book(raw)
    except msgspec.ValidationError:
        if (shorter := cut(raw, ("asks", "bids"))) is None:
            raise
        return read_book(shorter)


class Trade(msgspec.Struct, gc=False):
    """Channel `trades`: fills of one taker order at one price."""

    tradeId: str  # noqa: N815 (OKX's name)
    px: str
    sz: str
    side: Side
    ts: str
    count: str | None = None


read_trade: Final = msgspec.json.Decoder(Trade).decode


class Funding(msgspec.Struct, gc=False):
    """Channel `funding-rate`. Absent and empty both mean that nothing is said."""

    fundingRate: str  # noqa: N815 (OKX's name)
    fundingTime: str | None = None  # noqa: N815 (OKX's name)
    nextFundingTime: str | None = None  # noqa: N815 (OKX's name)
    nextFundingRate: str | None = None  # noqa: N815 (OKX's name)
    ts: str | None = None


read_funding: Final = msgspec.json.Decoder(Funding).decode


class Interest(msgspec.Struct, gc=False):
    """Channel `open-interest`."""

    oi: str
    """Contracts."""
    ts: str
    oiCcy: str | None = None  # noqa: N815 (OKX's name)
    """In the base asset."""
    oiUsd: str | None = None  # noqa: N815 (OKX's name)


read_interest: Final = msgspec.json.Decoder(Interest).decode


class Liquidated(msgspec.Struct):
    """Channel `liquidation-orders`: one instrument's."""

    instId: str  # noqa: N815 (OKX's name)
    details: list[msgspec.Raw]


read_liquidated: Final = msgspec.json.Decoder(Liquidated).decode


class Liquidation(msgspec.Struct, gc=False):
    """One of `details`."""

    side: Side
    bkPx: str  # noqa: N815 (OKX's name)
    sz: str
    ts: str
    posSide: Literal["long", "short", "net", ""] = ""  # noqa: N815 (OKX's name)


read_liquidation: Final = msgspec.json.Decoder(Liquidation).decode


class Answer(msgspec.Struct):
    """The body of any REST answer; a `code` other than `"0"` is a failure."""

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
    """One row of `/api/v5/public/instruments`."""

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


class RatioRow(msgspec.Struct, array_like=True, gc=False):
    """A row of the ratios, `["ts", "ratio"]`; rows grow at their end."""

    ts: str
    ratio: str


read_ratio: Final = msgspec.json.Decoder(RatioRow).decode
