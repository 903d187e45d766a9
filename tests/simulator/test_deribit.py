"""Deribit over real sockets: JSON-RPC, heartbeats, the volatility indices."""

from typing import Any

import loopback
import msgspec
import pytest
import trio
from patience import PATIENCE
from trio_websocket import ConnectionClosed, WebSocketConnection

from marketprism.simulator import Exchange, market
from marketprism.simulator.deribit import DeribitDerivatives
from marketprism.simulator.figures import volatility
from marketprism.simulator.skin import Client

from .conftest import Connect, Handshake, Receive, Serving, hurried

PATH = "/ws/api/v2"
BTC, ETH = "deribit_volatility_index.btc_usd", "deribit_volatility_index.eth_usd"
DATA = "/api/v2/public/get_volatility_index_data"


def indices(seed: int = 3) -> Exchange:
    """Both indices."""
    return hurried(market("deribit_derivatives", seed=seed))


async def ask(
    websocket: WebSocketConnection, receive: Receive, method: str, **params: Any
) -> dict[str, Any]:
    """Send a request, and wait for its answer."""
    request = {"jsonrpc": "2.0", "id": 5, "method": method, "params": params}
    await websocket.send_message(msgspec.json.encode(request).decode())
    while "id" not in (answer := await receive(websocket)):
        pass
    return dict(answer)


