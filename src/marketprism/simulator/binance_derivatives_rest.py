"""Binance USD-M's REST: `/fapi/v1/…`, `/futures/data/…`, weights, errors.

Source of the rules: Binance's documentation of the USD-M REST API, and recorded answers.
"""

from urllib.parse import parse_qs, urlsplit

import attrs
import msgspec

from . import listings
from .events import Snapshot
from .figures import FIVE_MINUTES, long_share, row_times
from .listings import Listing, decimals_of, text
from .perpetual import open_interest
from .skin import Answer, Desk, Request

_HOST = "https://fapi.binance.com"
_WEIGHT_A_MINUTE = 2_400
_RATIO_REQUESTS = 1_000
"""In five minutes, apart from all weight."""
_DEPTH_WEIGHTS = {5: 2, 10: 2, 20: 2, 50: 2, 100: 5, 500: 10, 1_000: 20}
"""By the limits there are."""
_RATIOS = {
    "/futures/data/topLongShortPositionRatio": "top position",
    "/futures/data/globalLongShortAccountRatio": "all account",
}
_HOUR = 12 * FIVE_MINUTES
_PERIODS = {
    "5m": FIVE_MINUTES, "15m": 3 * FIVE_MINUTES, "30m": 6 * FIVE_MINUTES, "1h": _HOUR,
    "2h": 2 * _HOUR, "4h": 4 * _HOUR, "6h": 6 * _HOUR, "12h": 12 * _HOUR, "1d": 24 * _HOUR,
}  # fmt: skip
_MOST_ROWS = 500
_FOUR_HOURS = ("ETHUSDT", "XMRUSDT", "SUSHIUSDT")
"""The symbols that are funded every four hours."""
_FAILURES = {
    403: b"<html><head><title>403 Forbidden</title></head><body>Request blocked.</body></html>",
    418: b'{"code":-1003,"msg":"Way too many requests; IP banned until later."}',
    429: b'{"code":-1003,"msg":"Too many requests; current limit is 2400 requests per minute."}',
    451: b'{"code":0,"msg":"Service unavailable from a restricted location."}',
}


class _Depth(msgspec.Struct):
    lastUpdateId: int  # noqa: N815
    E: int
    T: int
    bids: list[tuple[str, str]]
    asks: list[tuple[str, str]]


def listing(symbol: str) -> Listing:
    """A perpetual: the spot listing with coarser lots, and as many decimals as Binance writes."""
    spot = listings.listing(symbol)
    coarse = {"BTCUSDT": (10_000_000, 100_000), "ETHUSDT": (1_000_000, 100_000)}
    tick, lot = coarse.get(symbol, (spot.tick, max(spot.lot, 100_000)))
    hours = 4 if symbol in _FOUR_HOURS else 8
    decimals = max(2, decimals_of(tick)), max(3, decimals_of(lot))
    return attrs.evolve(spot, tick=tick, lot=lot, decimals=decimals, funding_hours=hours)


