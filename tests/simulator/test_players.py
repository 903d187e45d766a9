"""Recordings of futures, swaps and options, played over real sockets to clients' own books."""

import math
from collections import defaultdict
from decimal import Decimal
from pathlib import Path
from typing import Any

import loopback
import msgspec
import pytest
import trio
from patience import PATIENCE

from marketprism.simulator import market, player, record
from marketprism.simulator.capture import read, read_file
from marketprism.simulator.market import Market, Rules
from marketprism.simulator.okx_instruments import listing

from .conftest import Connect, Receive, Serving
from .okx_book import ClientBook
from .test_okx import PATH, arg, pushes, say

Books = dict[str, dict[str, dict[str, Any]]]


@pytest.fixture(params=["2021-04-17", "2021-07-22"])
def usdm_capture(captures: Path, request: pytest.FixtureRequest) -> Path:
    """Each recording of USD-M."""
    return captures / f"binance_usdm/capture_{request.param}_4sym.jsonl"


@pytest.fixture(params=["2021-07-22", "2022-05-13"])
def okx_capture(captures: Path, request: pytest.FixtureRequest) -> Path:
    """Each recording of OKX."""
    (found,) = (captures / "okx").glob(f"capture_{request.param}*")
    return found


async def test_futures_end_on_their_final_books(
    captures: Path, usdm_capture: Path, final_books: Books, serving: Serving, connect: Connect
) -> None:
    """Recorded on the old URL, played on the routes of today; joined by `U`, `u` and `pu`."""
    expected = final_books[usdm_capture.relative_to(captures).as_posix()]
    lines = [line.raw for line in read_file(usdm_capture) if line.kind == "recv"]
    streams = dict.fromkeys(msgspec.json.decode(raw)["stream"] for raw in lines)
    exchange = player(usdm_capture, venue="binance_derivatives", speed=math.inf, start_delay=0.3)
    address = await serving(exchange)
    heard: dict[str, list[str]] = {"public": [], "market": []}
    snapshots: dict[str, Any] = {}
    everything = "/".join(streams)

    async def listen(route: str) -> None:
        url = f"{address.ws_url}/{route}/stream?streams={everything}"
        async with connect(url) as websocket:
            with trio.move_on_after(20):
                while sum(map(len, heard.values())) < len(lines):
                    with trio.move_on_after(0.2):
                        heard[route].append(str(await websocket.get_message()))

    async def fetch(symbol: str) -> None:
        path = f"{address.base_url}/fapi/v1/depth?symbol={symbol}&limit=1000"
        async with loopback.client(timeout=PATIENCE) as client:
            snapshots[symbol] = (await client.get(path)).json()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen, "public")
        nursery.start_soon(listen, "market")
        for symbol in expected:
            nursery.start_soon(fetch, symbol)
    public = ("@depth@100ms", "@bookTicker")
    assert heard["public"] == [raw for raw in lines if public[0] in raw or public[1] in raw]
    assert heard["market"] == [raw for raw in lines if not (public[0] in raw or public[1] in raw)]
    for symbol, book in expected.items():
        bids, asks, known = client_book(snapshots[symbol], heard["public"], symbol)
        assert known == book["applied_through_u"]
        assert (len(bids), len(asks)) == (book["n_bids"], book["n_asks"])
        assert (bids[max(bids)], asks[min(asks)]) == (
            [book["best_bid"], book["best_bid_qty"]],
            [book["best_ask"], book["best_ask_qty"]],
        )


Side = dict[Decimal, list[str]]


def client_book(snapshot: Any, messages: list[str], symbol: str) -> tuple[Side, Side, int]:
    """The book which a client makes by the documented procedure, and its last id."""
    bids = {Decimal(level[0]): level for level in snapshot["bids"]}
    asks = {Decimal(level[0]): level for level in snapshot["asks"]}
    known, joined = snapshot["lastUpdateId"], False
    for raw in messages:
        message = msgspec.json.decode(raw)
        data = message["data"]
        if message["stream"] != f"{symbol.lower()}@depth@100ms" or data["u"] < known:
            continue
        follows = data["U"] <= known <= data["u"] or data["pu"] == known
        assert data["pu"] == known if joined else follows
        known, joined = data["u"], True
        for side, levels in ((bids, data["b"]), (asks, data["a"])):
            for level in levels:
                side[Decimal(level[0])] = level
    return _kept(bids), _kept(asks), known


def _kept(side: Side) -> Side:
    return {price: level for price, level in side.items() if Decimal(level[1])}


