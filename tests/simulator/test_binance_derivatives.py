"""Binance USD-M over real sockets: routes, messages, REST."""

from collections import defaultdict
from decimal import Decimal
from itertools import pairwise
from typing import Any

import msgspec
import pytest
import trio
from patience import PATIENCE

from marketprism.simulator import Exchange, market

from .conftest import Connect, Handshake, Receive, Serving, get, hurried

BOOK, TRADES = "btcusdt@depth@100ms", "btcusdt@aggTrade"
MARK, FORCED, EVERYBODY = "btcusdt@markPrice@1s", "btcusdt@forceOrder", "!forceOrder@arr"


def busy() -> Exchange:
    """A market in which much happens."""
    return hurried(market("binance_derivatives", seed=1), 6)


async def heard(connect: Connect, url: str, streams: list[str], seconds: float) -> dict[str, Any]:
    """By stream, the payloads that come within so many seconds of subscribing to them."""
    found: defaultdict[str, list[Any]] = defaultdict(list)
    command = {"method": "SUBSCRIBE", "params": streams, "id": 1}
    async with connect(url) as websocket:
        await websocket.send_message(msgspec.json.encode(command).decode())
        with trio.move_on_after(seconds):
            while True:
                message = msgspec.json.decode(await websocket.get_message())
                found[message.get("stream", "answer")].append(message.get("data", message))
    return dict(found)


async def test_each_route_carries_its_own_streams(serving: Serving, connect: Connect) -> None:
    """All subscriptions are acknowledged everywhere; the wrong ones and the old URL are silent."""
    root = (await serving(busy())).ws_url
    streams = [BOOK, TRADES, MARK]
    found: dict[str, set[str]] = {}

    async def listen(route: str) -> None:
        found[route] = set(await heard(connect, f"{root}{route}/stream", streams, 0.5))

    async with trio.open_nursery() as nursery:
        for route in ("/public", "/market", ""):
            nursery.start_soon(listen, route)
    assert found == {
        "/public": {"answer", BOOK},
        "/market": {"answer", TRADES, MARK},
        "": {"answer", BOOK},
    }


async def test_a_url_subscribes_on_its_route(
    serving: Serving, connect: Connect, receive: Receive, handshake: Handshake
) -> None:
    """Streams in the URL count like those of a command; an unknown route is not found."""
    root = (await serving(busy())).ws_url
    async with connect(f"{root}/public/ws/{TRADES}/{BOOK}") as websocket:
        assert (await receive(websocket))["e"] == "depthUpdate"
    async with connect(f"{root}/market/stream?streams={TRADES}/{BOOK}") as websocket:
        assert (await receive(websocket))["stream"] == TRADES
    assert await handshake(f"{root}/private/ws") == 404
    assert await handshake(f"{root}/public") == 404


async def test_updates_chain_by_pu_and_their_ids_jump(
    serving: Serving, connect: Connect, receive: Receive
) -> None:
    """`pu` is the `u` before; the `U` after it leaves a hole; 2026's keys are there."""
    root = (await serving(busy())).ws_url
    async with connect(f"{root}/public/ws/{BOOK}") as websocket:
        updates = [await receive(websocket) for _ in range(12)]
    assert list(updates[0]) == ["e", "E", "T", "s", "ps", "st", "U", "u", "pu", "b", "a"]
    for early, late in pairwise(updates):
        assert late["pu"] == early["u"]
        assert early["u"] + 1 < late["U"] <= late["u"]
    assert {(each["st"], each["ps"], each["s"]) for each in updates} == {(1, "BTCUSDT", "BTCUSDT")}
    assert all(each["E"] >= each["T"] > 1_600_000_000_000 for each in updates)
    price, quantity = next(level for each in updates for level in each["b"])
    assert (len(price.partition(".")[2]), len(quantity.partition(".")[2])) == (2, 3)


async def test_a_book_joins_by_the_documented_procedure(
    serving: Serving, connect: Connect, receive: Receive
) -> None:
    """Buffered, fetched, joined where `U <= lastUpdateId <= u`: the same book as later on."""
    address = await serving(busy())
    async with connect(f"{address.ws_url}/public/ws/{BOOK}") as websocket:
        await receive(websocket)
        book = (await get(address.base_url, "/fapi/v1/depth?symbol=BTCUSDT&limit=1000")).json()
        assert set(book) == {"lastUpdateId", "E", "T", "bids", "asks"}
        bids, known = dict(book["bids"]), book["lastUpdateId"]
        joined = 0
        while joined < 6:
            update = await receive(websocket)
            if update["u"] < known:
                continue
            follows = update["U"] <= known <= update["u"] or update["pu"] == known
            assert follows if not joined else update["pu"] == known
            known = update["u"]
            bids.update(update["b"])
            joined += 1
        later = (await get(address.base_url, "/fapi/v1/depth?symbol=BTCUSDT&limit=1000")).json()
        while known < later["lastUpdateId"]:
            update = await receive(websocket)
            if update["u"] >= later["lastUpdateId"]:
                break
            bids.update(update["b"])
            known = update["u"]
        kept = {price for price, quantity in bids.items() if Decimal(quantity)}
        assert len(kept ^ {price for price, _ in later["bids"]}) <= len(update["b"])


