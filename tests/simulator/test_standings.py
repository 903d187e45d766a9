"""Markets that rest, or that nobody knows for a while."""

import msgspec
import pytest
import trio
from trio.testing import MockClock

from marketprism.simulator import market
from marketprism.simulator.events import Update
from marketprism.simulator.market import Market, Rules
from marketprism.simulator.standings import Standings

from .conftest import Connect, Receive, Serving, get

START = 1_700_000_000_000
LISTS = {
    "binance_spot": ("/api/v3/exchangeInfo", "ETHUSDT", "BREAK"),
    "binance_derivatives": ("/fapi/v1/exchangeInfo", "ETHUSDT", "SETTLING"),
    "okx_spot": ("/api/v5/public/instruments?instType=SPOT", "ETH-USDT", "suspend"),
    "okx_derivatives": ("/api/v5/public/instruments?instType=SWAP", "ETH-USDT-SWAP", "suspend"),
}
"""Where each lists what it trades, a market of it, and its word for a halt."""


def test_in_a_market_that_rests_nothing_happens_and_it_goes_on_where_it_stood() -> None:
    """The others do not notice; the ids of its book chain over the rest."""
    live = Market(7, ("BTCUSDT", "ETHUSDT"), rules=Rules(perpetual=True))
    live.step(START)
    before = [each for each in live.step(START + 5_000) if each.symbol == "ETHUSDT"]
    resting = [
        event
        for elapsed in range(5_000, 65_000, 50)
        for event in live.step(START + elapsed, {"ETHUSDT"})
    ]
    assert {event.symbol for event in resting} == {"BTCUSDT"}
    after = [each for each in live.step(START + 70_000) if each.symbol == "ETHUSDT"]
    assert all(event.time > START + 64_900 for event in after)
    assert len(after) == pytest.approx(len(before), rel=0.5)
    last = [each for each in before if isinstance(each, Update)][-1]
    first = next(each for each in after if isinstance(each, Update))
    assert first.first_id == last.last_id + 1


async def test_a_standing_holds_for_as_long_as_it_was_asked_for(
    autojump_clock: MockClock,
) -> None:
    """Or for good; what only the list lacks is known, and does not rest."""
    standings = Standings(("A", "B", "C"))
    assert not standings.resting
    standings.halt("A", 5.0, "BREAK")
    standings.unlist("B", None, trading=False)
    standings.unlist("C", 9.0, trading=True)
    assert standings.status("A") == "BREAK"
    assert (standings.listed, standings.known, standings.resting) == (["A"], ["A", "C"], {"A", "B"})
    await trio.sleep(6)
    assert (standings.status("A"), standings.resting) == (None, {"B"})
    await trio.sleep(6)
    assert standings.listed == ["A", "C"]
    with pytest.raises(ValueError, match="no such market"):
        standings.halt("D", 1.0, "BREAK")


@pytest.mark.parametrize("venue", LISTS)
async def test_the_list_says_how_a_market_stands(venue: str, serving: Serving) -> None:
    """By the exchange's own word, or another that was asked for; or it lacks the market."""
    path, symbol, word = LISTS[venue]
    exchange = market(venue, seed=1)
    address = await serving(exchange)

    async def told() -> str | None:
        body = msgspec.json.decode((await get(address.base_url, path)).content)
        rows = body["symbols"] if "symbols" in body else body["data"]
        states = [
            row.get("status") or row.get("state")
            for row in rows
            if symbol in (row.get("symbol"), row.get("instId"))
        ]
        return str(states[0]) if states else None

    assert await told() in ("TRADING", "live")
    exchange.faults.halt(symbol)
    assert await told() == word
    exchange.faults.halt(symbol, None, "AUCTION")
    assert await told() == "AUCTION"
    exchange.faults.unlist(symbol)
    assert await told() is None


async def test_nobody_knows_what_is_not_listed(
    serving: Serving, connect: Connect, receive: Receive
) -> None:
    """Neither a subscription nor a request; afterwards all is as ever."""
    exchange = market("okx_spot", seed=1, trades_per_second=50)
    exchange.faults.unlist("ETH-USDT", 60.0)
    address = await serving(exchange)
    books = "/api/v5/market/books?sz=1&instId="
    command = {"op": "subscribe", "args": [{"channel": "trades", "instId": "ETH-USDT"}]}
    async with connect(address.ws_url + "/ws/v5/public") as websocket:
        await websocket.send_message(msgspec.json.encode(command).decode())
        assert (await receive(websocket))["code"] == "60018"
        assert (await get(address.base_url, f"{books}ETH-USDT")).json()["code"] == "51001"
        exchange.faults.unlist("ETH-USDT", 0.0)
        await websocket.send_message(msgspec.json.encode(command).decode())
        assert (await receive(websocket))["event"] == "subscribe"
        assert (await receive(websocket))["data"]
        assert (await get(address.base_url, f"{books}ETH-USDT")).json()["code"] == "0"


async def test_of_a_contract_that_is_settled_nothing_is_told(serving: Serving) -> None:
    """Its book and its open interest have an error of their own."""
    exchange = market("binance_derivatives", seed=1)
    exchange.faults.halt("ETHUSDT")
    address = await serving(exchange)
    for path in ("depth?symbol=ETHUSDT&limit=50", "openInterest?symbol=ETHUSDT"):
        answer = await get(address.base_url, f"/fapi/v1/{path}")
        assert (answer.status_code, answer.json()["code"]) == (400, -4108)
