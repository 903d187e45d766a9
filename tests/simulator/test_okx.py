"""OKX over real sockets: subscriptions, channels, manners."""

from collections import defaultdict
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec
import pytest
import trio
from patience import PATIENCE
from trio_websocket import ConnectionClosed, WebSocketConnection

from marketprism.simulator import Exchange, market

from .conftest import Connect, Handshake, Receive, Serving, hurried
from .okx_book import ClientBook

PATH = "/ws/v5/public"
SWAP, INVERSE = "BTC-USDT-SWAP", "BTC-USD-SWAP"


def swaps(**options: Any) -> Exchange:
    """A market of swaps in which much happens."""
    return hurried(market("okx_derivatives", seed=1, **options), 6)


def arg(channel: str, instrument: str) -> dict[str, str]:
    """The argument of a subscription."""
    return {"channel": channel, "instId": instrument}


async def say(websocket: WebSocketConnection, op: str, *args: object, **more: object) -> None:
    """Send a command."""
    await websocket.send_message(msgspec.json.encode({"op": op, "args": args, **more}).decode())


async def pushes(
    websocket: WebSocketConnection, receive: Receive, enough: Callable[[dict[str, Any]], bool]
) -> dict[str, list[Any]]:
    """By channel, the messages up to the moment when there are enough."""
    found: defaultdict[str, list[Any]] = defaultdict(list)
    with trio.fail_after(PATIENCE):
        while not enough(found):
            message = await receive(websocket)
            found[message.get("event") or message["arg"]["channel"]].append(message)
    return found


async def test_each_argument_is_acknowledged(
    serving: Serving, connect: Connect, receive: Receive
) -> None:
    """Echoed, with the connection's id and the command's; and so is the unsubscription."""
    exchange = market("okx_spot")
    args = [arg("books", "BTC-USDT"), arg("trades", "ETH-USDT")]
    async with connect((await serving(exchange)).ws_url + PATH) as websocket:
        await say(websocket, "subscribe", *args, id="77")
        found = await pushes(websocket, receive, lambda found: len(found["subscribe"]) == 2)
        assert [each["arg"] for each in found["subscribe"]] == args
        assert {each["id"] for each in found["subscribe"]} == {"77"}
        assert exchange.streams == {"books:BTC-USDT", "trades:ETH-USDT"}
        await say(websocket, "unsubscribe", *args)
        left = await pushes(websocket, receive, lambda found: len(found["unsubscribe"]) == 2)
        assert [each["arg"] for each in left["unsubscribe"]] == args
        connections = {each["connId"] for each in found["subscribe"] + left["unsubscribe"]}
        assert len(connections) == 1
        with trio.move_on_after(0.3) as waiting:
            await websocket.get_message()
        assert waiting.cancelled_caught


@pytest.mark.parametrize(
    "wrong",
    [
        arg("nonsense", "BTC-USDT-SWAP"),
        arg("books", "NO-SUCH"),
        {"channel": "liquidation-orders", "instType": "PETS"},
        {"channel": "books"},
        "books",
    ],
)
async def test_an_unknown_channel_or_instrument_is_an_error(
    serving: Serving, connect: Connect, receive: Receive, wrong: object
) -> None:
    """Code 60018 in the words of OKX; what stands beside it is subscribed all the same."""
    async with connect((await serving(swaps())).ws_url + PATH) as websocket:
        await say(websocket, "subscribe", wrong, arg("trades", SWAP))
        error, ack = await receive(websocket), await receive(websocket)
        assert (error["event"], error["code"]) == ("error", "60018")
        assert "doesn't exist" in error["msg"]
        assert error["connId"] == ack["connId"]
        assert ack["event"] == "subscribe"


@pytest.mark.parametrize(
    "text", ["{not json", "[]", '{"op":"subscribe"}', '{"op":"shout","args":[{}]}', "Ping"]
)
async def test_an_illegal_request_is_an_error(
    serving: Serving, connect: Connect, receive: Receive, text: str
) -> None:
    """Code 60012, and the connection lives on."""
    async with connect((await serving(swaps())).ws_url + PATH) as websocket:
        await websocket.send_message(text)
        assert (await receive(websocket))["code"] == "60012"
        await websocket.send_message("ping")
        assert await websocket.get_message() == "pong"


