"""What the Bourse says: only what is used.

{"topic":"trades:BTC-USDT","id":"6f…","price":"1.5","size":"2","taker":"buy","at":1780000000000}
{"topic":"books:BTC-USDT","kind":"snapshot","seq":7,"bids":[["1.5","2"]],"asks":[],"at":…}
{"topic":"books:BTC-USDT","kind":"update","prev":7,"seq":9,"bids":[],"asks":[…],"at":…}
{"id":3,"op":"subscribe","granted":["trades:BTC-USDT"],"refused":{"books:X":"no such topic"}}
"""

from collections.abc import Sequence
from typing import Literal

import msgspec


class Said(msgspec.Struct):
    """Any message: one with a topic tells something, one without is an answer."""

    topic: str = ""
    id: int | str | None = None
    """The name of a trade, or the number of a command."""
    at: int = 0
    """Milliseconds."""
    price: str = ""
    size: str = ""
    taker: Literal["buy", "sell", ""] = ""
    kind: Literal["snapshot", "update", ""] = ""
    prev: int = 0
    """The `seq` that an update follows."""
    seq: int = 0
    bids: list[tuple[str, str]] = msgspec.field(default_factory=list)
    asks: list[tuple[str, str]] = msgspec.field(default_factory=list)
    granted: Sequence[str] = ()
    refused: dict[str, str] = msgspec.field(default_factory=dict)
    error: str = ""


class Market(msgspec.Struct):
    """A row of `GET /markets`."""

    name: str
    status: str


class Markets(msgspec.Struct):
    """`GET /markets`."""

    markets: list[Market]


read = msgspec.json.Decoder(Said).decode
read_markets = msgspec.json.Decoder(Markets).decode
