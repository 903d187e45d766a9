"""What can be made to go wrong with REST, and how faults are asked for over HTTP."""

import math

import loopback
import pytest
import trio
from patience import PATIENCE
from trio_websocket import ConnectionClosed

from marketprism.simulator import Exchange, market, player, record
from marketprism.simulator.faults import FAULTS
from marketprism.simulator.market import Market

from .conftest import Connect, Receive, Serving

CAPTURE = record(Market(1, ["BTCUSDT"]), 3)
TRADES = "/ws/btcusdt@trade"
BOOK = "/ws/btcusdt@depth@100ms"


def busy() -> Exchange:
    """A market in which much happens."""
    return market("binance_spot", seed=1, trades_per_second=100, quotes_per_second=200)


async def test_a_late_answer_has_the_book_of_its_asking(serving: Serving) -> None:
    """It comes so much later, with an id which others have passed meanwhile; the next is prompt."""
    exchange = busy()
    address = await serving(exchange)
    path = address.base_url + "/api/v3/depth?symbol=BTCUSDT"
    exchange.faults.late(1.5, symbol="BTCUSDT")
    ids: dict[str, int] = {}
    async with loopback.client() as client, trio.open_nursery() as nursery:

        async def ask(name: str) -> None:
            ids[name] = (await client.get(path)).json()["lastUpdateId"]

        began = trio.current_time()
        nursery.start_soon(ask, "late")
        await trio.sleep(0.2)
        await ask("prompt")
        assert list(ids) == ["prompt"]
    assert trio.current_time() - began >= 1.5
    assert ids["late"] < ids["prompt"]


async def test_a_stale_answer_is_older_than_what_was_told_before_it(
    serving: Serving, connect: Connect, receive: Receive
) -> None:
    """Its id is below the first update a client has buffered; the next answer is fresh."""
    exchange = busy()
    address = await serving(exchange)
    path = address.base_url + "/api/v3/depth?symbol=BTCUSDT"
    await trio.sleep(0.2)
    async with connect(address.ws_url + BOOK) as websocket, loopback.client() as client:
        first = await receive(websocket)
        exchange.faults.stale()
        assert (await client.get(path)).json()["lastUpdateId"] < first["U"] - 1
        assert (await client.get(path)).json()["lastUpdateId"] >= first["u"]


@pytest.mark.parametrize("status", [500, 429, 418, 403, 451])
async def test_requests_fail_as_often_as_asked(serving: Serving, status: int) -> None:
    """The next two requests of the path have this status, then all is well."""
    exchange = busy()
    address = await serving(exchange)
    exchange.faults.fail(status, 2, retry_after=7, path="/api/v3/depth")
    async with loopback.client(base_url=address.base_url) as client:
        assert (await client.get("/api/v3/ping")).status_code == 200
        answers = [await client.get("/api/v3/depth?symbol=BTCUSDT") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [status, status, 200]
    assert answers[0].headers["Retry-After"] == "7"


async def test_faults_can_be_asked_for_over_http(serving: Serving, connect: Connect) -> None:
    """The same faults, by name and arguments, for whoever has only the address."""
    exchange = busy()
    address = await serving(exchange)
    async with (
        connect(address.ws_url + "/ws") as websocket,
        loopback.client(base_url=address.base_url) as client,
    ):
        url = "/simulator/faults"
        answer = await client.post(url, json={"fault": "cut", "connection": 1, "code": 4001})
        assert (answer.status_code, answer.json()) == (200, {"result": 1})
        with trio.fail_after(PATIENCE), pytest.raises(ConnectionClosed) as caught:
            await websocket.get_message()
        assert caught.value.reason is not None
        assert caught.value.reason.code == 4001
        asked = {"fault": "refuse", "seconds": 30, "status": 503}
        assert (await client.post(url, json=asked)).status_code == 200
        state = (await client.get("/simulator")).json()
        assert [each["fault"] for each in state["faults_done"]] == ["cut", "refuse"]
        assert state["faults_done"][0]["code"] == 4001


@pytest.mark.parametrize(
    "body",
    [
        b"not json",
        b"[]",
        b"{}",
        b'{"fault":"explode"}',
        b'{"fault":"_connections"}',
        b'{"fault":"refuse"}',
        b'{"fault":"refuse","seconds":"long"}',
        b'{"fault":"mute","seconds":1,"volume":2}',
        b'{"fault":"cut","connection":99}',
        b'{"fault":"garbage","flaw":"unheard"}',
    ],
)
async def test_a_wrong_fault_is_refused_with_a_reason(serving: Serving, body: bytes) -> None:
    """Nothing happens, and the answer says why."""
    exchange = busy()
    address = await serving(exchange)
    async with loopback.client(base_url=address.base_url) as client:
        answer = await client.post("/simulator/faults", content=body)
        assert answer.status_code == 400
        assert answer.json()["error"]
        assert (await client.get("/simulator/other")).status_code == 404
    assert exchange.faults.done == []


async def test_the_state_can_be_looked_at(serving: Serving, connect: Connect) -> None:
    """Connections with their streams, the position, and what faults there are."""
    exchange = player(CAPTURE, speed=math.inf, start_delay=0)
    address = await serving(exchange)
    async with (
        connect(address.ws_url + TRADES),
        loopback.client(base_url=address.base_url) as client,
    ):
        await exchange.finished.wait()
        state = (await client.get("/simulator")).json()
    assert state["venue"] == "binance_spot"
    assert state["finished"] is True
    assert state["position"]["line"] == state["position"]["lines"] == len(CAPTURE) - 1
    assert [each["streams"] for each in state["connections"]] == [["btcusdt@trade"]]
    assert set(state["faults"]) == set(FAULTS)


async def test_an_answer_may_be_of_a_time_to_come(serving: Serving) -> None:
    """That of the next request of a path."""
    exchange = market("binance_derivatives", seed=1)
    address = await serving(exchange)
    path = "/fapi/v1/openInterest"
    exchange.faults.ahead(3_600, path=path)
    async with loopback.client() as client:
        asked = [
            (await client.get(address.base_url + path + "?symbol=BTCUSDT")).json()["time"]
            for _ in range(2)
        ]
    assert 3_500_000 < asked[0] - asked[1] <= 3_600_000
