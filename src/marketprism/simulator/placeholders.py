"""Lists of markets in which rows of another name keep a place beside those that trade."""

from typing import Any, Final, NamedTuple

import msgspec


class _List(NamedTuple):
    rows: str
    name: str
    status: str
    waits: str
    """The exchange's word for what does not trade yet."""


_LISTS: Final = {
    "/api/v3/exchangeInfo": _List("symbols", "symbol", "status", "PRE_TRADING"),
    "/fapi/v1/exchangeInfo": _List("symbols", "symbol", "status", "PENDING_TRADING"),
    "/api/v5/public/instruments": _List("data", "instId", "state", "preopen"),
}
"""By path."""


def with_placeholders(path: str, text: str) -> str:
    """The answer to a request of this path, with a placeholder before each market, like OKX's
    `LISTING-SPOT-SLX-USDT`; as it is where it is no list of markets.
    """
    if (kind := _LISTS.get(path)) is None:
        return text
    answer: dict[str, Any] = msgspec.json.decode(text)
    rows = answer.get(kind.rows, [])
    kept = [row | {kind.name: f"LISTING-{row[kind.name]}", kind.status: kind.waits} for row in rows]
    answer[kind.rows] = [each for pair in zip(kept, rows, strict=True) for each in pair]
    return msgspec.json.encode(answer).decode()
