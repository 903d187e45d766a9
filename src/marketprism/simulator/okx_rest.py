"""OKX's REST: instruments, books, ratios, limits, errors.

Source of the rules: OKX's documentation of the v5 REST API; the ratios as clients report them.
Errors of meaning have status 200 and a code; too many requests have status 429.
"""

from urllib.parse import parse_qs, urlsplit

import msgspec

from .events import Snapshot
from .figures import FIVE_MINUTES, long_share, row_times
from .okx_instruments import kind, row
from .okx_words import book_body
from .skin import Answer, Desk, Options, Request

_HOST = "https://www.okx.com"
_INSTRUMENTS = "/api/v5/public/instruments"
_BOOKS = "/api/v5/market/books"
_RUBIK = "/api/v5/rubik/stat/contracts"
_RATIOS = {
    f"{_RUBIK}/long-short-position-ratio-contract-top-trader": "top position",
    f"{_RUBIK}/long-short-account-ratio-contract": "all account",
}
_KINDS = ("SPOT", "MARGIN", "SWAP", "FUTURES", "OPTION")
_MOST_LEVELS = 400
_MOST_ROWS = 100
_WINDOW_SECONDS = 2
_REQUESTS = {_INSTRUMENTS: 20, _BOOKS: 40, **dict.fromkeys(_RATIOS, 5)}
"""What an address may ask of each path in two seconds."""
_HOUR = 12 * FIVE_MINUTES
_PERIODS = {"5m": FIVE_MINUTES, "1H": _HOUR, "4H": 4 * _HOUR, "1D": 24 * _HOUR}
_FAILURES = {
    403: b"<html><head><title>403 Forbidden</title></head><body>Request blocked.</body></html>",
    429: b'{"code":"50011","data":[],"msg":"Too Many Requests"}',
    503: b'{"code":"50001","data":[],"msg":"Service temporarily unavailable. Try again later."}',
}


class _Depth(msgspec.Struct):
    asks: list[tuple[str, str, str, str]]
    bids: list[tuple[str, str, str, str]]
    ts: str
    seqId: int  # noqa: N815


class _Body(msgspec.Struct):
    data: list[_Depth]


class OkxRest:
    """The half of the skin that answers requests."""

    def __init__(self, options: Options) -> None:
        self.seed = options.seed
        self._instruments = options.instruments

    def recorded_snapshot(self, url: str, raw: str) -> Snapshot | None:
        """A recorded answer of `books` that says its `seqId`."""
        parts = urlsplit(url)
        if parts.path != _BOOKS:
            return None
        query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        try:
            (depth,) = msgspec.json.decode(raw, type=_Body).data
        except msgspec.ValidationError:
            return None
        bids = [(price, size) for price, size, *_ in depth.bids]
        asks = [(price, size) for price, size, *_ in depth.asks]
        limit = int(query.get("sz", 1))
        return Snapshot(query["instId"], depth.seqId, bids, asks, limit, int(depth.ts))

    def depth_url(self, symbol: str, limit: int) -> str:
        """Where the real exchange answers with a book."""
        return f"{_HOST}{_BOOKS}?instId={symbol}&sz={min(limit, _MOST_LEVELS)}"

    def depth_text(self, snapshot: Snapshot) -> str:
        """One book, with its `seqId`."""
        return _data([book_body(snapshot)]).decode()

    async def answer(self, request: Request, desk: Desk) -> Answer:
        """Any request, unless there were too many of its kind."""
        most = _REQUESTS.get(request.path)
        if most is None:
            return Answer(404, b'{"code":"404","data":[],"msg":"Not Found"}')
        if desk.spend(1, request.path, _WINDOW_SECONDS) > most:
            return Answer(429, self.failure(429))
        if request.path == _INSTRUMENTS:
            return self._listed(request, desk)
        symbol = request.query.get("instId")
        if symbol is None:
            return Answer(400, _error("50014", "Parameter instId can not be empty."))
        ratio = request.path in _RATIOS
        if symbol not in desk.symbols or (ratio and kind(symbol) not in ("SWAP", "FUTURES")):
            return Answer(200, _error("51001", "Instrument ID doesn't exist."))
        if ratio:
            return self._ratio(request, symbol, desk)
        return await self._book(request, symbol, desk)

    def failure(self, status: int) -> bytes:
        """The body the exchange, or the firewall before it, gives with this status."""
        return _FAILURES.get(status, b'{"code":"50026","data":[],"msg":"System error."}')

    def _listed(self, request: Request, desk: Desk) -> Answer:
        wanted = request.query.get("instType")
        if wanted not in _KINDS:
            return Answer(400, _error("51000", "Parameter instType error"))
        chosen = request.query.get("instId")
        rows = [
            dict(self._instruments.get(symbol) or row(symbol)) | _state(desk.status(symbol))
            for symbol in desk.listed
            if kind(symbol) == wanted and chosen in (None, symbol)
        ]
        return Answer(200, _data(rows))

    async def _book(self, request: Request, symbol: str, desk: Desk) -> Answer:
        size = request.query.get("sz", "1")
        if not size.isascii() or not size.isdigit() or not 0 < int(size) <= _MOST_LEVELS:
            return Answer(400, _error("51000", "Parameter sz error"))
        snapshot = await desk.depth(symbol, int(size))
        if snapshot is None:
            return Answer(503, self.failure(503))
        return Answer(200, self.depth_text(snapshot).encode())

    def _ratio(self, request: Request, symbol: str, desk: Desk) -> Answer:
        period = _PERIODS.get(request.query.get("period", "5m"))
        limit = request.query.get("limit", "100")
        if period is None or not limit.isascii() or not limit.isdigit():
            return Answer(400, _error("51000", "Parameter period or limit error"))
        name, count = _RATIOS[request.path], min(int(limit), _MOST_ROWS)
        rows = []
        for at in reversed(row_times(desk.now_ms(), period, count)):
            longs = long_share(self.seed, name, symbol, at)
            rows.append((str(at), f"{longs / (1 - longs):.4f}".rstrip("0").rstrip(".")))
        return Answer(200, _data(rows))


def _state(status: str | None) -> dict[str, str]:
    """What replaces the state of a market that does not trade as usual."""
    return {} if status is None else {"state": status}


def _data(rows: object) -> bytes:
    return msgspec.json.encode({"code": "0", "data": rows, "msg": ""})


def _error(code: str, words: str) -> bytes:
    return msgspec.json.encode({"code": code, "data": [], "msg": words})
