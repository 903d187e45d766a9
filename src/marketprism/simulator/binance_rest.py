"""Binance spot's REST: `/api/v3/…`, weights, errors.

Source of the rules: Binance's documentation of the spot REST API.
"""

from urllib.parse import parse_qs, urlsplit

import msgspec

from .events import Snapshot
from .listings import listing, text
from .skin import Answer, Desk, Request

_HOST = "https://api.binance.com"
_WEIGHT_A_MINUTE = 6_000
_MOST_LEVELS = 5_000
_DEPTH_WEIGHTS = ((100, 5), (500, 25), (1_000, 50), (_MOST_LEVELS, 250))
_FAILURES = {
    403: b"<html><head><title>403 Forbidden</title></head><body>Request blocked.</body></html>",
    418: b'{"code":-1003,"msg":"Way too much request weight used; IP banned until later."}',
    429: b'{"code":-1003,"msg":"Too much request weight used; current limit is 6000 per minute."}',
    451: b'{"code":0,"msg":"Service unavailable from a restricted location."}',
}


class _Depth(msgspec.Struct):
    lastUpdateId: int  # noqa: N815
    bids: list[tuple[str, str]]
    asks: list[tuple[str, str]]


class BinanceRest:
    """The half of the skin that answers requests."""

    def recorded_snapshot(self, url: str, raw: str) -> Snapshot | None:
        """A recorded answer of `depth`, of any version of the API."""
        parts = urlsplit(url)
        if not parts.path.endswith("/depth"):
            return None
        query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        try:
            depth = msgspec.json.decode(raw, type=_Depth)
        except msgspec.ValidationError:
            return None
        limit = int(query.get("limit", 100))
        return Snapshot(query["symbol"], depth.lastUpdateId, depth.bids, depth.asks, limit)

    def depth_url(self, symbol: str, limit: int) -> str:
        """Where the real exchange answers with a book."""
        return f"{_HOST}/api/v3/depth?symbol={symbol}&limit={limit}"

    def depth_text(self, snapshot: Snapshot) -> str:
        """`lastUpdateId`, `bids`, `asks`."""
        return msgspec.json.encode(_Depth(snapshot.last_id, snapshot.bids, snapshot.asks)).decode()

    async def answer(self, request: Request, desk: Desk) -> Answer:
        """Any request; its weight counts whether it succeeds or not."""
        limit = request.query.get("limit", "100")
        used = desk.spend(_weight(request.path, limit))
        headers = {"X-MBX-USED-WEIGHT": str(used), "X-MBX-USED-WEIGHT-1M": str(used)}
        if used > _WEIGHT_A_MINUTE:
            seconds = 60 - desk.now_ms() // 1_000 % 60
            return Answer(429, self.failure(429), {**headers, "Retry-After": str(seconds)})
        status, body = await self._body(request, limit, desk)
        return Answer(status, body, headers)

    def failure(self, status: int) -> bytes:
        """The body the exchange, or the firewall before it, gives with this status."""
        return _FAILURES.get(status, b'{"code":-1000,"msg":"An unknown error occurred."}')

    async def _body(self, request: Request, limit: str, desk: Desk) -> tuple[int, bytes]:
        match request.path:
            case "/api/v3/ping":
                return 200, b"{}"
            case "/api/v3/time":
                return 200, msgspec.json.encode({"serverTime": desk.now_ms()})
            case "/api/v3/exchangeInfo":
                return _exchange_info(request, desk)
            case "/api/v3/depth":
                return await self._depth(request, limit, desk)
            case _:
                return 404, b'{"code":-1000,"msg":"Not found."}'

    async def _depth(self, request: Request, limit: str, desk: Desk) -> tuple[int, bytes]:
        symbol = request.query.get("symbol")
        if symbol is None:
            return 400, _error(-1102, "Mandatory parameter 'symbol' was not sent.")
        if not limit.isascii() or not limit.isdigit() or int(limit) == 0:
            return 400, _error(-1130, "Data sent for parameter 'limit' is not valid.")
        if symbol not in desk.symbols:
            return 400, _error(-1121, "Invalid symbol.")
        snapshot = await desk.depth(symbol, min(int(limit), _MOST_LEVELS))
        if snapshot is None:
            return 503, _error(-1008, "Request throttled by system-level protection.")
        return 200, self.depth_text(snapshot).encode()


def _weight(path: str, limit: str) -> int:
    if path == "/api/v3/exchangeInfo":
        return 20
    if path != "/api/v3/depth":
        return 1
    asked = int(limit) if limit.isascii() and limit.isdigit() else 0
    return next((weight for most, weight in _DEPTH_WEIGHTS if asked <= most), 250)


def _exchange_info(request: Request, desk: Desk) -> tuple[int, bytes]:
    wanted = list(desk.listed)
    if "symbol" in request.query:
        wanted = [request.query["symbol"]]
    elif "symbols" in request.query:
        try:
            wanted = msgspec.json.decode(request.query["symbols"], type=list[str])
        except msgspec.DecodeError:
            return 400, _error(-1100, "Illegal characters found in parameter 'symbols'.")
    if not set(wanted) <= set(desk.symbols):
        return 400, _error(-1121, "Invalid symbol.")
    info = {
        "timezone": "UTC",
        "serverTime": desk.now_ms(),
        "rateLimits": [
            _rate_limit("REQUEST_WEIGHT", "MINUTE", 1, _WEIGHT_A_MINUTE),
            _rate_limit("RAW_REQUESTS", "MINUTE", 5, 61_000),
        ],
        "exchangeFilters": [],
        "symbols": [_symbol_info(symbol, desk.status(symbol)) for symbol in wanted],
    }
    return 200, msgspec.json.encode(info)


def _rate_limit(kind: str, interval: str, count: int, limit: int) -> dict[str, object]:
    return {"rateLimitType": kind, "interval": interval, "intervalNum": count, "limit": limit}


def _symbol_info(symbol: str, status: str | None) -> dict[str, object]:
    listed = listing(symbol)
    return {
        "symbol": symbol,
        "status": status or "TRADING",
        "baseAsset": listed.base,
        "baseAssetPrecision": 8,
        "quoteAsset": listed.quote,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET"],
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": [
            {
                "filterType": "PRICE_FILTER",
                "minPrice": text(listed.tick),
                "maxPrice": "1000000.00000000",
                "tickSize": text(listed.tick),
            },
            {
                "filterType": "LOT_SIZE",
                "minQty": text(listed.lot),
                "maxQty": "9000.00000000",
                "stepSize": text(listed.lot),
            },
        ],
        "permissions": [],
        "permissionSets": [["SPOT"]],
    }


def _error(code: int, message: str) -> bytes:
    return msgspec.json.encode({"code": code, "msg": message})