async def test_every_market_stream_speaks_within_seconds(
    serving: Serving, connect: Connect
) -> None:
    """Trades, marks and liquidations in 2026's shapes; COIN-M's are among everybody's."""
    root = (await serving(busy())).ws_url
    streams = [TRADES, MARK, "ethusdt@markPrice@1s", FORCED, "ethusdt@forceOrder", EVERYBODY]
    found: dict[str, Any] = {}
    with trio.fail_after(PATIENCE):
        while not set(streams) <= set(found):
            found |= await heard(connect, f"{root}/market/stream", streams, 1)
    trade, mark = found[TRADES][0], found[MARK][0]
    assert set(trade) == {"e", "E", "s", "a", "f", "l", "p", "q", "nq", "T", "m", "st"}
    assert list(mark) == ["e", "E", "s", "p", "P", "i", "r", "T", "st"]
    assert mark["E"] % 1_000 == 0
    assert mark["T"] % (8 * 3_600_000) == 0
    assert found["ethusdt@markPrice@1s"][0]["T"] % (4 * 3_600_000) == 0
    assert abs(Decimal(mark["p"]) / 60_000 - 1) < Decimal("0.01")
    assert abs(Decimal(mark["r"])) < Decimal("0.001")
    forced = found[FORCED][0]
    assert set(forced) == {"e", "E", "o", "st"}
    assert set(forced["o"]) == {"s", "S", "o", "f", "q", "p", "ap", "X", "l", "z", "T"}
    assert forced["o"]["s"] == "BTCUSDT"
    products = {(each["st"], each["o"]["s"]) for each in found[EVERYBODY]}
    assert products & {(2, "BTCUSD_PERP"), (2, "ETHUSD_PERP")}
    assert products & {(1, "BTCUSDT"), (1, "ETHUSDT")}


async def test_exchange_info_lists_more_than_perpetuals(serving: Serving) -> None:
    """A dated future and a COIN-M contract stand beside the perpetuals, and the budget."""
    base = (await serving(busy())).base_url
    info = (await get(base, "/fapi/v1/exchangeInfo")).json()
    rows = {each["symbol"]: each for each in info["symbols"]}
    assert {
        name: (each["contractType"], each["baseAsset"], each["quoteAsset"], each["marginAsset"])
        for name, each in rows.items()
    } == {
        "BTCUSDT": ("PERPETUAL", "BTC", "USDT", "USDT"),
        "ETHUSDT": ("PERPETUAL", "ETH", "USDT", "USDT"),
        "BTCUSDT_261225": ("CURRENT_QUARTER", "BTC", "USDT", "USDT"),
        "BTCUSD_PERP": ("PERPETUAL", "BTC", "USD", "BTC"),
    }
    assert info["rateLimits"][0]["limit"] == 2_400
    funding = (await get(base, "/fapi/v1/fundingInfo")).json()
    assert {each["symbol"]: each["fundingIntervalHours"] for each in funding} == {
        "GTCUSDT": 8, "ETHUSDT": 4,
    }  # fmt: skip


async def test_weight_adds_up_by_the_documented_table(serving: Serving) -> None:
    """Depth by its limit; ratios and funding weigh nothing; beyond 2400 there is no data."""
    exchange = busy()
    exchange.clock_ms = lambda: 1_000 * 60_000 + 50_000
    base = (await serving(exchange)).base_url
    spent = 0
    for path, weight in (
        ("ping", 1), ("exchangeInfo", 1), ("fundingInfo", 0), ("openInterest?symbol=BTCUSDT", 1),
        ("depth?symbol=BTCUSDT&limit=50", 2), ("depth?symbol=BTCUSDT&limit=100", 5),
        ("depth?symbol=BTCUSDT", 10), ("depth?symbol=BTCUSDT&limit=1000", 20),
    ):  # fmt: skip
        answer = await get(base, f"/fapi/v1/{path}")
        spent += weight
        assert (answer.status_code, answer.headers["X-MBX-USED-WEIGHT-1M"]) == (200, str(spent))
    exchange.spend(2_400 - spent)
    answer = await get(base, "/fapi/v1/ping")
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "10")
    ratio = "/futures/data/globalLongShortAccountRatio?symbol=BTCUSDT&period=5m"
    assert (await get(base, ratio)).status_code == 200
    exchange.spend(1_000, "ratios", 300)
    assert (await get(base, ratio)).status_code == 429