class BinanceDerivativesRest:
    """The half of the skin that answers requests."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def recorded_snapshot(self, url: str, raw: str) -> Snapshot | None:
        """A recorded answer of `depth`."""
        parts = urlsplit(url)
        if not parts.path.endswith("/depth"):
            return None
        query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        try:
            depth = msgspec.json.decode(raw, type=_Depth)
        except msgspec.ValidationError:
            return None
        limit = int(query.get("limit", 500))
        return Snapshot(query["symbol"], depth.lastUpdateId, depth.bids, depth.asks, limit, depth.T)

    def depth_url(self, symbol: str, limit: int) -> str:
        """Where the real exchange answers with a book."""
        return f"{_HOST}/fapi/v1/depth?symbol={symbol}&limit={limit}"

    def depth_text(self, snapshot: Snapshot) -> str:
        """`lastUpdateId`, `E`, `T`, `bids`, `asks`."""
        depth = _Depth(
            snapshot.last_id, snapshot.time + 3, snapshot.time, snapshot.bids, snapshot.asks
        )
        return msgspec.json.encode(depth).decode()

    async def answer(self, request: Request, desk: Desk) -> Answer:
        """Any request; it counts whether it succeeds or not."""
        if request.path in _RATIOS:
            if desk.spend(1, "ratios", 300) > _RATIO_REQUESTS:
                return Answer(429, self.failure(429))
            return Answer(*self._ratio(request, desk))
        used = desk.spend(_weight(request))
        headers = {"X-MBX-USED-WEIGHT-1M": str(used)}
        if used > _WEIGHT_A_MINUTE:
            seconds = 60 - desk.now_ms() // 1_000 % 60
            return Answer(429, self.failure(429), {**headers, "Retry-After": str(seconds)})
        return Answer(*await self._body(request, desk), headers)

    def failure(self, status: int) -> bytes:
        """The body the exchange, or the firewall before it, gives with this status."""
        return _FAILURES.get(status, b'{"code":-1000,"msg":"An unknown error occurred."}')

    async def _body(self, request: Request, desk: Desk) -> tuple[int, bytes]:
        match request.path:
            case "/fapi/v1/ping":
                return 200, b"{}"
            case "/fapi/v1/time":
                return 200, msgspec.json.encode({"serverTime": desk.now_ms()})
            case "/fapi/v1/exchangeInfo":
                return 200, _exchange_info(desk)
            case "/fapi/v1/fundingInfo":
                return 200, _funding_info(desk)
            case "/fapi/v1/depth":
                return await self._depth(request, desk)
            case "/fapi/v1/openInterest":
                return self._open_interest(request, desk)
            case _:
                return 404, b'{"code":-5000,"msg":"Path not found."}'

    async def _depth(self, request: Request, desk: Desk) -> tuple[int, bytes]:
        refusal = _refusal(request, desk) or _rest(request, desk)
        if refusal is not None:
            return 400, refusal
        limit = request.query.get("limit", "500")
        if not limit.isascii() or not limit.isdigit() or int(limit) not in _DEPTH_WEIGHTS:
            return 400, _error(-4021, f"'{limit}' is not valid depth limit.")
        snapshot = await desk.depth(request.query["symbol"], int(limit))
        if snapshot is None:
            return 503, _error(-1008, "Request throttled by system-level protection.")
        return 200, self.depth_text(snapshot).encode()

    def _open_interest(self, request: Request, desk: Desk) -> tuple[int, bytes]:
        refusal = _refusal(request, desk) or _rest(request, desk)
        if refusal is not None:
            return 400, refusal
        listed = listing(request.query["symbol"])
        now = desk.now_ms()
        count = text(open_interest(self.seed, listed, now), 3)
        body = {"openInterest": count, "symbol": listed.symbol, "time": now - now % 1_000}
        return 200, msgspec.json.encode(body)

    def _ratio(self, request: Request, desk: Desk) -> tuple[int, bytes]:
        refusal = _refusal(request, desk)
        if refusal is not None:
            return 400, refusal
        symbol, limit = request.query["symbol"], request.query.get("limit", "30")
        period = _PERIODS.get(request.query.get("period", ""))
        if period is None:
            return 400, _error(-1130, "Data sent for parameter 'period' is not valid.")
        if not limit.isascii() or not limit.isdigit() or not 0 < int(limit) <= _MOST_ROWS:
            return 400, _error(-1130, "Data sent for parameter 'limit' is not valid.")
        rows = [
            _row(symbol, long_share(self.seed, _RATIOS[request.path], symbol, at), at)
            for at in row_times(desk.now_ms(), period, int(limit))
        ]
        return 200, msgspec.json.encode(rows)


def _weight(request: Request) -> int:
    if request.path == "/fapi/v1/fundingInfo":
        return 0
    if request.path != "/fapi/v1/depth":
        return 1
    limit = request.query.get("limit", "500")
    return _DEPTH_WEIGHTS.get(int(limit), 20) if limit.isascii() and limit.isdigit() else 20


def _refusal(request: Request, desk: Desk) -> bytes | None:
    symbol = request.query.get("symbol")
    if symbol is None:
        return _error(-1102, "Mandatory parameter 'symbol' was not sent, was empty/null.")
    return None if symbol in desk.symbols else _error(-1121, "Invalid symbol.")


def _rest(request: Request, desk: Desk) -> bytes | None:
    """Of a contract that does not trade as usual nothing is told."""
    if desk.status(request.query["symbol"]) is None:
        return None
    return _error(
        -4108, "Symbol is on delivering or delivered or settling or closed or pre-trading."
    )


def _row(symbol: str, longs: float, time: int) -> dict[str, object]:
    return {
        "symbol": symbol,
        "longShortRatio": f"{longs / (1 - longs):.4f}",
        "longAccount": f"{longs:.4f}",
        "shortAccount": f"{1 - longs:.4f}",
        "timestamp": time,
    }


def _funding_info(desk: Desk) -> bytes:
    """Those that deviate from eight hours, and one that was adjusted but does not."""
    hours = {
        symbol: found for symbol in desk.symbols if (found := listing(symbol).funding_hours) != 8
    }
    rows = [
        {
            "symbol": symbol,
            "adjustedFundingRateCap": "0.02000000",
            "adjustedFundingRateFloor": "-0.02000000",
            "fundingIntervalHours": interval,
            "disclaimer": False,
            "updateTime": 1_752_854_309_429,
        }
        for symbol, interval in {"GTCUSDT": 8, **hours}.items()
    ]
    return msgspec.json.encode(rows)


def _exchange_info(desk: Desk) -> bytes:
    """What is listed; a dated future and a COIN-M perpetual that are not what they look like."""
    first = listing(next(iter(desk.listed), "BTCUSDT"))
    dated = _symbol(first, f"{first.symbol}_261225") | {
        "contractType": "CURRENT_QUARTER",
        "deliveryDate": 1_798_185_600_000,
    }
    coin = _symbol(first, f"{first.base}USD_PERP") | {
        "pair": f"{first.base}USD",
        "quoteAsset": "USD",
        "marginAsset": first.base,
        "contractSize": 100,
        "st": 2,
    }
    perpetuals = [
        _symbol(listing(symbol), symbol) | {"status": desk.status(symbol) or "TRADING"}
        for symbol in desk.listed
    ]
    info = {
        "timezone": "UTC",
        "serverTime": desk.now_ms(),
        "futuresType": "U_MARGINED",
        "rateLimits": [
            {
                "rateLimitType": "REQUEST_WEIGHT",
                "interval": "MINUTE",
                "intervalNum": 1,
                "limit": _WEIGHT_A_MINUTE,
            }
        ],
        "exchangeFilters": [],
        "assets": [],
        "symbols": [*perpetuals, dated, coin],
    }
    return msgspec.json.encode(info)


def _symbol(listed: Listing, symbol: str) -> dict[str, object]:
    return {
        "symbol": symbol,
        "pair": listed.symbol,
        "contractType": "PERPETUAL",
        "deliveryDate": 4_133_404_800_000,
        "onboardDate": 1_569_398_400_000,
        "status": "TRADING",
        "baseAsset": listed.base,
        "quoteAsset": listed.quote,
        "marginAsset": listed.quote,
        "pricePrecision": 2,
        "quantityPrecision": 3,
        "baseAssetPrecision": 8,
        "quotePrecision": 8,
        "underlyingType": "COIN",
        "underlyingSubType": [],
        "filters": [
            {"filterType": "PRICE_FILTER", "tickSize": text(listed.tick, None)},
            {"filterType": "LOT_SIZE", "stepSize": text(listed.lot, None)},
        ],
        "orderTypes": ["LIMIT", "MARKET"],
        "timeInForce": ["GTC", "IOC", "FOK", "GTX"],
    }


def _error(code: int, message: str) -> bytes:
    return msgspec.json.encode({"code": code, "msg": message})