async def test_there_is_one_path(serving: Serving, handshake: Handshake) -> None:
    """The public one."""
    root = (await serving(swaps())).ws_url
    assert await handshake(root + PATH) == 101
    assert await handshake(root + "/ws") == 404


async def test_silence_ends_a_connection_and_ping_prevents_it(
    serving: Serving, connect: Connect
) -> None:
    """After the silence the close has OKX' code; whoever says `ping` in time is told `pong`."""
    exchange = swaps()
    exchange.skin.silence_seconds = 0.4
    url = (await serving(exchange)).ws_url + PATH
    async with connect(url) as quiet, connect(url) as polite:
        with trio.fail_after(PATIENCE):
            for _ in range(6):
                await trio.sleep(0.15)
                await polite.send_message("ping")
                assert await polite.get_message() == "pong"
            with pytest.raises(ConnectionClosed) as caught:
                await quiet.get_message()
        assert caught.value.reason is not None
        assert caught.value.reason.code == 4004


async def test_too_many_operations_are_refused(
    serving: Serving, connect: Connect, receive: Receive
) -> None:
    """Of a connection's allowance; pings are not counted."""
    exchange = market("okx_spot", trades_per_second=0, quotes_per_second=0)
    exchange.skin.most_commands = (2, 3_600.0)
    async with connect((await serving(exchange)).ws_url + PATH) as websocket:
        for _ in range(4):
            await websocket.send_message("ping")
            assert await websocket.get_message() == "pong"
        for _ in range(3):
            await say(websocket, "subscribe", arg("trades", "BTC-USDT"))
        events = [await receive(websocket) for _ in range(3)]
        assert [each["event"] for each in events] == ["subscribe", "subscribe", "error"]
        assert events[-1]["code"] == "60014"


@pytest.mark.parametrize("checksums", [True, False])
async def test_a_book_is_a_snapshot_and_a_chain_of_updates(
    serving: Serving, connect: Connect, receive: Receive, checksums: bool
) -> None:
    """Each update follows the one before, each 100 ms; checksums are 0, or right."""
    exchange = swaps(checksums=checksums)
    book = ClientBook()
    async with connect((await serving(exchange)).ws_url + PATH) as websocket:
        await trio.sleep(0.25)
        await say(websocket, "subscribe", arg("books", SWAP))
        found = await pushes(websocket, receive, lambda found: len(found["books"]) == 12)
    assert [each["action"] for each in found["books"]] == ["snapshot"] + ["update"] * 11
    for message in found["books"]:
        book.take(message)
    assert book.checked == (12 if checksums else 0)
    stamps = {int(each["data"][0]["ts"]) % 100 for each in found["books"][1:]}
    assert stamps == {0}
    assert 100 < len(book.best("bids")) <= 400
    assert Decimal(book.best("bids")[0][0]) < Decimal(book.best("asks")[0][0])
    data = found["books"][1]["data"][0]
    assert set(data) == {"asks", "bids", "ts", "checksum", "seqId", "prevSeqId"}
    assert data["seqId"] > data["prevSeqId"] + 1


async def test_whoever_subscribes_again_is_told_the_whole_book(
    serving: Serving, connect: Connect, receive: Receive
) -> None:
    """The renewed book goes on from its own snapshot."""
    book = ClientBook()
    async with connect((await serving(swaps(checksums=True))).ws_url + PATH) as websocket:
        for _ in range(2):
            await say(websocket, "subscribe", arg("books", SWAP))
            found = await pushes(websocket, receive, lambda found: len(found["books"]) >= 5)
            for message in found["books"]:
                book.take(message)
            assert found["books"][0]["action"] == "snapshot"
            await say(websocket, "unsubscribe", arg("books", SWAP))
            await pushes(websocket, receive, lambda found: bool(found["unsubscribe"]))