async def test_open_interest_and_ratios_are_of_the_exchange_s_clock(serving: Serving) -> None:
    """Rows at multiples of five minutes, oldest first, their shares adding up; and again alike."""
    exchange = busy()
    exchange.clock_ms = lambda: 1_700_000_123_456
    base = (await serving(exchange)).base_url
    interest = (await get(base, "/fapi/v1/openInterest?symbol=BTCUSDT")).json()
    assert set(interest) == {"openInterest", "symbol", "time"}
    assert interest["time"] == 1_700_000_123_000
    assert Decimal(interest["openInterest"]) > 1_000
    for name in ("topLongShortPositionRatio", "globalLongShortAccountRatio"):
        path = f"/futures/data/{name}?symbol=BTCUSDT&period=5m&limit=3"
        rows = (await get(base, path)).json()
        assert [row["timestamp"] for row in rows] == [
            1_699_999_500_000, 1_699_999_800_000, 1_700_000_100_000,
        ]  # fmt: skip
        for row in rows:
            longs, shorts = Decimal(row["longAccount"]), Decimal(row["shortAccount"])
            assert longs + shorts == 1
            assert abs(longs / shorts - Decimal(row["longShortRatio"])) < Decimal("0.0001")
        assert (await get(base, path)).json() == rows
        exchange.clock_ms = lambda: 1_700_000_400_000
        assert (await get(base, path)).json()[:2] == rows[1:]
        exchange.clock_ms = lambda: 1_700_000_123_456


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/fapi/v1/depth?symbol=BTCUSDT_261225", 400, -1121),
        ("/fapi/v1/depth", 400, -1102),
        ("/fapi/v1/depth?symbol=BTCUSDT&limit=400", 400, -4021),
        ("/fapi/v1/openInterest?symbol=NOSUCH", 400, -1121),
        ("/futures/data/globalLongShortAccountRatio?symbol=BTCUSDT&period=7m", 400, -1130),
        (
            "/futures/data/globalLongShortAccountRatio?symbol=BTCUSDT&period=5m&limit=501",
            400,
            -1130,
        ),
        ("/futures/data/topLongShortPositionRatio?symbol=NOSUCH&period=5m", 400, -1121),
        ("/fapi/v1/unknown", 404, -5000),
    ],
)
async def test_a_wrong_request_is_refused(
    serving: Serving, path: str, status: int, code: int
) -> None:
    """Errors have Binance's status and code."""
    answer = await get((await serving(busy())).base_url, path)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_faults_are_those_of_spot(
    serving: Serving, connect: Connect, receive: Receive
) -> None:
    """A shutdown is announced, a flawed trade looks like the last, late and failing REST work."""
    exchange = busy()
    address = await serving(exchange)
    async with connect(f"{address.ws_url}/market/ws/{TRADES}") as websocket:
        last = await receive(websocket)
        exchange.faults.server_shutdown()
        exchange.faults.garbage("text_price", symbol="BTCUSDT")
        exchange.faults.garbage("unknown_event")
        found = [await receive(websocket) for _ in range(3)]
        while not {"serverShutdown", "unheardOf"} <= {each["e"] for each in found}:
            found.append(await receive(websocket))
        flawed = [each for each in found if each.get("p") == "abc"]
        assert len(flawed) == 1
        assert flawed[0]["a"] >= last["a"]
    ratio = "/futures/data/topLongShortPositionRatio"
    exchange.faults.late(0.3, path=ratio)
    exchange.faults.fail(418, retry_after=3, path="/fapi/v1/depth")
    began = trio.current_time()
    late = await get(address.base_url, f"{ratio}?symbol=BTCUSDT&period=5m")
    assert late.status_code == 200
    assert trio.current_time() - began >= 0.3
    failed = await get(address.base_url, "/fapi/v1/depth?symbol=BTCUSDT")
    assert (failed.status_code, failed.headers["Retry-After"]) == (418, "3")
    with pytest.raises(ValueError, match="no checksums"):
        exchange.faults.bad_checksum()