async def test_swaps_and_the_rest_end_on_their_final_books(
    captures: Path, okx_capture: Path, final_books: Books, serving: Serving, connect: Connect,
    receive: Receive,
) -> None:  # fmt: skip
    """Every message chains and has its recorded checksum; whoever comes late is told the book."""
    expected = final_books[okx_capture.relative_to(captures).as_posix()]
    exchange = player(okx_capture, venue="okx_derivatives", speed=math.inf, start_delay=0.1)
    address = await serving(exchange)
    books: defaultdict[str, ClientBook] = defaultdict(ClientBook)
    args = [arg("books", symbol) for symbol in expected]
    count = sum('"action"' in line.raw[:120] for line in read_file(okx_capture))
    async with connect(address.ws_url + PATH) as websocket:
        await say(websocket, "subscribe", *args)
        found = await pushes(websocket, receive, lambda found: len(found["books"]) == count)
        await exchange.finished.wait()
        for message in found["books"]:
            books[message["arg"]["instId"]].take(message)
        agree(books, expected, count)
    async with connect(address.ws_url + PATH) as late:
        again: defaultdict[str, ClientBook] = defaultdict(ClientBook)
        await say(late, "subscribe", *args)
        found = await pushes(late, receive, lambda found: len(found["books"]) == len(args))
        for message in found["books"]:
            again[message["arg"]["instId"]].take(message)
        agree(again, expected, len(args))
    async with loopback.client(base_url=address.base_url) as client:
        state = (await client.get("/simulator")).json()
        for symbol, book in books.items():
            path = f"/api/v5/market/books?instId={symbol}&sz=400"
            (whole,) = (await client.get(path)).json()["data"]
            assert whole["seqId"] == book.last_id
            assert [tuple(row[:2]) for row in whole["bids"]] == book.best("bids")
    assert "made up" in state["position"]["made_up"]


def agree(books: dict[str, ClientBook], expected: dict[str, dict[str, Any]], checked: int) -> None:
    """Whether these are the final books."""
    assert sum(book.checked for book in books.values()) == checked
    for symbol, book in expected.items():
        bids, asks = books[symbol].best("bids"), books[symbol].best("asks")
        assert (len(bids), len(asks)) == (book["n_bids"], book["n_asks"])
        assert (bids[0], asks[0]) == (tuple(book["best_bid"]), tuple(book["best_ask"]))
        assert books[symbol].checksum() == book["last_checksum"]


async def test_recorded_text_is_kept_but_for_the_ids(
    okx_capture: Path, serving: Serving, connect: Connect
) -> None:
    """Without the made-up chain, and by the name of its old channel, it is what was recorded."""
    lines = [line.raw for line in read_file(okx_capture) if '"data":[' in line.raw]
    exchange = player(okx_capture, venue="okx_spot", speed=math.inf, start_delay=0.1)
    address = await serving(exchange)
    args = [
        arg(channel, symbol)
        for symbol in exchange.symbols
        for channel in ("books", "trades", "tickers")
    ]
    heard: list[str] = []
    async with connect(address.ws_url + PATH) as websocket:
        await say(websocket, "subscribe", *args)
        with trio.fail_after(PATIENCE):
            while len(heard) < len(lines):
                text = str(await websocket.get_message())
                if '"data":[' in text:
                    heard.append(text)
    for told, recorded in zip(heard, lines, strict=True):
        kept, ids, _ = told.partition(',"seqId"')
        assert (kept + "}]}" if ids else kept) == recorded.replace("books-l2-tbt", "books")


async def test_deribit_s_channels_are_played(
    captures: Path, serving: Serving, connect: Connect, receive: Receive
) -> None:
    """Whatever was recorded, notification by notification; the index has no recording."""
    capture = captures / "deribit/capture_2021-07-22_book_ticker_options.jsonl"
    lines = [line.raw for line in read_file(capture) if '"method":"subscription"' in line.raw]
    channels = dict.fromkeys(msgspec.json.decode(raw)["params"]["channel"] for raw in lines)
    exchange = player(capture, venue="deribit_derivatives", speed=math.inf, start_delay=0.1)
    async with connect((await serving(exchange)).ws_url + "/ws/api/v2") as websocket:
        command = {
            "jsonrpc": "2.0", "id": 1, "method": "public/subscribe",
            "params": {"channels": list(channels)},
        }  # fmt: skip
        await websocket.send_message(msgspec.json.encode(command).decode())
        assert (await receive(websocket))["result"] == list(channels)
        with trio.fail_after(PATIENCE):
            assert [await websocket.get_message() for _ in lines] == lines


@pytest.mark.parametrize("venue", ["binance_derivatives", "okx_derivatives"])
async def test_a_recorded_market_can_be_played(venue: str, serving: Serving) -> None:
    """What was recorded of a seeded market plays back; over REST is its own book."""
    exchange = market(venue, seed=5)
    symbol = next(iter(exchange.symbols))
    rules = Rules(listing if "okx" in venue else Rules().listing, id_step=20)
    lines = record(Market(5, [symbol], rules=rules), 3, venue=venue)
    assert [line.kind for line in read(lines)].count("http") == 1
    played = player(lines, venue=venue, speed=math.inf, start_delay=0)
    played.last_subscription = 0.0
    base = (await serving(played)).base_url
    with trio.fail_after(PATIENCE):
        await played.finished.wait()
    twin = Market(5, [symbol], rules=rules)
    twin.step(1_700_000_000_000)
    twin.step(1_700_000_003_000)
    path = {
        "binance_derivatives": f"/fapi/v1/depth?symbol={symbol}&limit=1000",
        "okx_derivatives": f"/api/v5/market/books?instId={symbol}&sz=400",
    }[venue]
    async with loopback.client(base_url=base) as client:
        body = (await client.get(path)).json()
    last = twin.told(symbol).last_id
    assert last == (body["lastUpdateId"] if "lastUpdateId" in body else body["data"][0]["seqId"])
