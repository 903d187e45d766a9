"""Deribit's methods that ask for data, the same over REST and over the websocket.

Source of the rules: Deribit's documentation of the v2 API.
"""

from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

import attrs
import msgspec

from .events import Snapshot
from .figures import candle
from .skin import Answer, Desk, Request

_ROOT = "/api/v2/"
_RESOLUTIONS = {"1": 1, "60": 60, "3600": 3_600, "43200": 43_200, "1D": 86_400}
"""In seconds."""
_MOST_ROWS = 1_000
"""In one answer; the rest is to be asked for up to `continuation`."""
_FAILURES = {
    403: b"<html><head><title>403 Forbidden</title></head><body>Request blocked.</body></html>",
    429: b'{"jsonrpc":"2.0","error":{"message":"too_many_requests","code":10028}}',
}

Row = tuple[int, float, float, float, float]
"""Time in milliseconds, open, high, low, close."""


@attrs.frozen
class Refused(Exception):
    """A method that is not answered: Deribit's code and words, and which parameter was wrong."""

    code: int
    words: str
    parameter: str = ""

    @property
    def body(self) -> dict[str, object]:
        """The value of `error`."""
        if not self.parameter:
            return {"message": self.words, "code": self.code}
        data = {"reason": "wrong format", "param": self.parameter}
        return {"message": self.words, "data": data, "code": self.code}


def invalid(parameter: str) -> Refused:
    """A parameter is missing, or of another format."""
    return Refused(-32602, "Invalid params", parameter)


class DeribitRest:
    """The half of the skin that answers what is asked."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    async def answer(self, request: Request, desk: Desk) -> Answer:
        """`/api/v2/<method>?<params>`."""
        method = urlsplit(request.path).path.removeprefix(_ROOT)
        envelope: dict[str, object] = {"jsonrpc": "2.0", "testnet": False}
        try:
            envelope["result"] = self.asked(method, request.query, desk.symbols, desk.now_ms())
        except Refused as refused:
            envelope["error"] = refused.body
            return Answer(400, msgspec.json.encode(envelope))
        return Answer(200, msgspec.json.encode(envelope))

    def asked(
        self, method: str, params: Mapping[str, object], symbols: Collection[str], now: int
    ) -> object:
        """The result of a method that changes nothing. Raises Refused."""
        match method:
            case "public/test":
                return {"version": "1.2.26"}
            case "public/get_time":
                return now
            case "public/status":
                return {"locked": "false", "locked_indices": []}
            case "public/get_volatility_index_data":
                return self._index_data(params, symbols, now)
            case _:
                raise Refused(-32601, "Method not found")

    def failure(self, status: int) -> bytes:
        """The body the exchange, or the firewall before it, gives with this status."""
        other = b'{"jsonrpc":"2.0","error":{"message":"internal_server_error","code":11094}}'
        return _FAILURES.get(status, other)

    def recorded_snapshot(self, url: str, raw: str) -> Snapshot | None:
        """None: no books are kept."""
        return None

    def depth_url(self, symbol: str, limit: int) -> str:
        """Never asked for: there are no books."""
        raise NotImplementedError("Deribit's books are not simulated")

    def depth_text(self, snapshot: Snapshot) -> str:
        """Never asked for: there are no books."""
        raise NotImplementedError("Deribit's books are not simulated")

    def _index_data(
        self, params: Mapping[str, object], symbols: Collection[str], now: int
    ) -> dict[str, object]:
        """Rows oldest first, the latest of those asked for; each of the seconds told until now."""
        name = f"{str(params.get('currency', '')).lower()}_usd"
        if name not in symbols:
            raise invalid("currency")
        step = _RESOLUTIONS.get(str(params.get("resolution")))
        if step is None:
            raise invalid("resolution")
        start, end = _time(params, "start_timestamp"), min(_time(params, "end_timestamp"), now)
        # A row belongs to its first second: those from `start` to `end`.
        first, last = -(-start // (step * 1_000)), end // (step * 1_000)
        chosen = range(max(first, last - _MOST_ROWS + 1), last + 1)
        rows: list[Row] = [
            (row * step * 1_000, *_candle(self.seed, name, row * step, step, now // 1_000))
            for row in chosen
        ]
        more = chosen.start > first
        return {"data": rows, "continuation": (chosen.start - 1) * step * 1_000 if more else None}


def _candle(
    seed: int, name: str, first: int, step: int, latest: int
) -> tuple[float, float, float, float]:
    return candle(seed, name, first, min(first + step - 1, latest))


def _time(params: Mapping[str, object], name: str) -> int:
    try:
        return int(str(params[name]))
    except (KeyError, ValueError):
        raise invalid(name) from None
