"""The REST side of a simulated exchange, over real sockets."""

import math
from decimal import Decimal
from typing import Any

import httpx
import loopback
import pytest
import trio
from patience import PATIENCE

from marketprism.simulator import market, player, record
from marketprism.simulator.market import Market

from .conftest import Connect, Receive, Serving, get


async def test_exchange_info_describes_what_is_listed(serving: Serving) -> None:
    """Each symbol with its status and assets, and the budget of weight."""
    address = await serving(market("binance_spot", symbols=["BTCUSDT", "DOTUSDT", "NEWFDUSD"]))
    info: dict[str, Any] = (await get(address.base_url, "/api/v3/exchangeInfo")).json()
    assert [
        (s["symbol"], s["status"], s["baseAsset"], s["quoteAsset"]) for s in info["symbols"]
    ] == [
        ("BTCUSDT", "TRADING", "BTC", "USDT"),
        ("DOTUSDT", "TRADING", "DOT", "USDT"),
        ("NEWFDUSD", "TRADING", "NEW", "FDUSD"),
    ]
    assert {
        "rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 6000,
    } in info["rateLimits"]  # fmt: skip
    some = await get(address.base_url, '/api/v3/exchangeInfo?symbols=["DOTUSDT"]')
    assert [each["symbol"] for each in some.json()["symbols"]] == ["DOTUSDT"]


async def test_weight_adds_up_within_a_minute(serving: Serving) -> None:
    """Each answer says the weight spent so far, by Binance's table."""
    exchange = market("binance_spot")
    exchange.clock_ms = lambda: minute[0] * 60_000
    minute = [1_000]
    address = await serving(exchange)
    spent = 0
    for path, weight in (
        ("ping", 1), ("time", 1), ("exchangeInfo", 20),
        ("depth?symbol=BTCUSDT", 5), ("depth?symbol=BTCUSDT&limit=100", 5),
        ("depth?symbol=BTCUSDT&limit=101", 25), ("depth?symbol=BTCUSDT&limit=1000", 50),
        ("depth?symbol=BTCUSDT&limit=5000", 250), ("depth?symbol=BTCUSDT&limit=9999", 250),
    ):  # fmt: skip
        answer = await get(address.base_url, f"/api/v3/{path}")
        spent += weight
        assert answer.status_code == 200
        assert answer.headers["X-MBX-USED-WEIGHT-1M"] == str(spent)
    minute[0] += 1
    answer = await get(address.base_url, "/api/v3/ping")
    assert answer.headers["x-mbx-used-weight-1m"] == "1"


async def test_spending_too_much_weight_is_answered_with_429(serving: Serving) -> None:
    """Beyond the budget there is no data until the minute is over, and the answer says when."""
    exchange = market("binance_spot")
    exchange.clock_ms = lambda: 1_000 * 60_000 + 50_000
    address = await serving(exchange)
    exchange.spend(5_990)
    answer = await get(address.base_url, "/api/v3/exchangeInfo")
    assert answer.status_code == 429
    assert answer.headers["Retry-After"] == "10"


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/api/v3/depth?symbol=NOSUCH", 400, -1121),
        ("/api/v3/depth", 400, -1102),
        ("/api/v3/depth?symbol=BTCUSDT&limit=x", 400, -1130),
        ("/api/v3/exchangeInfo?symbol=NOSUCH", 400, -1121),
        ("/api/v3/exchangeInfo?symbols=x", 400, -1100),
        ("/api/v3/unknown", 404, -1000),
    ],
)
async def test_a_wrong_request_is_refused(
    serving: Serving, path: str, status: int, code: int
) -> None:
    """Errors have Binance's status and code."""
    address = await serving(market("binance_spot"))
    answer = await get(address.base_url, path)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_a_live_book_is_cut_to_the_limit(serving: Serving) -> None:
    """Depth gives the best levels of a book that is not crossed."""
    address = await serving(market("binance_spot"))
    book = (await get(address.base_url, "/api/v3/depth?symbol=ETHUSDT&limit=20")).json()
    assert len(book["bids"]) == len(book["asks"]) == 20
    assert Decimal(book["bids"][0][0]) < Decimal(book["asks"][0][0])
    assert book["lastUpdateId"] > 0


async def test_a_live_book_joins_the_stream(
    serving: Serving, connect: Connect, receive: Receive
) -> None:
    """Buffered, fetched, joined: the book kept by Binance's procedure is the market's later on."""
    address = await serving(market("binance_spot", seed=2, quotes_per_second=300))
    async with connect(f"{address.ws_url}/ws/btcusdt@depth@100ms") as websocket:
        first = await receive(websocket)
        book = (await get(address.base_url, "/api/v3/depth?symbol=BTCUSDT&limit=5000")).json()
        bids, known = dict(book["bids"]), book["lastUpdateId"]
        assert known >= first["U"]
        joined = 0
        while joined < 8:
            update = await receive(websocket)
            if update["u"] > known:
                assert update["U"] <= known + 1
                known = update["u"]
                bids.update(update["b"])
                joined += 1
        later = (await get(address.base_url, "/api/v3/depth?symbol=BTCUSDT&limit=5000")).json()
        while known < later["lastUpdateId"]:
            update = await receive(websocket)
            if update["u"] >= later["lastUpdateId"]:
                break
            bids.update(update["b"])
        kept = {price for price, quantity in bids.items() if Decimal(quantity)}
        differing = kept ^ {price for price, _ in later["bids"]}
        assert len(differing) <= len(update["b"])


async def test_a_request_for_a_book_not_known_yet_ends_with_its_client(serving: Serving) -> None:
    """A client that gives up waiting leaves nothing behind, and the server goes on."""
    address = await serving(player(record(Market(1), 2), speed=math.inf))
    async with loopback.client(base_url=address.base_url, timeout=0.2) as client:
        with pytest.raises(httpx.ReadTimeout):
            await client.get("/api/v3/depth?symbol=BTCUSDT")
    assert (await get(address.base_url, "/api/v3/ping")).json() == {}


async def test_a_played_book_is_that_of_the_playback(serving: Serving, connect: Connect) -> None:
    """After the last message the book is the final one, whatever the client asked before."""
    lines = record(Market(1, ["BTCUSDT"]), 3)
    exchange = player(lines, speed=math.inf, start_delay=0)
    address = await serving(exchange)
    async with connect(f"{address.ws_url}/stream?streams=btcusdt@depth@100ms"):
        with trio.fail_after(PATIENCE):
            await exchange.finished.wait()
        book = (await get(address.base_url, "/api/v3/depth?symbol=BTCUSDT&limit=1000")).json()
    twin = Market(1, ["BTCUSDT"])
    twin.step(1_700_000_000_000)
    twin.step(1_700_000_003_000)
    assert book["lastUpdateId"] == twin.snapshot("BTCUSDT").last_id