async def test_both_indices_are_told_each_second(
    serving: Serving, connect: Connect, receive: Receive
) -> None:
    """The acknowledgement lists the channels; each notification is of the next second."""
    async with connect((await serving(indices())).ws_url + PATH) as websocket:
        answer = await ask(websocket, receive, "public/subscribe", channels=[BTC, ETH, "no.such"])
        assert answer["result"] == [BTC, ETH]
        assert {"jsonrpc", "usIn", "usOut", "usDiff", "testnet"} <= set(answer)
        found = [await receive(websocket) for _ in range(8)]
        assert {(each["method"], each["jsonrpc"]) for each in found} == {("subscription", "2.0")}
        assert {each["params"]["channel"] for each in found} == {BTC, ETH}
        data = [each["params"]["data"] for each in found if each["params"]["channel"] == BTC]
        first = data[0]["timestamp"]
        assert [each["timestamp"] - first for each in data] == [0, 1_000, 2_000, 3_000]
        for each in data:
            assert set(each) == {"timestamp", "volatility", "index_name"}
            assert each["volatility"] == volatility(3, "btc_usd", each["timestamp"] // 1_000)
            assert 40 < each["volatility"] < 60
        left = await ask(websocket, receive, "public/unsubscribe", channels=[BTC, ETH])
        assert left["result"] == [BTC, ETH]
        with trio.move_on_after(0.3) as waiting:
            await websocket.get_message()
        assert waiting.cancelled_caught


async def test_what_a_cut_hid_is_back_filled_exactly(
    serving: Serving, connect: Connect, receive: Receive
) -> None:
    """Rows of a second are the values that were or would have been told."""
    exchange = indices()
    address = await serving(exchange)
    told: dict[int, float] = {}
    async with connect(address.ws_url + PATH) as websocket, loopback.client() as client:
        await ask(websocket, receive, "public/subscribe", channels=[BTC])
        exchange.faults.skip(3, stream=BTC)
        while len(told) < 6:
            data = (await receive(websocket))["params"]["data"]
            told[data["timestamp"] // 1_000 * 1_000] = data["volatility"]
        start, end = min(told) - 3_000, max(told)
        query = f"?currency=BTC&start_timestamp={start}&end_timestamp={end}&resolution=1"
        body = (await client.get(address.base_url + DATA + query)).json()
        rows = {row[0]: row[1:] for row in body["result"]["data"]}
        assert list(rows) == list(range(start, end + 1, 1_000))
        assert told.items() <= {at: row[-1] for at, row in rows.items()}.items()
        assert all(len(set(row)) == 1 for row in rows.values())
        again = await ask(
            websocket,
            receive,
            "public/get_volatility_index_data",
            currency="BTC",
            start_timestamp=start,
            end_timestamp=end,
            resolution="1",
        )
        assert again["result"] == body["result"]


@pytest.mark.parametrize(("resolution", "seconds"), [("60", 60), ("3600", 3_600), ("1D", 86_400)])
async def test_longer_rows_sum_up_the_seconds(
    serving: Serving, resolution: str, seconds: int
) -> None:
    """Open, high, low, close; the last row is of what has been until now."""
    exchange = market("deribit_derivatives", seed=3)
    exchange.clock_ms = lambda: 1_700_000_010_500
    base = (await serving(exchange)).base_url
    start, step = 1_700_000_010_500 - 3 * seconds * 1_000, seconds * 1_000
    query = f"?currency=ETH&start_timestamp={start}&end_timestamp=1800000000000"
    async with loopback.client(base_url=base) as client:
        answer = await client.get(f"{DATA}{query}&resolution={resolution}")
    rows = answer.json()["result"]["data"]
    assert [row[0] for row in rows] == [
        1_700_000_010_500 // step * step - n * step for n in (2, 1, 0)
    ]
    for at, *told in rows:
        last = min(at // 1_000 + seconds - 1, 1_700_000_010)
        values = [volatility(3, "eth_usd", second) for second in range(at // 1_000, last + 1)]
        assert told == [values[0], max(values), min(values), values[-1]]


async def test_a_long_answer_is_continued(serving: Serving) -> None:
    """A thousand rows, the latest; `continuation` is where the next request ends."""
    exchange = market("deribit_derivatives", seed=3)
    exchange.clock_ms = lambda: 1_700_000_000_000
    base = (await serving(exchange)).base_url
    query = f"{DATA}?currency=BTC&resolution=1&start_timestamp=1699998500000&end_timestamp="
    async with loopback.client(base_url=base) as client:
        late = (await client.get(f"{query}1700000000000")).json()["result"]
        early = (await client.get(f"{query}{late['continuation']}")).json()["result"]
    assert early["continuation"] is None
    times = [row[0] for row in early["data"] + late["data"]]
    assert times == list(range(1_699_998_500_000, 1_700_000_000_001, 1_000))


async def test_a_heartbeat_must_be_answered(
    serving: Serving, connect: Connect, receive: Receive
) -> None:
    """Whoever answers `test_request` with `public/test` stays; whoever does not is closed."""
    exchange = market("deribit_derivatives")
    assert isinstance(exchange.skin, DeribitDerivatives)
    url = (await serving(exchange)).ws_url + PATH
    async with connect(url) as polite, connect(url) as rude:
        refused = await ask(polite, receive, "public/set_heartbeat", interval=9)
        assert refused["error"]["code"] == -32602
        exchange.skin.shortest_heartbeat = 0.2
        for websocket in (polite, rude):
            answer = await ask(websocket, receive, "public/set_heartbeat", interval=0.2)
            assert answer["result"] == "ok"
        beat = {"jsonrpc": "2.0", "method": "heartbeat", "params": {"type": "test_request"}}
        for _ in range(3):
            assert await receive(polite) == beat
            assert "version" in (await ask(polite, receive, "public/test"))["result"]
        assert await receive(rude) == beat
        with trio.fail_after(PATIENCE), pytest.raises(ConnectionClosed):
            await rude.get_message()
        assert (await ask(polite, receive, "public/disable_heartbeat"))["result"] == "ok"
        with trio.move_on_after(0.5) as waiting:
            await polite.get_message()
        assert waiting.cancelled_caught


@pytest.mark.parametrize(
    ("text", "code", "ident"),
    [
        ("{not json", -32700, None),
        ("[]", -32600, None),
        ('{"jsonrpc":"2.0","id":1}', -32600, 1),
        ('{"jsonrpc":"2.0","id":2,"method":"public/shout"}', -32601, 2),
        ('{"jsonrpc":"2.0","id":3,"method":"public/subscribe"}', -32602, 3),
        ('{"jsonrpc":"2.0","id":4,"method":"public/subscribe","params":[]}', -32600, None),
        ('{"jsonrpc":"2.0","id":5,"method":"public/set_heartbeat","params":{}}', -32602, 5),
    ],
)
def test_a_wrong_request_is_an_error(text: str, code: int, ident: int | None) -> None:
    """With JSON-RPC's code, and the id where there was one."""
    (answer,) = DeribitDerivatives().command(text, Client(symbols=("btc_usd",))).texts
    error = msgspec.json.decode(answer)
    assert error["error"]["code"] == code
    assert error["error"]["message"]
    assert error.get("id") == ident


async def test_wrong_requests_over_rest_are_refused(serving: Serving, handshake: Handshake) -> None:
    """Status 400 with the error of JSON-RPC; other paths have no websocket."""
    address = await serving(market("deribit_derivatives"))
    times = "start_timestamp=1&end_timestamp=2"
    async with loopback.client(base_url=address.base_url) as client:
        for path, code in (
            ("/api/v2/public/nothing", -32601),
            (f"{DATA}?currency=DOGE&resolution=60&{times}", -32602),
            (f"{DATA}?currency=BTC&resolution=61&{times}", -32602),
            (f"{DATA}?currency=BTC&resolution=60&start_timestamp=x&end_timestamp=2", -32602),
            (f"{DATA}?currency=BTC&resolution=60&start_timestamp=1", -32602),
        ):
            answer = await client.get(path)
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)
        assert "version" in (await client.get("/api/v2/public/test")).json()["result"]
    assert await handshake(address.ws_url + "/ws") == 404


async def test_faults_reach_the_indices(
    serving: Serving, connect: Connect, receive: Receive
) -> None:
    """Flawed values, late and failing REST, a cut; what it has not is refused."""
    exchange = indices()
    address = await serving(exchange)
    async with connect(address.ws_url + PATH) as websocket, loopback.client() as client:
        await ask(websocket, receive, "public/subscribe", channels=[BTC])
        await receive(websocket)
        exchange.faults.mute(30, stream=BTC)
        exchange.faults.garbage("text_price")
        assert (await receive(websocket))["params"]["data"]["volatility"] == "abc"
        exchange.faults.garbage("negative_price")
        assert (await receive(websocket))["params"]["data"]["volatility"] == -1
        exchange.faults.garbage("unknown_event")
        assert (await receive(websocket))["method"] == "unheard_of"
        exchange.faults.late(0.2, path=DATA)
        exchange.faults.fail(429, path="/api/v2/public/test")
        began = trio.current_time()
        await client.get(address.base_url + DATA)
        assert trio.current_time() - began >= 0.2
        failed = await client.get(f"{address.base_url}/api/v2/public/test")
        assert (failed.status_code, failed.json()["error"]["code"]) == (429, 10028)
        for fault in ("server_shutdown", "bad_checksum"):
            answer = await client.post(
                f"{address.base_url}/simulator/faults", json={"fault": fault}
            )
            assert answer.status_code == 400
        exchange.faults.cut()
        with trio.fail_after(PATIENCE), pytest.raises(ConnectionClosed):
            await websocket.get_message()
