"""What can go wrong with OKX, beside what can go wrong with any exchange."""

from contextlib import suppress
from decimal import Decimal
from typing import Any

import loopback
import pytest
import trio
from patience import PATIENCE
from trio_websocket import ConnectionClosed

from marketprism.simulator import Exchange, market

from .conftest import Connect, Receive, Serving, hurried
from .okx_book import ClientBook
from .test_okx import PATH, arg, pushes, say

SYMBOL = "BTC-USDT"


def busy(**options: Any) -> Exchange:
    """A market in which much happens."""
    return hurried(market("okx_spot", seed=1, **options), 5)


async def test_an_upgrade_is_announced(
    serving: Serving, connect: Connect, receive: Receive
) -> None:
    """Notice 64008, on every connection; then its end: after a minute, or sooner if asked so."""
    exchange = busy()
    assert exchange.skin.notice_seconds == 60
    async with connect((await serving(exchange)).ws_url + PATH) as websocket:
        assert exchange.faults.server_shutdown(0.3) == 1
        notice = await receive(websocket)
        with pytest.raises(ConnectionClosed) as closed:
            await receive(websocket)
    assert (notice["event"], notice["code"]) == ("notice", "64008")
    assert closed.value.reason is not None
    assert closed.value.reason.code == 1001


async def test_maintenance_begins_the_ids_anew(
    serving: Serving, connect: Connect, receive: Receive
) -> None:
    """`seqId` falls below `prevSeqId`, which is still the last one; then the chain goes on."""
    exchange = busy(checksums=True)
    book = ClientBook()
    async with connect((await serving(exchange)).ws_url + PATH) as websocket:
        await say(websocket, "subscribe", arg("books", SYMBOL))
        found = await pushes(websocket, receive, lambda found: len(found["books"]) == 3)
        exchange.faults.renumber(SYMBOL)
        more = await pushes(websocket, receive, lambda found: len(found["books"]) == 8)
    messages = found["books"] + more["books"]
    for message in messages:
        book.take(message)
    ids = [(each["data"][0]["prevSeqId"], each["data"][0]["seqId"]) for each in messages]
    assert sum(last < previous for previous, last in ids) == 1


async def test_a_withheld_snapshot_can_be_had_over_rest(
    serving: Serving, connect: Connect, receive: Receive
) -> None:
    """The updates come; the book of REST joins them where `prevSeqId <= seqId < seqId`."""
    exchange = busy(checksums=True)
    address = await serving(exchange)
    exchange.faults.withhold(symbol=SYMBOL)
    book = ClientBook()
    async with connect(address.ws_url + PATH) as websocket, loopback.client() as client:
        await say(websocket, "subscribe", arg("books", SYMBOL))
        found = await pushes(websocket, receive, lambda found: len(found["books"]) == 2)
        assert [each["action"] for each in found["books"]] == ["update"] * 2
        url = f"{address.base_url}/api/v5/market/books?instId={SYMBOL}&sz=400"
        (whole,) = (await client.get(url)).json()["data"]
        for name in ("bids", "asks"):
            book.sides[name] = {Decimal(row[0]): (row[0], row[1]) for row in whole[name]}

        def enough(found: dict[str, Any]) -> bool:
            """However many had been on their way when the book was told."""
            past = [each for each in found["books"] if each["data"][0]["seqId"] > whole["seqId"]]
            return len(past) >= 4

        more = await pushes(websocket, receive, enough)
    joined = False
    for message in found["books"] + more["books"]:
        (data,) = message["data"]
        if not joined and data["prevSeqId"] <= whole["seqId"] < data["seqId"]:
            joined, book.last_id = True, data["prevSeqId"]
        if joined:
            book.take(message)
    assert book.checked >= 3


@pytest.mark.parametrize("checksums", [True, False])
async def test_a_checksum_can_be_wrong(
    serving: Serving, connect: Connect, receive: Receive, checksums: bool
) -> None:
    """Of one update; it is not zero, and the book is all the same the book."""
    exchange = busy(checksums=checksums)
    book, wrong = ClientBook(), 0
    async with connect((await serving(exchange)).ws_url + PATH) as websocket:
        await say(websocket, "subscribe", arg("books", SYMBOL))
        found = await pushes(websocket, receive, lambda found: bool(found["books"]))
        exchange.faults.bad_checksum(symbol=SYMBOL)
        messages = found["books"]
        with trio.fail_after(PATIENCE):
            while not wrong:
                for message in messages:
                    (data,) = message["data"]
                    told, data["checksum"] = data["checksum"], 0
                    book.take(message)
                    wrong += told not in (0, book.checksum())
                messages = [await receive(websocket)]
    assert wrong == 1


async def test_the_faults_of_any_exchange(
    serving: Serving, connect: Connect, receive: Receive
) -> None:
    """Skipped updates break the chain, a mute silences, flaws look like trades, a cut ends it."""
    exchange = busy()
    async with connect((await serving(exchange)).ws_url + PATH) as websocket:
        await say(websocket, "subscribe", arg("books", SYMBOL))
        await pushes(websocket, receive, lambda found: len(found["books"]) == 2)
        exchange.faults.skip(1, symbol=SYMBOL, kind="orderbook")
        exchange.faults.duplicate(1, symbol=SYMBOL, kind="orderbook")
        found = await pushes(websocket, receive, lambda found: len(found["books"]) == 5)
        ids = [(each["data"][0]["prevSeqId"], each["data"][0]["seqId"]) for each in found["books"]]
        assert len(set(ids)) == 4
        await say(websocket, "unsubscribe", arg("books", SYMBOL))
        await say(websocket, "subscribe", arg("trades", SYMBOL))
        await pushes(websocket, receive, lambda found: bool(found["trades"]))
        exchange.faults.garbage("negative_price", symbol=SYMBOL)
        exchange.faults.garbage("unknown_event", symbol=SYMBOL)
        found = await pushes(websocket, receive, lambda found: bool(found["unheard-of"]))
        assert [each for each in found["trades"] if each["data"][0]["px"] == "-1"]
        exchange.faults.mute(0.3, stream=f"trades:{SYMBOL}")
        with trio.move_on_after(0.2):
            while True:
                await websocket.get_message()
        exchange.faults.cut()
        with trio.fail_after(PATIENCE), suppress(ConnectionClosed):
            while True:
                await websocket.get_message()
        assert websocket.closed is not None
    with pytest.raises(ValueError, match="not listed"):
        exchange.faults.renumber("NO-SUCH")