async def test_a_quiet_book_is_kept_alive(
    serving: Serving, connect: Connect, receive: Receive
) -> None:
    """Empty sides, and both ids the last one."""
    exchange = market("okx_spot", trades_per_second=0, quotes_per_second=0, keep_alive=0.3)
    async with connect((await serving(exchange)).ws_url + PATH) as websocket:
        await say(websocket, "subscribe", arg("books", "BTC-USDT"))
        found = await pushes(websocket, receive, lambda found: len(found["books"]) == 3)
    snapshot, *alive = [each["data"][0] for each in found["books"]]
    for data in alive:
        assert (data["bids"], data["asks"]) == ([], [])
        assert data["seqId"] == data["prevSeqId"] == snapshot["seqId"]


async def test_every_channel_speaks_within_seconds(
    serving: Serving, connect: Connect, receive: Receive
) -> None:
    """Trades, funding, open interest and liquidations, in the documented shapes."""
    args = [arg(name, SWAP) for name in ("trades", "funding-rate", "open-interest")]
    args += [arg("open-interest", INVERSE), {"channel": "liquidation-orders", "instType": "SWAP"}]
    async with connect((await serving(swaps())).ws_url + PATH) as websocket:
        await say(websocket, "subscribe", *args)
        found = await pushes(
            websocket,
            receive,
            lambda found: (
                len(found["liquidation-orders"]) > 2
                and bool(found["trades"])
                and len({each["arg"]["instId"] for each in found["open-interest"]}) == 2
            ),
        )
    (trade,) = found["trades"][0]["data"]
    assert set(trade) == {
        "instId", "tradeId", "px", "sz", "side", "ts", "count", "source", "seqId",
    }  # fmt: skip
    (funding,) = found["funding-rate"][0]["data"]
    assert int(funding["nextFundingTime"]) - int(funding["fundingTime"]) == 8 * 3_600_000
    assert funding["nextFundingRate"] == ""
    assert {"fundingRate", "premium", "ts", "instType"} <= set(funding)
    for message in found["open-interest"]:
        (data,) = message["data"]
        contracts, base = Decimal(data["oi"]), Decimal(data["oiCcy"])
        if data["instId"] == SWAP:
            assert base == contracts * Decimal("0.01")
        else:
            assert abs(base * 60_000 / (contracts * 100) - 1) < Decimal("0.01")
        assert int(data["ts"]) % 3_000 == 0
    for message in found["liquidation-orders"]:
        assert message["arg"] == {"channel": "liquidation-orders", "instType": "SWAP"}
        (data,) = message["data"]
        assert data["instId"] in {SWAP, INVERSE, "ETH-USDT-SWAP"}
        assert f"{data['instFamily']}-SWAP" == data["instId"]
        for detail in data["details"]:
            assert set(detail) == {"bkLoss", "bkPx", "ccy", "posSide", "side", "sz", "ts"}
            assert (detail["side"], detail["posSide"]) in {("sell", "long"), ("buy", "short")}


async def test_trade_ids_tell_how_many_trades_there_were(
    serving: Serving, connect: Connect, receive: Receive
) -> None:
    """Each id is the one before and the count: only all of one price and order are told."""
    async with connect((await serving(swaps())).ws_url + PATH) as websocket:
        await say(websocket, "subscribe", arg("trades", SWAP))
        found = await pushes(websocket, receive, lambda found: len(found["trades"]) == 20)
    trades = [each["data"][0] for each in found["trades"]]
    known = int(trades[0]["tradeId"])
    for trade in trades[1:]:
        known += int(trade["count"])
        assert int(trade["tradeId"]) == known


async def test_a_new_subscriber_is_told_the_latest(
    serving: Serving, connect: Connect, receive: Receive
) -> None:
    """Of trades, funding and open interest, before anything new happens."""
    exchange = hurried(market("okx_derivatives"))
    url = (await serving(exchange)).ws_url + PATH
    args = [arg(name, SWAP) for name in ("trades", "funding-rate", "open-interest")]
    async with connect(url) as one, connect(url) as other:
        await say(one, "subscribe", *args)
        await pushes(one, receive, lambda found: bool(found["open-interest"]))
        stopped = exchange.now_ms()
        exchange.clock_ms = lambda: stopped
        await say(other, "subscribe", *args)
        found = await pushes(other, receive, lambda found: bool(found["open-interest"]))
    assert set(found) == {"subscribe", "trades", "funding-rate", "open-interest"}
