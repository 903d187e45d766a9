"""Deribit's messages (JSON-RPC 2.0): the fields that are used, and what a field may hold."""

from typing import Final

import msgspec

from marketprism.bounds import Milliseconds
from marketprism.feeds.forgiving import forgiving

UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding raises."""

CANDLE: Final = 5
NOTHING: Final = msgspec.Raw(b"null")


def _whole(said: int | str | None) -> int | None:
    """A number as a number, or as text."""
    if isinstance(said, str):
        plain = said.isascii() and said.removeprefix("-").isdigit() and len(said) < 20
        return int(said) if plain else None
    return said


class Problem(msgspec.Struct):
    """Why a request was refused.

    https://docs.deribit.com/#rpc-error-codes

    {"code":11051,"message":"system_maintenance"}
    """

    code: int | str
    message: str = ""

    @property
    def number(self) -> int | None:
        """The code; None where it is none."""
        return _whole(self.code)

    @property
    def words(self) -> str:
        return f"{self.code}: {self.message}"


class Frame(msgspec.Struct):
    """Whatever comes: a notification has a method, an answer the id of its request. An error
    stands in `error`, or flat beside the id.

    https://docs.deribit.com/#json-rpc

    {"jsonrpc":"2.0","id":3,"result":["deribit_volatility_index.btc_usd"],"usIn":1,"usOut":2}
    """

    method: str | None = None
    params: msgspec.Raw = NOTHING
    id: int | str | None = None
    result: msgspec.Raw = NOTHING
    error: Problem | None = None
    code: int | str | None = None
    message: str = ""

    @property
    def number(self) -> int | None:
        """Of the request that is answered; None where it is not said."""
        return _whole(self.id)

    @property
    def problem(self) -> Problem | None:
        """Why the request was refused; None where it was not."""
        if self.error is None and self.code and self.result == NOTHING:
            return Problem(self.code, self.message)
        return self.error


class HeartbeatParams(msgspec.Struct):
    """`heartbeat`, or `test_request`: that one wants to be answered.

    https://docs.deribit.com/#public-set_heartbeat

    {"type":"test_request"}
    """

    type: str


class VolatilityData(msgspec.Struct):
    """`deribit_volatility_index.{index_name}`.


    {"volatility":43.05,"timestamp":1617494400007,"index_name":"btc_usd"}
    """

    volatility: msgspec.Raw
    """In percent points. A number, kept as it was written."""
    timestamp: Milliseconds
    index_name: str | None = None


class VolatilityParams(msgspec.Struct):
    """A subscription's notification.

    https://docs.deribit.com/#deribit_volatility_index-index_name

    {"channel":"deribit_volatility_index.btc_usd","data":{"volatility":43.05,
     "timestamp":1617494400007,"index_name":"btc_usd"}}
    """

    channel: str
    data: VolatilityData


class Page(msgspec.Struct):
    """`public/get_volatility_index_data`: candles, oldest first.


    {"data":[[1617494400000,43.01,43.08,42.99,43.05]],"continuation":1617494399999}
    """

    data: list[msgspec.Raw]
    """See `read_candle`."""
    continuation: Milliseconds | None = None
    """There are more, older ones: those up to this `end_timestamp`."""


class PageAnswer(msgspec.Struct):
    """The body of its answer.

    https://docs.deribit.com/#public-get_volatility_index_data

    {"jsonrpc":"2.0","result":{"data":[[1617494400000,43.01,43.08,42.99,43.05]],"continuation":null}}
    """

    result: Page


read_frame: Final = msgspec.json.Decoder(Frame).decode
read_heartbeat: Final = msgspec.json.Decoder(HeartbeatParams).decode
read_volatility: Final = forgiving(VolatilityParams)
read_channels: Final = msgspec.json.Decoder(list[str]).decode
read_page: Final = forgiving(PageAnswer)


_read_row = msgspec.json.Decoder(list[msgspec.Raw]).decode
_read_time = msgspec.json.Decoder(Milliseconds).decode


def read_candle(row: msgspec.Raw) -> tuple[int, bytes]:
    """When it began, and its close, as it was written: a row is beginning, open, high, low, close,
    and whatever may follow. Raises msgspec.DecodeError.
    """
    cells = _read_row(row)
    if len(cells) < CANDLE:
        raise msgspec.ValidationError(f"{len(cells)} cells are no candle")
    return _read_time(cells[0]), bytes(cells[4])
