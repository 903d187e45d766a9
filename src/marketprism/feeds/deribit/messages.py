"""Deribit's messages (JSON-RPC 2.0): the fields that are used, and what a field may hold."""

from typing import Annotated, Any, Final

import msgspec

UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding raises."""

Milliseconds = Annotated[int, msgspec.Meta(ge=0, lt=253_402_300_800_000)]
"""Since the Unix epoch; before the year 10000, beyond which no time can be written."""


NOTHING: Final = msgspec.Raw(b"null")


class Problem(msgspec.Struct):
    """Why a request was refused."""

    code: int
    message: str = ""


class Frame(msgspec.Struct):
    """Whatever comes: a notification has a method, an answer the id of its request."""

    method: str | None = None
    params: msgspec.Raw = NOTHING
    id: int | None = None
    result: msgspec.Raw = NOTHING
    error: Problem | None = None


class HeartbeatParams(msgspec.Struct):
    """`heartbeat`, or `test_request`: that one wants to be answered."""

    type: str


class VolatilityData(msgspec.Struct):
    """`deribit_volatility_index.{index_name}`."""

    volatility: msgspec.Raw
    """In percent points. A number, kept as it was written."""
    timestamp: Milliseconds
    index_name: str


class VolatilityParams(msgspec.Struct):
    """A subscription's notification."""

    channel: str
    data: VolatilityData


class Candle(msgspec.Struct, array_like=True, gc=False):
    """`[beginning, open, high, low, close]`; rows grow at their end."""

    begun_at: Milliseconds
    open: Any
    high: Any
    low: Any
    close: msgspec.Raw


class Page(msgspec.Struct):
    """`public/get_volatility_index_data`: candles, oldest first."""

    data: list[Candle]
    continuation: Milliseconds | None = None
    """There are more, older ones: those up to this `end_timestamp`."""


class PageAnswer(msgspec.Struct):
    """The body of its answer."""

    result: Page


read_frame: Final = msgspec.json.Decoder(Frame).decode
read_heartbeat: Final = msgspec.json.Decoder(HeartbeatParams).decode
read_volatility: Final = msgspec.json.Decoder(VolatilityParams).decode
read_channels: Final = msgspec.json.Decoder(list[str]).decode
read_page: Final = msgspec.json.Decoder(PageAnswer).decode
